"""The loops' shared parts: the step, checkpoints, EMA, the best metric, atomic files, progress, logs."""
