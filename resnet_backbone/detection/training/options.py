"""Options of the trainer that can be refused before anything is built (docs/training.md)."""

from __future__ import annotations

from detectron2.config import CfgNode

from resnet_backbone.detection.data.truth import load_ground_truth
from resnet_backbone.engine.best import check_metric
from resnet_backbone.evaluation.coco import METRICS


def check_options(cfg: CfgNode) -> None:
    """Looks at what SOLVER.EMA, TEST.PRECISE_BN and TEST.BEST_METRIC ask for; data and classes are settled.

    Raises:
        ValueError: names the first key that cannot be, and the remedy.
    """
    solver, test = cfg.SOLVER, cfg.TEST
    if not 0 <= solver.EMA.DECAY < 1:
        raise ValueError(f"SOLVER.EMA.DECAY: {solver.EMA.DECAY:g} is not between 0 and 1; 0.9998 is usual")
    if test.PRECISE_BN.ENABLED and test.PRECISE_BN.NUM_ITER < 1:
        raise ValueError(f"TEST.PRECISE_BN.NUM_ITER: {test.PRECISE_BN.NUM_ITER}: at least 1; 200 is usual")
    if not test.BEST_METRIC:
        return
    if test.EVAL_PERIOD < 1:
        raise ValueError(
            f"TEST.BEST_METRIC: {test.BEST_METRIC!r}, but TEST.EVAL_PERIOD is {test.EVAL_PERIOD}: nothing is "
            "evaluated before the end; set TEST.EVAL_PERIOD to a number of iterations, or TEST.BEST_METRIC to ''"
        )
    if not cfg.DATASETS.TEST:
        raise ValueError(f"TEST.BEST_METRIC: {test.BEST_METRIC!r}, but DATASETS.TEST is empty: name a test set")
    names = metric_names(cfg)
    if not names:
        raise ValueError(
            f"TEST.BEST_METRIC: {test.BEST_METRIC!r}, but the test sets have no annotations to measure by; name a "
            "test set that has, or set TEST.BEST_METRIC to ''"
        )
    check_metric(test.BEST_METRIC, names, "TEST.BEST_METRIC")


def metric_names(cfg: CfgNode) -> list[str]:
    """All names that the evaluation of these test sets will give, as `testing.flat` writes them; reads the sets."""
    several = len(cfg.DATASETS.TEST) > 1
    names = []
    for dataset in cfg.DATASETS.TEST:
        truth = load_ground_truth(dataset)
        if not truth.annotated:
            continue
        masks = cfg.MODEL.MASK_ON and truth.has_masks
        coco = [*METRICS, *(f"AP-{name}" for name in truth.classes)]
        voc = ["AP50", "AP50-11pt", *(f"AP50-{name}" for name in truth.classes)]
        tasks = {"bbox": coco, "segm": coco if masks else [], "voc": voc, "voc-segm": voc if masks else []}
        front = f"{dataset}/" if several else ""
        names += [f"{front}{task}/{metric}" for task, metrics in tasks.items() for metric in metrics]
    return names
