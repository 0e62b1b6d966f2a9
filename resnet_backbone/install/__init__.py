"""Setting a machine up: Detectron2, wheels for one without network, the doctor. Standard library only."""
