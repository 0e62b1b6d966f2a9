"""Our networks inside Detectron2 and torchvision detectors. Importing this package registers nothing by itself."""
