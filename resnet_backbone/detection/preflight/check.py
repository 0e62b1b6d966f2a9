"""One look at everything before a run: versions, settings, weights, data, a step, room and time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, DatasetMapper
from detectron2.utils.events import EventStorage
from torch import nn

from resnet_backbone.detection.build import build_detector
from resnet_backbone.detection.data.faults import DataError
from resnet_backbone.detection.preflight.data import data_findings, sample_sheet
from resnet_backbone.detection.preflight.settings import norm_findings, schedule_findings
from resnet_backbone.detection.training.batches import Records, training_batches, training_records
from resnet_backbone.detection.training.checkpoint import read_run
from resnet_backbone.detection.training.loop import Loop
from resnet_backbone.detection.training.room import room_findings
from resnet_backbone.detection.training.settle import Prepared, RunOptions, settle
from resnet_backbone.engine.logs import set_up_logs
from resnet_backbone.engine.loop import LAST
from resnet_backbone.engine.preflight import Finding, Report, errors_into, memory, versions
from resnet_backbone.engine.progress import duration
from resnet_backbone.weights.load import find_network, load_weights

PACKAGES = ("torch", "torchvision", "detectron2", "pycocotools", "opencv-python", "numpy")
SHEET = "check.png"
STEPS = 3
"""The first warms up; the others are timed."""
ON_A_CPU = 2
"""Images of such a step on a CPU, which would take minutes for a GPU's batch."""
LISTED = 20
"""Faults of the data that are said one by one."""


def check(options: RunOptions, say: Callable[[str], None] = print) -> int:
    """Looks at everything and says what it finds; writes nothing but the sheet of samples.

    One process looks for all; `options` says how many there will be.

    Returns:
        0, or 1 where training should not start.
    """
    report = Report(say)
    report.heading("versions")
    report.add(versions(PACKAGES))
    report.heading("settings")
    with _errors_into(report):
        ready = settle(options)
        set_up_logs(None, quiet=True)  # what they would say is said here
        report.add(*(Finding("note", note) for note in ready.notes))
        if options.resume and (ready.output / LAST).exists():
            with _errors_into(report):
                report.add(*_going_on(ready, options))
        records = training_records(ready.cfg)
        report.add(*schedule_findings(ready.cfg, len(records)))
        _look(ready, options, records, report)
    say(report.verdict())
    return report.exit_code


def _look(ready: Prepared, options: RunOptions, records: Records, report: Report) -> None:
    cfg = ready.cfg
    share = cfg.SOLVER.IMS_PER_BATCH // options.processes
    report.heading("weights")
    torch.manual_seed(cfg.SEED)
    model = build_detector(cfg)
    find_network(model)
    with _errors_into(report):
        report.add(_weights(cfg, model))
    report.add(*norm_findings(model, share // cfg.SOLVER.ACCUMULATE, options.processes))
    report.heading("data")
    usable = False
    with _errors_into(report):
        report.add(*data_findings(cfg, records))
        report.add(sample_sheet(cfg, records, ready.output / SHEET))
        usable = True
    report.heading("room")
    report.add(*room_findings(cfg, model, ready.output, options.machines))
    if not usable:  # a damaged mask might hang the step
        return
    report.heading("a step")
    with _errors_into(report):
        report.add(*_steps(cfg, model, records, ready.output, share))
    with _errors_into(report):
        report.add(*_tested(cfg, model))


def _going_on(ready: Prepared, options: RunOptions) -> Iterator[Finding]:
    """What --resume would go on from, and with."""
    path = ready.output / LAST
    state, changed = read_run(path, ready.cfg, new_schedule=options.new_schedule)
    yield Finding("ok", f"{path} goes on after {state['iteration']} of {ready.cfg.SOLVER.MAX_ITER} iterations")
    for key, (old, new) in changed.items():
        yield Finding("note", f"from there on {key} {new} instead of {old}")


def _weights(cfg: CfgNode, model: nn.Module) -> Finding:
    if not cfg.MODEL.WEIGHTS:
        return Finding("warning", "MODEL.WEIGHTS is empty: everything starts random; name weights for a short run")
    said = str(load_weights(model, cfg.MODEL.WEIGHTS, fine_tune=True)).splitlines()
    return Finding("ok", "; ".join(line.strip() for line in said))


def _steps(cfg: CfgNode, model: nn.Module, records: Records, output: Path, share: int) -> Iterator[Finding]:
    """Real steps of the loop's own kind on real batches; the model is changed by them."""
    parts = cfg.SOLVER.ACCUMULATE
    taken = share if str(cfg.MODEL.DEVICE).startswith("cuda") else min(share, parts * math.ceil(ON_A_CPU / parts))
    alone = cfg.clone()
    alone.defrost()
    alone.SOLVER.IMS_PER_BATCH, alone.DATALOADER.NUM_WORKERS = taken, 0
    alone.freeze()
    loop = Loop(alone, model, records, output)
    model.train()
    losses: list[dict[str, float]] = []
    ends = []
    with EventStorage():
        for number, batch in enumerate(islice(training_batches(alone, records, cfg.SEED), STEPS)):
            losses.append(loop.step(model, batch, number))
            ends.append(time.monotonic())
    seconds = (ends[-1] - ends[0]) / (STEPS - 1) * share / taken  # reading the images included
    first = losses[0]
    text = f"loss {sum(first.values()):.3g} ({', '.join(f'{k} {v:.3g}' for k, v in first.items())})"
    classes = cfg.MODEL.ROI_HEADS.NUM_CLASSES + 1
    usual = f"; loss_cls of an untrained head is about ln {classes} = {math.log(classes):.2f}"
    # RetinaNet's loss of the same name is a focal one.
    yield Finding("ok", text + usual * (cfg.MODEL.META_ARCHITECTURE == "GeneralizedRCNN"))
    untouched = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    trained = [n for n, p in model.named_parameters() if p.requires_grad]
    if untouched:
        text = (
            f"{len(untouched)} of {len(trained)} trainable parameters get no gradient (first: {untouched[0]}); freeze "
        )
        yield Finding(
            "warning", text + "them or correct the model: processes that exchange gradients would wait for them"
        )
    else:
        yield Finding("ok", f"all {len(trained)} trainable parameter tensors get finite gradients")
    few = f" (looked at with {taken} images, of the {share} that a process gets)" if taken < share else ""
    yield Finding("ok", memory(cfg.MODEL.DEVICE) + few)
    whole = duration(seconds * cfg.SOLVER.MAX_ITER)
    text = f"{seconds:.2f} s a step: about {whole} for {cfg.SOLVER.MAX_ITER} iterations, without tests{few}"
    yield Finding("ok", text)


@torch.no_grad()
def _tested(cfg: CfgNode, model: nn.Module) -> list[Finding]:
    """One image through what would otherwise run for the first time after training."""
    image = next((record for name in cfg.DATASETS.TEST for record in DatasetCatalog.get(name)), None)
    if image is None:
        return []
    began = time.monotonic()
    inputs = [DatasetMapper(cfg, False)(image)]
    found = len(model.eval()(inputs)[0]["instances"])
    return [Finding("ok", f"a test image: {found} detections, {time.monotonic() - began:.2f} s")]


@contextmanager
def _errors_into(report: Report) -> Iterator[None]:
    """The engine's, with all faults of data one by one."""
    with errors_into(report):
        try:
            yield
        except DataError as error:
            report.add(*(Finding("error", fault) for fault in error.faults[:LISTED]))
            left = len(error.faults) - LISTED
            if left > 0:
                report.add(Finding("error", f"and {left} more faults of the data, not listed here"))
