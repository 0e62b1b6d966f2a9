"""A recipe and data to weights: the loop, its steps and checkpoints, and what a run leaves."""
