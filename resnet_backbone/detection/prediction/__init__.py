"""Trained detectors on images, folders and videos: `inputs` finds them, `predictor` detects, `results` writes."""
