"""How good detections are, and how they look: COCO's and PASCAL VOC's numbers, and pictures.

Plain arrays, dicts and images in; nothing here knows Detectron2 or training.
"""
