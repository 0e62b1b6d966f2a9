"""One run, from a config file to a trained, evaluated and illustrated detector."""

from __future__ import annotations

import logging
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.utils import comm
from torch import nn

from resnet_backbone.detection.build import build_detector
from resnet_backbone.detection.training.batches import training_records
from resnet_backbone.detection.training.checkpoint import BEST, FINAL, write_final
from resnet_backbone.detection.training.loop import Loop
from resnet_backbone.detection.training.room import room_findings
from resnet_backbone.detection.training.settle import Prepared, RunOptions, settle
from resnet_backbone.detection.training.testing import Numbers, flat, test, trained_classes
from resnet_backbone.engine import group
from resnet_backbone.engine.atomic import remove_unfinished, write_atomically
from resnet_backbone.engine.best import Best
from resnet_backbone.engine.journal import Journal
from resnet_backbone.engine.loop import LAST
from resnet_backbone.engine.resumed import check_resumed_together
from resnet_backbone.engine.room import refuse
from resnet_backbone.weights.load import find_network, load_weights

logger = logging.getLogger(__name__)


def run(options: RunOptions) -> dict[str, Numbers]:
    """Trains (unless `eval_only`) and tests; returns the numbers of every test set, in the first process.

    Raises:
        ValueError: whatever a user can mend: config, data, weights, device; one sentence each.
        WeightsError: weights that are not certainly right.
        Stopped: after Ctrl-C or SIGTERM, with the state saved.
        OSError: nothing can be written.
    """
    ready = settle(options)
    cfg, output = ready.cfg, ready.output
    logger.info("%s: everything goes to %s", options.config, output)
    for note in ready.notes:
        logger.info("%s", note)
    torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK
    torch.manual_seed(cfg.SEED)  # of the heads' first weights
    model = build_detector(cfg)
    find_network(model)  # a network that is not ours would be refused at the end, when its weights are written
    if not cfg.MODEL.WEIGHTS:
        logger.info("MODEL.WEIGHTS is empty: everything starts random")
    elif options.eval_only or not (options.resume and (output / LAST).exists()):
        logger.info("%s", load_weights(model, cfg.MODEL.WEIGHTS, fine_tune=not options.eval_only))
    if not options.eval_only:
        refuse(room_findings(cfg, model, output, group.machines()))
    if options.eval_only:
        results = test(cfg, model, output, model_classes=trained_classes(cfg.MODEL.WEIGHTS))
    else:
        results = _train(ready, options, model)
    if comm.is_main_process():
        if not options.eval_only:
            with Journal(output, cfg.SOLVER.MAX_ITER) as journal:
                journal.evaluated(cfg.SOLVER.MAX_ITER, flat(results))
        _say_expected(cfg, results)
        _say_where(options, output, results)
    return results


def _train(ready: Prepared, options: RunOptions, model: nn.Module) -> dict[str, Numbers]:
    """Trains, writes and tests what came out."""
    cfg, output = ready.cfg, ready.output
    records = training_records(cfg)

    def write(name: str, trained: nn.Module, *notes: str) -> None:
        if comm.is_main_process():
            write_final(output / name, trained, cfg, ready.record, options.config.name, notes)

    def keep(trained: nn.Module, best: Best) -> None:
        write(BEST, trained, f"best {best.metric}, {best.value:.2f}, after {best.iteration} iterations")

    loop = Loop(cfg, model, records, output, keep)
    if options.resume:
        loop.resume(new_schedule=options.new_schedule)
        check_resumed_together(loop.iteration, loop.output / LAST)
    elif comm.is_main_process():
        _clear(output)
    if comm.is_main_process():
        for name in (LAST, FINAL, BEST):
            remove_unfinished(output / name)
        write_atomically(output / "config.yaml", lambda file: file.write(cfg.dump().encode()))
    solver = cfg.SOLVER
    logger.info(
        "%d iterations of %d images%s, rate %g, %s; seed %d, on %s; %d training images%s",
        solver.MAX_ITER, solver.IMS_PER_BATCH, f" in {solver.ACCUMULATE} parts" if solver.ACCUMULATE > 1 else "",
        solver.BASE_LR, solver.OPTIMIZER, cfg.SEED, cfg.MODEL.DEVICE, len(records),
        "; the average of the weights (SOLVER.EMA) is tested and written" if solver.EMA.ENABLED else "",
    )  # fmt: skip
    loop.run(lambda trained: flat(test(cfg, trained, output, pictures=False)))
    with loop.tested() as trained:
        write(FINAL, trained)
        results = test(cfg, trained, output)
        loop.judge(trained, flat(results))
    if cfg.TEST.BEST_METRIC:
        loop.save()  # with the best value, which model_best.pth may have now
    return results


def _clear(output: Path) -> None:
    """Takes away what an earlier run left, now that this one can begin."""
    for name in (LAST, FINAL, BEST, "metrics.jsonl"):
        (output / name).unlink(missing_ok=True)
    for name in ("tensorboard", "pictures", "evaluation"):
        shutil.rmtree(output / name, ignore_errors=True)


def _say_expected(cfg: CfgNode, results: Mapping[str, Numbers]) -> None:
    """Holds the numbers against TEST.EXPECTED_RESULTS, Detectron2's [task, metric, value, tolerance]."""
    for task, metric, value, tolerance in cfg.TEST.EXPECTED_RESULTS:
        for name, tasks in results.items():
            found = tasks.get(task, {}).get(metric, float("nan"))
            if abs(found - value) <= tolerance:
                logger.info("%s: %s %s %.1f, as expected (%g +- %g)", name, task, metric, found, value, tolerance)
            else:
                logger.warning("%s: %s %s is %.1f, expected %g +- %g", name, task, metric, found, value, tolerance)


def _say_where(options: RunOptions, output: Path, results: Mapping[str, Numbers]) -> None:
    """The last lines: the figure that matters, where everything is, and what to try next."""
    for name, tasks in results.items():
        for task, numbers in tasks.items():
            ap = {k: v for k, v in numbers.items() if not k.startswith(("AP-", "AP50-"))}
            logger.info("%s, %s: %s", name, task, ", ".join(f"{k} {v:.1f}" for k, v in ap.items()))
    made: dict[str, Any] = {
        "weights with their record": output / FINAL,
        "weights of the best evaluation": output / BEST,
        "pictures": output / "pictures",
        "detections and numbers": output / "evaluation",
        "settled config": output / "config.yaml",
        "curves": f"{output / 'metrics.jsonl'}; tensorboard --logdir {output / 'tensorboard'}",
    }
    for what, place in made.items():
        if not isinstance(place, Path) or place.exists():
            logger.info("  %-30s %s", what, place)
    logger.info("next: python tools/predict.py --weights %s IMAGES", shlex.quote(str(output)))
