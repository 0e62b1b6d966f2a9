"""From any naming to any other, exactly; and what a file is, for people."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from resnet_backbone.engine.text import some
from resnet_backbone.models.build import build_network
from resnet_backbone.models.counting import count_multiply_adds, count_parameters
from resnet_backbone.weights.compare import options_of
from resnet_backbone.weights.errors import WeightsError
from resnet_backbone.weights.files import write_weights
from resnet_backbone.weights.load import Source, read_source
from resnet_backbone.weights.naming import from_ours
from resnet_backbone.weights.record import NAMINGS, WeightRecord


def convert(source: str | Path, output: str | Path, naming: str) -> WeightRecord:
    """Writes the tensors of `source` under the names of `naming`, bit for bit, with their record.

    Raises:
        WeightsError: an unknown naming, or one that has no name for a tensor of the file.
    """
    if naming not in NAMINGS:
        raise WeightsError(f"naming {naming!r}: use one of {', '.join(NAMINGS)}")
    read = read_source(source)
    record = replace(read.record, naming=naming)
    write_weights(output, from_ours(read.state, naming), record)
    return record


def show(source: str | Path) -> str:
    """Record, parameters and multiply-adds of weights, as lines for people."""
    read = read_source(source)
    record = read.record
    lines = [
        f"source        {record.source}",
        f"sha256        {record.sha256}",
        f"naming        {record.naming}{' (a whole detector)' if read.detector else ''}",
        f"record        {record.describe()}",
        f"tensors       {len(read.state)}, {sum(t.numel() for t in read.state.values()):,} numbers",
    ]
    if record.classes:
        lines.append(f"classes       {some(record.classes, 10)}")
    lines += [f"note          {note}" for note in record.notes]
    lines += [f"dropped       {key}: {why}" for key, why in read.dropped.items()]
    if not read.detector and record.variant is not None:
        lines += _counts(read, record.variant)
    return "\n".join(lines)


def _counts(read: Source, variant: str) -> list[str]:
    record = read.record
    size = 32 if variant.startswith("cifar") else record.input_size or 224
    if record.stride_in_1x1 is None:
        record = replace(record, stride_in_1x1=False)  # nobody knows: as most weights
    options = options_of(read.state, record)
    options["num_classes"] = options["num_classes"] or record.num_classes or 1000
    with torch.device("meta"):
        net = build_network(variant, **options)
    multiply_adds = count_multiply_adds(net, (size, size))
    return [f"network       {variant}: {count_parameters(net):,} parameters, {multiply_adds:,} multiply-adds at {size}"]
