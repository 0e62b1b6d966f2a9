"""Strict by construction: every tensor of the source is consumed or named, every one of the target filled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from resnet_backbone.models.network import Network
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

CLASSIFIERS = ("linear.", "fc6.", "fc7.", "fc8.")
# Where a detector keeps its own last layers: other classes, other shapes.
PREDICTORS = ("predictor", "cls_score", "bbox_pred", "cls_logits")


@dataclass(frozen=True)
class Source:
    """A file of weights, read and renamed.

    Attributes:
        state: tensors in our names; a detector's keep its prefixes.
        record: stated by the file, implied by the source, or assumed from the naming.
        dropped: key of the file: why it is not used.
        detector: whether it is a whole detector.
    """

    state: dict[str, torch.Tensor]
    record: WeightRecord
    dropped: dict[str, str]
    detector: bool


@dataclass(frozen=True)
class LoadReport:
    """What was loaded.

    Attributes:
        matched, total: tensors of the network filled, and all that it has (no `num_batches_tracked`).
        allowed: everything out of the ordinary that was let pass, a sentence each.
    """

    matched: int
    total: int
    record: WeightRecord
    allowed: tuple[str, ...]
    what: str = "backbone"

    def __str__(self) -> str:
        lines = [f"{self.matched} of {self.total} {self.what} tensors from {self.record.source}"]
        lines += [f"  {self.record.describe()}", *(f"  {line}" for line in self.allowed)]
        return "\n".join(lines)


def read_source(source: str | Path) -> Source:
    """Resolves, reads and renames weights from anywhere.

    Args:
        source: torchvision://, timm://, detectron2://, http(s):// or a path.

    Raises:
        WeightsError: see `resolve`, `read_weights` and `to_ours`.
    """
    resolved = resolve(source)
    file = read_weights(resolved.path)
    renamed = to_ours(file.state)
    state = renamed.state
    detector = any(key.startswith(("backbone.", "proposal_generator.", "roi_heads.")) for key in state)
    record = file.record or resolved.implied or _assumed(file, renamed.naming, state, str(source))
    if record.variant is None and not detector:
        record = replace(record, variant=facts_of(state).variant)
    return Source(state, replace(record, sha256=file.sha256), renamed.dropped, detector)


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
    notes = ["batch norms are affine only: mean 0, variance 1"] if facts.affine_only else []
    if naming == "resnet_backbone":
        notes.append("no record in the file: the input is guessed; `resnet-backbone weights verify` finds it out")
    return WeightRecord(
        naming=naming,
        source=source,
        variant=facts.variant,
        stride_in_1x1=(naming != "torchvision" and not fair) if bottleneck else None,
        channel_order="BGR" if caffe else "RGB",
        mean=CAFFE_MEAN if caffe else IMAGENET_MEAN,
        std=(FAIR_STD if fair else (1.0, 1.0, 1.0)) if caffe else IMAGENET_STD,
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
        WeightsError: a tensor missing, left over or of another shape, lost batch-norm statistics, or a network
            built otherwise than the record says (stride, shortcut, eps). `module` is unchanged then.
    """
    source = source if isinstance(source, Source) else read_source(source)
    name, network = find_network(module)
    allowed: list[str] = [f"{key}: {why}, dropped" for key, why in source.dropped.items()]
    allowed += [note for note in source.record.notes]
    if not source.detector:
        check_network(network, source.record)
    target = module.state_dict()
    state = source.state if source.detector and network is not module else _placed(source, module, name, network)
    state = _adapted(state, target, name, network, allowed)
    missing, unexpected, shapes = _compare(state, target)
    if fine_tune:
        missing, shapes = _allow_fresh(missing, shapes, state, source.detector, name, module, allowed)
    unexpected = _allow_leftovers(unexpected, name, network, allowed)
    if missing or unexpected or shapes:
        raise WeightsError(_failure(source, missing, unexpected, shapes, name, len(target)))
    filled = {key: value.to(target[key].dtype) for key, value in state.items() if key in target}
    module.load_state_dict({**target, **filled}, strict=True)
    counted = [k for k in network.state_dict() if not k.endswith("num_batches_tracked")]
    prefix = f"{name}." if name else ""
    matched = sum(prefix + key in filled for key in counted)
    what = "classifier" if network is module and network.config.num_classes else "backbone"
    return LoadReport(matched, len(counted), source.record, tuple(allowed), what)


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


def check_network(network: Network, record: WeightRecord) -> None:
    """Refuses a network that computes something else with the same tensors.

    Raises:
        WeightsError: stride, shortcut option or eps differ from the record's; names both and the remedy.
    """
    config, source = network.config, record.source
    said = "is assumed to mean" if record.assumed else "says"
    bottleneck = config.variant.block == "bottleneck"
    if bottleneck and record.stride_in_1x1 is not None and config.stride_in_1x1 != record.stride_in_1x1:
        raise WeightsError(
            f"{source}: its record {said} stride_in_1x1={record.stride_in_1x1}, the network was built with "
            f"{config.stride_in_1x1}: same tensors, another network. Build it with "
            f"stride_in_1x1={record.stride_in_1x1} (MODEL.RESNETS.STRIDE_IN_1X1)"
        )
    if record.shortcut is not None and config.variant.family != "vgg" and config.shortcut != record.shortcut:
        raise WeightsError(
            f"{source}: its record {said} shortcut option {record.shortcut}, the network was built with "
            f"{config.shortcut}; build it with shortcut={record.shortcut!r}"
        )
    if config.shortcut == "A" and config.pad_before != record.pad_before:
        raise WeightsError(
            f"{source}: its record {said} pad_before={record.pad_before} for option A, the network was built with "
            f"{config.pad_before}; build it with pad_before={record.pad_before}"
        )
    if config.norm in ("BN", "SyncBN", "FrozenBN") and abs(config.norm_eps - record.eps) > 1e-12:
        raise WeightsError(
            f"{source}: its record {said} eps {record.eps:g} in batch norm, the network was built with "
            f"{config.norm_eps:g}; build it with norm_eps={record.eps:g}"
        )


def _placed(source: Source, module: nn.Module, name: str, network: Network) -> dict[str, torch.Tensor]:
    """A backbone file's tensors under the names that they have inside `module`."""
    if source.detector:
        prefixes = ("backbone.bottom_up.", "backbone.")
        for prefix in prefixes:
            if any(key.startswith((f"{prefix}stem.", f"{prefix}conv1_1.")) for key in source.state):
                return {k.removeprefix(prefix): v for k, v in source.state.items() if k.startswith(prefix)}
        raise WeightsError(f"{source.record.source}: a detector without a backbone of the family")
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


def _adapted(
    state: dict[str, torch.Tensor],
    target: Mapping[str, torch.Tensor],
    name: str,
    network: Network,
    allowed: list[str],
) -> dict[str, torch.Tensor]:
    """Affine-only batch norms completed, and the first convolution fitted to the number of input channels."""
    state = dict(state)
    norms = {key.rsplit(".", 1)[0] for key in target if key.endswith("running_mean")}
    filled = [n for n in norms if f"{n}.weight" in state]
    if filled and not any(f"{n}.running_mean" in state or f"{n}.running_var" in state for n in filled):
        for n in filled:
            state[f"{n}.running_mean"] = torch.zeros_like(target[f"{n}.running_mean"])
            state[f"{n}.running_var"] = torch.ones_like(target[f"{n}.running_var"])
        allowed.append(f"{len(filled)} batch norms are affine only in the file: mean 0 and variance 1, by design")
    for key in target:
        if key.endswith("num_batches_tracked"):
            state.setdefault(key, target[key])
    first = (f"{name}." if name else "") + (
        "conv1_1.weight" if network.variant.family == "vgg" else "stem.conv1.weight"
    )
    channels = network.config.in_channels
    if first in state and first in target and state[first].shape[1] != channels and state[first].shape[1] == 3:
        state[first] = _fit_channels(state[first], channels)
        allowed.append(f"{first}: 3 input channels fitted to {channels} (summed for 1, else repeated and scaled)")
    return state


def _fit_channels(weight: torch.Tensor, channels: int) -> torch.Tensor:
    """As timm does: a grey image excites the filters as a grey colour image would."""
    weight = weight.float()
    if channels == 1:
        return weight.sum(dim=1, keepdim=True)
    repeats = -(-channels // 3)
    return weight.repeat(1, repeats, 1, 1)[:, :channels] * (3 / channels)


def _compare(
    state: Mapping[str, torch.Tensor], target: Mapping[str, torch.Tensor]
) -> tuple[list[str], list[str], list[str]]:
    """Keys missing in the source, keys unknown to the target, and keys whose shapes differ."""
    ignored = ("pixel_mean", "pixel_std")  # the configuration's, which the record has settled
    missing = [key for key in target if key not in state and key not in ignored]
    unexpected = [key for key in state if key not in target and key not in ignored]
    shapes = [key for key in state if key in target and state[key].shape != target[key].shape]
    return missing, unexpected, shapes


def _allow_fresh(
    missing: list[str],
    shapes: list[str],
    state: dict[str, torch.Tensor],
    detector: bool,
    name: str,
    module: nn.Module,
    allowed: list[str],
) -> tuple[list[str], list[str]]:
    """What fine-tuning may start anew: heads that a backbone file cannot have, last layers of other classes."""
    last = [k for k in shapes if any(p in k for p in PREDICTORS) or k.startswith(("linear.", "fc8."))]
    for key in last:
        del state[key]
    if last:
        allowed.append(f"started anew, as the file has another number of classes: {', '.join(sorted(last))}")
    if not detector and name:
        guarded = (f"{name}.", "roi_heads.res5.")
        heads = [key for key in missing if not key.startswith(guarded)]
        if heads:
            allowed.append(f"started anew, as the file is a backbone: {len(heads)} tensors of neck and heads")
        missing = [key for key in missing if key.startswith(guarded)]
    return missing, [key for key in shapes if key not in last]


def _allow_leftovers(unexpected: list[str], name: str, network: Network, allowed: list[str]) -> list[str]:
    """A classifier's last layers, and stages behind the last feature that was asked for."""
    prefix = f"{name}." if name else ""
    stages = network.variant.stage_names
    built = {stage for stage, _ in network.stages()}
    beyond = tuple(prefix + s + "." for s in stages if s not in built)
    if network.variant.family == "vgg":
        beyond = tuple(prefix + s + "_" for s in stages if s not in built)
    left = []
    dropped: dict[str, int] = {}
    for key in unexpected:
        part = key.removeprefix(prefix).split(".")[0]
        if key.removeprefix(prefix).startswith(CLASSIFIERS) and network.config.num_classes is None:
            dropped[f"{part} (the classifier's)"] = dropped.get(f"{part} (the classifier's)", 0) + 1
        elif beyond and key.startswith(beyond):
            dropped[part] = dropped.get(part, 0) + 1
        elif not key.endswith("num_batches_tracked"):
            left.append(key)
    allowed += [f"not needed: {count} tensors of {part}" for part, count in dropped.items()]
    return left


def _failure(
    source: Source, missing: list[str], unexpected: list[str], shapes: list[str], name: str, total: int
) -> str:
    """One readable line, then the keys by kind."""
    statistics = missing and all(key.endswith(("running_mean", "running_var")) for key in missing)
    heads = missing and name and not any(key.startswith(f"{name}.") for key in missing)
    if statistics:
        why = "batch-norm statistics are lost: the network would compute something else with every warning silent"
    elif heads and not unexpected and not shapes:
        why = "a backbone alone, and the detector's heads would stay random; evaluate a fine-tuned checkpoint"
    elif shapes and not missing and not unexpected:
        why = "tensors of another shape: another width, or another number of classes"
    else:
        why = f"another network than the one it is for (the file is {source.record.variant or 'unknown'})"
    lines = [
        f"{source.record.source}: {why}. {len(missing)} missing, {len(unexpected)} left over, {len(shapes)} misshapen"
    ]
    for title, keys in (("missing", missing), ("left over", unexpected), ("misshapen", shapes)):
        if keys:
            lines.append(f"{title}: {', '.join(keys[:8])}{' ...' if len(keys) > 8 else ''}")
    return "\n".join(lines)
