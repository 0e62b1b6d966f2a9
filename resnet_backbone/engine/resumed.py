"""Where a run goes on: the same place for all processes."""

from __future__ import annotations

import logging
from pathlib import Path

from resnet_backbone.engine import group

logger = logging.getLogger(__name__)


def check_resumed_together(iteration: int, last: Path) -> None:
    """All processes go on from the same iteration; with nothing to go on from yet, the run begins.

    So one command line, with --resume, serves a job's first start and every restart.

    Args:
        iteration: how many this process has found done.
        last: the checkpoint that all of them see.

    Raises:
        ValueError: they do not.
    """
    found = group.gather_all(iteration)
    if len(set(found)) > 1:
        other = next(rank for rank, one in enumerate(found) if one != found[0])
        raise ValueError(
            f"{last}: process 0 resumes after {found[0]} iterations, process {other} after {found[other]}; "
            "all machines have to see the same folder: --output DIR on a shared file system"
        )
    if iteration == 0:
        logger.info("nothing to resume in %s yet: from the beginning", last.parent)
