"""Every weights by every protocol, and all of them together: what `tools/eval_imagenet.py` prints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from resnet_backbone.classification.testing.answers import Answers
from resnet_backbone.classification.testing.images import LabelledImages, find_images
from resnet_backbone.classification.testing.protocols import SCALES, Protocol, protocol
from resnet_backbone.classification.testing.testing import check_protocol, load_classifier, run_protocol
from resnet_backbone.engine.device import find_device
from resnet_backbone.engine.room import disk, refuse
from resnet_backbone.models.network import Network
from resnet_backbone.weights.record import WeightRecord

SHOWN = 5
"""Confusions that are printed."""


@dataclass(frozen=True)
class EvalOptions:
    """What is tested and how; see the tool's help. Empty `scales`: the paper's."""

    weights: tuple[str, ...]
    data: str | Path
    protocols: tuple[str, ...] = ("1-crop",)
    scales: tuple[int, ...] = ()
    limit: int | None = None
    batch: int = 32
    workers: int = 0
    device: str = ""
    output: Path | None = None


def compare(options: EvalOptions, say: Callable[[str], None] = print) -> int:
    """Tests, prints a line for each, and writes the tables.

    Returns:
        0.

    Raises:
        ValueError: weights, images or options that cannot be used.
        OSError: a table cannot be written.
    """
    protocols = [protocol(name, options.scales or SCALES) for name in options.protocols]
    if options.scales and "multi-scale" not in options.protocols:
        raise ValueError(f"--scales {list(options.scales)}: for multi-scale alone; add it to --protocols")
    device = find_device(options.device, "--device")
    if options.batch < 1 or options.workers < 0:
        raise ValueError(f"--batch {options.batch}, --workers {options.workers}: at least 1 and 0")
    if options.output is not None:
        refuse([disk(options.output, 0)])
    images = find_images(options.data, options.limit)
    networks = [load_classifier(weights, images) for weights in options.weights]
    for weights, (network, _) in zip(options.weights, networks):
        for one in protocols:
            check_protocol(weights, network, one)
    say(f"{len(images):,} images of {images.class_count:,} classes, on {device}")
    names = _names(options.weights)
    width = max(len(name) for name in (*names, "all together"))
    say(f"{'weights':<{width}}  {'protocol':<11}  top-1 error  top-5 error")
    for one in protocols:
        rows = _tested(list(zip(names, networks)), images, one, device, options)
        for name, answers in rows:
            right = answers.accuracy()
            five = "" if right.top5_percent is None else f"{100 - right.top5_percent:>9.2f} %"
            say(f"{name:<{width}}  {one.name:<11}  {100 - right.top1_percent:>9.2f} %  {five}")
            if options.output is not None:
                answers.write_tables(options.output, f"{name}-{one.name}".replace(" ", "-"))
    pairs = ", ".join(f"{a} taken for {b} {n} times" for a, b, n in answers.confusions()[:SHOWN])
    say(f"most confused, {rows[-1][0]}, {one.name}: {pairs or 'none'}")
    if options.output is not None:
        say(f"errors by class, confusions and answers: {options.output}/*.csv")
    return 0


def _tested(
    networks: Sequence[tuple[str, tuple[Network, WeightRecord]]],
    images: LabelledImages,
    one: Protocol,
    device: torch.device,
    options: EvalOptions,
) -> list[tuple[str, Answers]]:
    """Each network's answers by a protocol, and those of their mean probabilities where there are several."""
    rows = []
    for name, (network, record) in networks:
        network.to(device)
        label = f"{name}, {one.name}"
        found = run_protocol(network, record, images, one, batch=options.batch, workers=options.workers, label=label)
        rows.append((name, found))
        network.to("cpu")
    if len(rows) > 1:
        mean = np.mean([answers.found for _, answers in rows], axis=0)
        rows.append(("all together", replace(rows[0][1], found=mean)))
    return rows


def _names(weights: tuple[str, ...]) -> list[str]:
    """Short and each once."""
    stems = [Path(w.rpartition("://")[2]).name.partition(".")[0] or w for w in weights]
    stems = [Path(w).parent.name if stem == "model" else stem for w, stem in zip(weights, stems)]
    return [stem if stems.count(stem) == 1 else f"{stem}-{k}" for k, stem in enumerate(stems, start=1)]
