"""The linear rule: a schedule written for one batch, scaled to the batch that is really used.

Goyal et al. 2017, "Accurate, Large Minibatch SGD"; numbers as Detectron2's `auto_scale_workers` gives them.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection

from detectron2.config import CfgNode

from resnet_backbone.detection.training.config import value_of

# Counted in iterations: longer when the batch is smaller.
ITERATIONS = ("MAX_ITER", "WARMUP_ITERS", "CHECKPOINT_PERIOD")


def scale_schedule(cfg: CfgNode, written_batch: int, given: Collection[str], processes: int) -> list[str]:
    """Brings rate and iterations to the batch in use, in place (`cfg` not frozen).

    The batch is SOLVER.IMS_PER_BATCH of the command line, else the config's; there
    SOLVER.REFERENCE_WORLD_SIZE (if not 0) says for how many processes it was written.

    Args:
        cfg: with the command line merged in.
        written_batch: SOLVER.IMS_PER_BATCH as the config file has it.
        given: keys of the command line; they stay as given.
        processes: how many train together.

    Returns:
        A line for the user for every decision taken; none where nothing changes.

    Raises:
        ValueError: a batch that the processes cannot share, or none to scale from.
    """
    solver = cfg.SOLVER
    if written_batch < 1:
        raise ValueError(
            f"SOLVER.IMS_PER_BATCH: {written_batch} in the config, which the schedule is scaled from; write there the "
            "batch that it is for, or give --no-scaling"
        )
    if "SOLVER.IMS_PER_BATCH" not in given and solver.REFERENCE_WORLD_SIZE:
        solver.IMS_PER_BATCH = round(written_batch * processes / solver.REFERENCE_WORLD_SIZE)
    solver.REFERENCE_WORLD_SIZE = 0
    check_batch(cfg, processes)
    scale = solver.IMS_PER_BATCH / written_batch
    if scale == 1:
        return []
    changed = []
    if "SOLVER.BASE_LR" not in given:
        solver.BASE_LR = solver.BASE_LR * scale
        changed.append("SOLVER.BASE_LR")
    for key in (*ITERATIONS, "STEPS"):
        if f"SOLVER.{key}" not in given:
            solver[key] = _stretched(solver[key], scale)
            changed.append(f"SOLVER.{key}")
    if "TEST.EVAL_PERIOD" not in given and cfg.TEST.EVAL_PERIOD:
        cfg.TEST.EVAL_PERIOD = _stretched(cfg.TEST.EVAL_PERIOD, scale)
        changed.append("TEST.EVAL_PERIOD")
    values = ", ".join(f"{key} {_shown(value_of(cfg, key))}" for key in changed)
    return [
        f"batch {solver.IMS_PER_BATCH} instead of {written_batch}: {values or 'nothing'} scaled by the linear rule "
        "(--no-scaling keeps them as written)"
    ]


def check_schedule(cfg: CfgNode) -> None:
    """There are iterations, and the rate changes between the first and the last.

    Raises:
        ValueError: SOLVER.MAX_ITER or SOLVER.STEPS says otherwise.
    """
    solver = cfg.SOLVER
    if solver.MAX_ITER < 1:
        raise ValueError(f"SOLVER.MAX_ITER: {solver.MAX_ITER}: at least 1; --eval-only tests without training")
    steps = list(solver.STEPS)
    whole = all(isinstance(step, int) and not isinstance(step, bool) for step in steps)
    if not whole or any(after <= before for before, after in itertools.pairwise([0, *steps])):
        raise ValueError(f"SOLVER.STEPS: {steps}: give iterations, whole numbers from 1 on, each above the one before")
    if solver.LR_SCHEDULER_NAME == "WarmupMultiStepLR" and solver.MAX_ITER in steps:
        raise ValueError(
            f"SOLVER.STEPS: {solver.MAX_ITER} is SOLVER.MAX_ITER, where nothing is left to train; take it out"
        )


def check_batch(cfg: CfgNode, processes: int) -> None:
    """Every process trains on the same number of images, at least one, in equal micro-batches.

    Raises:
        ValueError: SOLVER.IMS_PER_BATCH is no multiple of the number of processes times SOLVER.ACCUMULATE.
    """
    batch, parts = cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.ACCUMULATE
    if parts < 1:
        raise ValueError(f"SOLVER.ACCUMULATE: {parts}: at least 1, which does not split the batch")
    if parts > 1 and (batch < 1 or batch % (processes * parts)):
        raise ValueError(
            f"SOLVER.ACCUMULATE: a batch of {batch} on {processes} processes cannot be split into {parts} "
            f"micro-batches each; give SOLVER.IMS_PER_BATCH, the images of a whole step, as a multiple of "
            f"{processes * parts}"
        )
    if batch < 1 or batch % processes:
        raise ValueError(
            f"SOLVER.IMS_PER_BATCH: {batch} images cannot be shared by {processes} processes; "
            f"use a multiple of {processes}, as {max(batch // processes, 1) * processes}"
        )


def _stretched(value: int | tuple[int, ...], scale: float) -> int | tuple[int, ...]:
    if isinstance(value, (tuple, list)):
        return tuple(_stretched_one(v, scale) for v in value)
    return _stretched_one(value, scale)


def _stretched_one(value: int, scale: float) -> int:
    """0 and less mean "off": what is on stays so."""
    return max(1, round(value / scale)) if value > 0 else value


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
