"""Function-preserving growth: a trained network starts a deeper one that computes the very same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from resnet_backbone.engine.addresses import without_secrets
from resnet_backbone.models.build import build_network
from resnet_backbone.models.variants import Variant, find_variant
from resnet_backbone.weights.compare import options_of
from resnet_backbone.weights.errors import WeightsError
from resnet_backbone.weights.files import write_weights
from resnet_backbone.weights.load import Source, read_source
from resnet_backbone.weights.naming import STATISTICS
from resnet_backbone.weights.record import WeightRecord

State = dict[str, torch.Tensor]


def deepen(source: str | Path, output: str | Path, to: str, *, seed: int = 0) -> WeightRecord:
    """Writes the weights of `to` that compute what `source` computes: added blocks are the identity at first.

    An added block's last convolution is zero and its last norm the identity. A zero last norm would preserve the
    function too, but a detector freezes its norms: a frozen zero never receives a gradient.

    Args:
        to: a deeper variant of the same block and width, as "resnet101" for a ResNet-50.
        seed: of the added blocks' other convolutions (He initialisation).

    Raises:
        WeightsError: `to` is not deeper in every stage, or another kind of network.
    """
    read = read_source(source)
    small, large = _both(read, source, to)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = build_network(to, **options_of(read.state, read.record))
    grown = _grown(read.state, net.state_dict(), small, large, source)
    added = sum(large.depths) - sum(small.depths)
    note = f"grown from {small.name} by deepen: {added} identity blocks added, not trained as a {to}"
    name = Path(without_secrets(str(source))).name
    record = replace(
        read.record, naming="resnet_backbone", variant=to, source=f"{name}, deepened",
        notes=(*read.record.notes, note), num_classes=read.record.num_classes,
    )  # fmt: skip
    write_weights(output, grown, record)
    return record


def _both(read: Source, source: str | Path, to: str) -> tuple[Variant, Variant]:
    """The network that is there, and the one that it grows into."""
    if read.detector or read.record.variant is None:
        raise WeightsError(f"{source}: not a classifier or backbone of the family, which alone can be deepened")
    small, large = find_variant(read.record.variant), find_variant(to)
    same_kind = (small.family, small.block, small.groups, small.width_per_group, len(small.depths)) == (
        large.family, large.block, large.groups, large.width_per_group, len(large.depths),
    )  # fmt: skip
    if small.family == "vgg" or not same_kind or any(a > b for a, b in zip(small.depths, large.depths)):
        raise WeightsError(f"{source}: {small.name} does not grow into {to}: it needs the same blocks and more of them")
    shortcut = read.record.shortcut or small.shortcut
    if shortcut not in ("A", "B"):
        raise WeightsError(f"{source}: shortcut option {shortcut} has no identity blocks to add; options A and B have")
    return small, large


def _grown(old: State, fresh: State, small: Variant, large: Variant, source: str | Path) -> State:
    # Norms that are affine only stay so in every block.
    affine_only = not any(key.endswith("running_mean") for key in old)
    fresh = {key: value for key, value in fresh.items() if not (affine_only and key.endswith(STATISTICS))}
    missing = [key for key in fresh if key not in old and _is_old(key, small.depths)]
    missing = [key for key in missing if not key.endswith("num_batches_tracked")]
    if missing and "linear.weight" in old:
        raise WeightsError(f"{source}: incomplete; {missing[0]} is missing")
    # A file of one type stays one: the added tensors take the type of the old ones.
    dtype = old["stem.conv1.weight"].dtype
    last = "conv3.weight" if large.block == "bottleneck" else "conv2.weight"
    grown = dict(old)
    for key, value in fresh.items():
        if not _is_old(key, small.depths):
            value = torch.zeros_like(value) if key.endswith(f".{last}") else value
            grown[key] = value.to(dtype) if value.is_floating_point() else value
    return grown


def _is_old(key: str, depths: tuple[int, ...]) -> bool:
    """Whether a key of the large network exists in the small one."""
    stage, _, rest = key.partition(".")
    if not stage.startswith("res"):
        return True
    return int(rest.split(".")[0]) < depths[int(stage[3:]) - 2]
