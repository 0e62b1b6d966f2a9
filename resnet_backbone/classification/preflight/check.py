"""One look at everything before a pretraining run: versions, settings, data, norms, room, steps, loading and time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from resnet_backbone.classification.data.splits import Data, Streamed, Synthetic, open_data
from resnet_backbone.classification.preflight.data import both_sets_findings, count_findings, image_findings
from resnet_backbone.classification.preflight.folders import is_class_folders, layout_findings
from resnet_backbone.classification.preflight.settings import (
    folder_findings,
    length_findings,
    machine_findings,
    norm_findings,
)
from resnet_backbone.classification.preflight.sheet import sheet_finding
from resnet_backbone.classification.preflight.steps import evaluation_finding, loader_finding, looked_at, steps
from resnet_backbone.classification.recipe.config import TrainConfig
from resnet_backbone.classification.recipe.length import check_batch, length_of
from resnet_backbone.classification.training.classifier import build_classifier
from resnet_backbone.classification.training.output import begins
from resnet_backbone.classification.training.room import room_findings
from resnet_backbone.classification.training.train import make_network
from resnet_backbone.engine.device import find_device
from resnet_backbone.engine.logs import set_up_logs
from resnet_backbone.engine.preflight import Finding, Report, errors_into, versions
from resnet_backbone.models.network import Network

PACKAGES = ("torch", "torchvision", "pillow", "opencv-python", "numpy")
SHEET = "check.png"
CLASSES = 1000
"""Of a network whose data cannot be opened."""


@dataclass(frozen=True)
class Place:
    """Where a run would be, and of how many processes.

    Attributes:
        output: the run's folder; gets the sheet of images and nothing else.
        gpus: processes of a machine.
    """

    output: Path
    gpus: int = 1
    machines: int = 1
    resume: bool = False
    overwrite: bool = False

    @property
    def processes(self) -> int:
        """That train together."""
        return self.gpus * self.machines


def check(read: Callable[[], TrainConfig], place: Place, say: Callable[[str], None] = print) -> int:
    """Looks at everything and says what it finds. One process looks for all.

    Args:
        read: the recipe.

    Returns:
        0, or 1 where training should not start.
    """
    report = Report(say)
    report.heading("versions")
    report.add(versions(PACKAGES))
    report.heading("settings")
    with errors_into(report):
        config = read()
        set_up_logs(None, quiet=True)  # what they would say is said here
        _look(config, place, report)
    say(report.verdict())
    return report.exit_code


def _look(config: TrainConfig, place: Place, report: Report) -> None:
    device = torch.device("cpu")
    with errors_into(report):
        device = find_device(config.device)
    data, faults = _opened(config)
    network = _settings(config, place, data, device, report)
    # What is broken is said of the data; the rest is looked at all the same.
    tolerant = dataclasses.replace(config, broken_images=max(config.broken_images, len(data.train) if data else 0))
    report.heading("data")
    report.add(*faults)
    if data is not None:
        _data(config, data, report)
        if network is not None and not isinstance(data.train, Synthetic):
            with errors_into(report):
                report.add(sheet_finding(tolerant, data, network, place.output / SHEET))
    if network is None:
        return
    report.heading("norms")
    report.add(*norm_findings(network, config, place.processes))
    report.heading("room")
    report.add(*room_findings(config, network, place.output, place.machines))
    if data is not None:
        _steps(tolerant, place, data, network.to(device), device, report)


def _opened(config: TrainConfig) -> tuple[Data | None, list[Finding]]:
    """The data, or everything that is wrong with their layout."""
    root = Path(config.data)
    faults = list(layout_findings(root)) if config.data and is_class_folders(root) else []
    if any(fault.level == "error" for fault in faults):
        return None, faults
    try:
        return open_data(config.data, holdout=config.holdout, seed=config.seed), faults
    except (ValueError, OSError) as error:
        return None, [*faults, Finding("error", str(error))]


def _settings(
    config: TrainConfig, place: Place, data: Data | None, device: torch.device, report: Report
) -> Network | None:
    network = None
    with errors_into(report):
        count = len(data.classes) if data is not None else CLASSES
        load = begins(place.output, place.resume)
        network = build_classifier(config, count) if data is None else make_network(config, data, device, load=load)
        parameters = sum(p.numel() for p in network.parameters())
        text = f"{config.network}, {parameters:,} parameters, {count} classes, {config.precision} on {device}"
        report.add(Finding("ok", text))
    with errors_into(report):
        check_batch(config, len(data.train) if data else config.batch_size, place.processes)
    if data is not None:
        with errors_into(report):
            report.add(*length_findings(config, len(data.train), place.processes))
        with errors_into(report):
            how = {"resume": place.resume, "overwrite": place.overwrite}
            report.add(*folder_findings(config, place.output, data, place.processes, **how))
    report.add(*machine_findings(config, place.gpus, device))
    return network


def _data(config: TrainConfig, data: Data, report: Report) -> None:
    if isinstance(data.train, Synthetic):
        report.add(Finding("note", "data synthetic: a run measures its speed, and leaves no weights"))
        return
    if isinstance(data.train, Streamed):
        text = f"{data.name}: {len(data.train):,} images to train on, {len(data.val):,} to test on, in shards"
        report.add(Finding("note", f"{text}, of which the first images alone are looked at"))
        return
    for findings in (count_findings(data), image_findings(data, config), both_sets_findings(data)):
        with errors_into(report):
            for finding in findings:
                report.add(finding)


def _steps(
    config: TrainConfig, place: Place, data: Data, network: Network, device: torch.device, report: Report
) -> None:
    looked, speed = looked_at(config, place.processes, device), None
    report.heading("a step")
    with errors_into(report):
        total = length_of(config, len(data.train)).total
        found, speed = steps(looked, data, network, device, place.output, total)
        report.add(*found)
    if config.augmentation != "padded_crop" and not isinstance(data.train, Synthetic):
        with errors_into(report):
            report.add(loader_finding(data.train, config, place.gpus, speed, device))
    report.heading("a test")
    with errors_into(report):
        report.add(evaluation_finding(looked, data, network, device))
