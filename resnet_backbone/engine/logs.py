"""Where messages go: ours to the terminal, everything to the run's log file."""

from __future__ import annotations

import logging
import sys
import warnings
from pathlib import Path

OURS = ("resnet_backbone", "detectron2.resnet_backbone")


def set_up_logs(file: Path | None, *, quiet: bool = False) -> None:
    """Sends our messages to standard output, other libraries' warnings too, and all of it to `file`.

    Calling it again replaces what it set up before.

    Args:
        file: appended to; None for no file.
        quiet: nothing on the terminal (other processes than the first).
    """
    for name in ("resnet_backbone", "detectron2", "fvcore", "py.warnings"):
        logger = logging.getLogger(name)
        for handler in list(logger.handlers):
            logger.removeHandler(handler)
            handler.close()
        logger.setLevel(logging.INFO)
        if file is not None:
            to_file = logging.FileHandler(file, encoding="utf-8")
            to_file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
            logger.addHandler(to_file)
        if not quiet and name != "py.warnings":
            terminal = logging.StreamHandler(sys.stdout)
            terminal.setFormatter(logging.Formatter("%(message)s"))
            terminal.addFilter(_is_for_people)
            logger.addHandler(terminal)
    # Deprecations inside Detectron2 and torch are for the log; nobody can act on them.
    logging.captureWarnings(True)
    warnings.simplefilter("default")


def _is_for_people(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING or record.name.startswith(OURS)
