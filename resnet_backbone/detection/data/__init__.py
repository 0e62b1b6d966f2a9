"""Data sets: COCO JSON, VOC layout and Detectron2 catalog entries, read, checked and registered."""
