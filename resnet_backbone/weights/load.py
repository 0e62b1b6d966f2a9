"""Strict by construction: every tensor of the source is consumed or named, every one of the target filled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from resnet_backbone.engine.addresses import without_secrets
from resnet_backbone.engine.step import not_finite
from resnet_backbone.models.network import Network
from resnet_backbone.weights.compare import (
    FIRST,
    adapted,
    allow_fresh,
    allow_leftovers,
    check_network,
    check_transform,
    differences,
    failure,
)
from resnet_backbone.weights.errors import WeightsError
from resnet_backbone.weights.files import WeightsFile, read_weights
from resnet_backbone.weights.naming import facts_of, to_ours
from resnet_backbone.weights.record import WeightRecord
from resnet_backbone.weights.sources import (
    CAFFE_MEAN,
    FAIR_STD,
    IMAGENET_MEAN,
    IMAGENET_STD,
    implied_record,
    resolve,
)
from resnet_backbone.weights.torchvision_detectors import BODY, ZERO_EPS, split_body

AFFINE_ONLY = "batch norms are affine only: mean 0, variance 1"
GUESSED = "no record in the file: the input is guessed; `resnet-backbone weights verify` finds it out"


@dataclass(frozen=True)
class Source:
    """A file of weights, read and renamed.

    Attributes:
        state: tensors in our names; a detector's keep its prefixes.
        record: stated by the file, implied by the source, or assumed from the naming.
        dropped: key of the file: why it is not used.
        detector: whether it is a whole detector.
        of_run: the state of a run, whose config knows what the record only assumes.
        name: what was asked for.
    """

    state: dict[str, torch.Tensor]
    record: WeightRecord
    dropped: dict[str, str]
    detector: bool
    of_run: bool = False
    name: str = ""

    @property
    def named(self) -> WeightRecord:
        """The record for sentences, which name what was asked for and not what it was made by."""
        return replace(self.record, source=self.name or self.record.source)

    @property
    def for_torchvision(self) -> bool:
        """Whether it is a detector of torchvision's kind: theirs, or ours of `torchvision_detector`."""
        return any(key.startswith(BODY) for key in self.state)

    def in_rgb(self) -> Source:
        """The same network for RGB pixels: BGR weights with the first convolution's input channels turned round.

        Exact: a convolution sums over its input channels, in whatever order they come.
        """
        if self.record.channel_order == "RGB":
            return self
        state = {k: v.flip(1) if k.removeprefix(BODY) in FIRST else v for k, v in self.state.items()}
        state |= {k: v.flip(0) for k, v in self.state.items() if k.removeprefix(BODY) == "mean_image"}
        note = "made for BGR; input channels of the first convolution, mean and std turned round for RGB"
        record = replace(
            self.record,
            channel_order="RGB",
            mean=self.record.mean[::-1],
            std=self.record.std[::-1],
            notes=(*self.record.notes, note),
        )
        return replace(self, state=state, record=record)


@dataclass(frozen=True)
class LoadReport:
    """What was loaded.

    Attributes:
        matched, total: tensors of the network filled, and all that it has (no `num_batches_tracked`).
        allowed: everything out of the ordinary that was let pass, a sentence each.
        name: what was asked for.
    """

    matched: int
    total: int
    record: WeightRecord
    allowed: tuple[str, ...]
    what: str = "backbone"
    name: str = ""

    def __str__(self) -> str:
        made = f" ({self.record.source})" if self.name not in ("", self.record.source) else ""
        lines = [f"{self.matched} of {self.total} {self.what} tensors from {self.name or self.record.source}{made}"]
        lines += [f"  {self.record.describe()}", *(f"  {line}" for line in self.allowed)]
        return "\n".join(lines)


def read_source(source: str | Path, *, of_run: bool = False) -> Source:
    """Resolves, reads and renames weights from anywhere.

    Args:
        source: torchvision://, timm://, detectron2://, http(s):// or a path.
        of_run: takes the state of a run too; see `read_weights`.

    Raises:
        WeightsError: see `resolve`, `read_weights` and `to_ours`.
    """
    resolved = resolve(source)
    file = read_weights(resolved.path, of_run=of_run)
    renamed = to_ours(file.state)
    state = renamed.state
    detector = any(key.startswith(("backbone.", "proposal_generator.", "roi_heads.")) for key in state)
    body = split_body(state)[0] or state
    name = without_secrets(str(source))
    record = file.record or resolved.implied or _assumed(file, renamed.naming, body, name)
    if record.variant is None and not detector:
        record = replace(record, variant=facts_of(state).variant)
    return Source(state, replace(record, sha256=file.sha256), renamed.dropped, detector, file.of_run, name)


def read_record(source: str | Path) -> WeightRecord:
    """The record of weights; downloads nothing where the source itself implies it."""
    return implied_record(source) or read_source(source).record


def _assumed(file: WeightsFile, naming: str, state: Mapping[str, torch.Tensor], source: str) -> WeightRecord:
    """What weights of a naming usually expect; marked as the assumption that it is."""
    facts = facts_of(state)
    bottleneck = "res2.0.conv3.weight" in state
    caffe = naming in ("caffe2", "detectron2")
    # FAIR's ResNeXt are the Caffe2 networks that were trained with a deviation, and with the stride in the 3x3.
    fair = caffe and (facts.variant or "").startswith("resnext")
    zero_eps = file.sha256.startswith(ZERO_EPS)
    notes = [AFFINE_ONLY] if facts.affine_only else []
    notes += ["torchvision's COCO_V1 detectors have eps 0 in batch norm"] if zero_eps else []
    if naming == "resnet_backbone":
        notes.append(GUESSED)
    return WeightRecord(
        naming=naming,
        source=source,
        variant=facts.variant,
        stride_in_1x1=(naming != "torchvision" and not fair) if bottleneck else None,
        channel_order="BGR" if caffe else "RGB",
        mean=CAFFE_MEAN if caffe else IMAGENET_MEAN,
        std=(FAIR_STD if fair else (1.0, 1.0, 1.0)) if caffe else IMAGENET_STD,
        eps=0.0 if zero_eps else 1e-5,
        input_size=32 if naming == "cifar" else 224,
        resize=None if naming == "cifar" else 256,
        shortcut=facts.shortcut or ("A" if naming == "cifar" else None),
        # The CIFAR checkpoints in circulation under these names pad half before and half after.
        pad_before=naming == "cifar",
        num_classes=facts.num_classes,
        notes=tuple(notes),
        assumed=True,
    )


def load_weights(module: nn.Module, source: str | Path | Source, *, fine_tune: bool = False) -> LoadReport:
    """Loads weights into a network of ours, or into a detector around one; all of it, or not at all.

    Args:
        module: a classifier or backbone of `build`, or a Detectron2 or torchvision detector with our backbone.
        source: what MODEL.WEIGHTS takes, or an already read source.
        fine_tune: lets a detector's heads stay fresh where the file is a backbone, and last layers where the
            file has another number of classes. Never use it to evaluate.

    Raises:
        WeightsError: a tensor missing, left over, of another shape or without numbers, lost batch-norm statistics, or
            a network built otherwise than the record says (stride, shortcut, eps, the input of a torchvision
            detector). `module` is unchanged then.
    """
    source = source if isinstance(source, Source) else read_source(source)
    name, network = find_network(module)
    allowed: list[str] = [f"{key}: {why}, dropped" for key, why in source.dropped.items()]
    allowed += [note for note in source.record.notes]
    # Detectron2's detectors say in their config what a record says of a backbone.
    if not source.detector or (source.for_torchvision and GUESSED not in source.record.notes):
        check_network(network, source.named)
        check_transform(module, source.named)
    target = module.state_dict()
    state = source.state if source.detector and network is not module else _placed(source, module, name, network)
    state = adapted(state, target, name, network, allowed)
    missing, unexpected, shapes = differences(state, target)
    if fine_tune:
        missing, shapes = allow_fresh(missing, shapes, state, source.detector, name, module, allowed)
    unexpected = allow_leftovers(unexpected, name, network, allowed)
    if missing or unexpected or shapes:
        raise WeightsError(failure(source.named, missing, unexpected, shapes, name, len(target)))
    filled = {key: value.to(target[key].dtype) for key, value in state.items() if key in target}
    wrong = not_finite(filled.items())
    if wrong:
        more = f" and {len(wrong) - 1} more tensors" if len(wrong) > 1 else ""
        raise WeightsError(
            f"{source.named.source}: {wrong[0]}{more} hold no numbers (NaN, infinity); get the file again"
        )
    module.load_state_dict({**target, **filled}, strict=True)
    counted = [k for k in network.state_dict() if not k.endswith("num_batches_tracked")]
    prefix = f"{name}." if name else ""
    matched = sum(prefix + key in filled for key in counted)
    what = "classifier" if network is module and network.config.num_classes else "backbone"
    return LoadReport(matched, len(counted), source.record, tuple(allowed), what, source.name)


def find_network(module: nn.Module) -> tuple[str, Network]:
    """The network of ours inside `module`, and its name there ("" for itself).

    Raises:
        WeightsError: there is none, or several.
    """
    found = [(name, part) for name, part in module.named_modules() if isinstance(part, Network)]
    if len(found) != 1:
        raise WeightsError(
            f"{type(module).__name__} holds {len(found)} networks of resnet_backbone, not one: "
            "choose MODEL.BACKBONE.NAME build_residual_..., or load the part itself"
        )
    return found[0]


def _placed(source: Source, module: nn.Module, name: str, network: Network) -> dict[str, torch.Tensor]:
    """A backbone file's tensors under the names that they have inside `module`."""
    if source.detector:
        prefixes = ("backbone.bottom_up.", BODY, "backbone.")
        for prefix in prefixes:
            if any(key.startswith((f"{prefix}stem.", f"{prefix}conv1_1.")) for key in source.state):
                return {k.removeprefix(prefix): v for k, v in source.state.items() if k.startswith(prefix)}
        raise WeightsError(f"{source.named.source}: a detector without a backbone of the family")
    prefix = f"{name}." if name else ""
    target = module.state_dict()
    placed = {}
    for key, value in source.state.items():
        other = None
        if prefix and prefix + key not in target:
            # A C4 head runs res5 on each region; VGG's fc6 and fc7 are the box head's two layers.
            other = {"fc6": "box_head.fc1", "fc7": "box_head.fc2"}.get(key.split(".")[0], key.split(".")[0])
            other = f"roi_heads.{other}.{key.split('.', 1)[1]}"
        placed[other if other in target else prefix + key] = value
    return placed
