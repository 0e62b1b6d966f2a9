"""The loops' shared parts: step, checkpoints, EMA, best metric, journal, processes, atomic files, progress, logs."""
