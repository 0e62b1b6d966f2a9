"""The loops' shared parts: atomic files, progress, logs."""
