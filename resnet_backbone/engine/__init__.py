"""The loops' shared parts: the step, checkpoints, EMA, the best metric, the journal, processes, atomic files, progress, logs."""
