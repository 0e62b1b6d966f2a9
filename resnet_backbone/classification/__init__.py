"""Trains classifiers on folders of images, and leaves weights with the record that a detector needs.

`config` holds a recipe, `data` the images, `train` the loop, `evaluate` the counting, `batch_norm` the exact
statistics that frozen batch norms stand on later. Nothing here knows Detectron2.
"""
