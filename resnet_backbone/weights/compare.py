"""Source beside network: does the record agree, what is adapted, what may be let pass, and why the rest is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from resnet_backbone.models.network import Network
from resnet_backbone.models.variants import Variant, find_variant
from resnet_backbone.weights.errors import WeightsError
from resnet_backbone.weights.naming import facts_of
from resnet_backbone.weights.record import WeightRecord

CLASSIFIERS = ("linear.", "fc6.", "fc7.", "fc8.")
# Where a detector keeps its own last layers: other classes, other shapes.
PREDICTORS = ("predictor", "cls_score", "bbox_pred", "cls_logits")
# Where the first convolution stands under our names, the only one that sees colours.
FIRST = ("stem.conv1.weight", "conv1_1.weight")


def settled_options(variant: Variant, record: WeightRecord, options: Mapping[str, Any]) -> dict[str, Any]:
    """`options` of `network_config`, and those beside them that the record settles.

    What `options` gives stays, for `check_network` to refuse where it contradicts the record.
    """
    settled = dict(options)
    if variant.block == "bottleneck" and record.stride_in_1x1 is not None:
        settled.setdefault("stride_in_1x1", record.stride_in_1x1)
    if record.shortcut is not None and variant.family != "vgg" and variant.shortcut != "none":
        settled.setdefault("shortcut", record.shortcut)
        settled.setdefault("pad_before", record.pad_before)
    if record.mean_image is not None:
        settled.setdefault("mean_image", record.mean_image)
    if record.norm is not None:
        settled.setdefault("norm", record.norm)
    settled.setdefault("norm_eps", record.eps)
    return settled


def options_of(state: Mapping[str, torch.Tensor], record: WeightRecord) -> dict[str, Any]:
    """Options of `build_network` for the network that the tensors are of: classes, widths, what the record settles.

    Args:
        state: under our names, of a network and no detector.
        record: with its variant.
    """
    variant, facts = find_variant(record.variant or ""), facts_of(state)
    options: dict[str, Any] = {"num_classes": facts.num_classes}
    if variant.family != "vgg":  # narrower networks have the same names
        options |= {"stem_out_channels": facts.stem_out_channels, "res2_out_channels": facts.res2_out_channels}
    return settled_options(variant, record, options)


def check_network(network: Network, record: WeightRecord) -> None:
    """Refuses a network that computes something else with the same tensors.

    Raises:
        WeightsError: stride, shortcut option, norm or eps differ from the record's; names both and the remedy.
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
    if config.mean_image != record.mean_image:
        raise WeightsError(
            f"{source}: its record {said} mean_image={record.mean_image}, the network was built with "
            f"{config.mean_image}; build it with mean_image={record.mean_image}"
        )
    if record.norm is not None and config.norm != record.norm:
        raise WeightsError(
            f"{source}: its record {said} norm {record.norm}, the network was built with {config.norm}; build it with "
            f"norm={record.norm!r} (MODEL.RESNETS.NORM)"
        )
    if config.norm in ("BN", "SyncBN", "FrozenBN") and abs(config.norm_eps - record.eps) > 1e-12:
        raise WeightsError(
            f"{source}: its record {said} eps {record.eps:g} in batch norm, the network was built with "
            f"{config.norm_eps:g}; build it with norm_eps={record.eps:g}"
        )


def check_transform(module: nn.Module, record: WeightRecord) -> None:
    """Refuses a torchvision detector that normalises its images otherwise than the weights expect.

    Args:
        module: any; without a `transform` of torchvision's there is nothing to check.

    Raises:
        WeightsError: the record's channel order is not RGB, or mean or deviation differ from it.
    """
    transform = getattr(module, "transform", None)
    if not hasattr(transform, "image_mean"):
        return
    said = "are assumed to expect" if record.assumed else "expect"
    remedy = "leave it out and build with torchvision_detector(weights=...), which sets it"
    if record.channel_order != "RGB":
        raise WeightsError(f"torchvision's detectors take RGB, the weights {record.source} {said} BGR; {remedy}")
    for key, wanted in unit_statistics(record).items():
        present = getattr(transform, key)
        if len(present) != len(wanted) or any(abs(a - b) > 1e-5 for a, b in zip(present, wanted)):
            raise WeightsError(
                f"{key} is {list(present)}, but the weights {record.source} {said} "
                f"{[round(v, 6) for v in wanted]} (of pixels 0..1): {remedy}"
            )


def unit_statistics(record: WeightRecord) -> dict[str, list[float]]:
    """The record's mean and deviation for pixel values 0..1, under torchvision's names for them."""
    return {"image_mean": [v / 255 for v in record.mean], "image_std": [v / 255 for v in record.std]}


def adapted(
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
        learning = network.config.norm in ("BN", "SyncBN")
        undone = ", for norms that stay frozen: a training of these undoes them, use FrozenBN" if learning else ""
        allowed.append(
            f"{len(filled)} batch norms are affine only in the file: mean 0 and variance 1, by design{undone}"
        )
    for key in target:
        if key.endswith("num_batches_tracked"):
            state.setdefault(key, target[key])
    first = (f"{name}." if name else "") + FIRST[network.variant.family == "vgg"]
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


def differences(
    state: Mapping[str, torch.Tensor], target: Mapping[str, torch.Tensor]
) -> tuple[list[str], list[str], list[str]]:
    """Keys missing in the source, keys unknown to the target, and keys whose shapes differ."""
    ignored = ("pixel_mean", "pixel_std")  # the configuration's, which the record has settled
    missing = [key for key in target if key not in state and key not in ignored]
    unexpected = [key for key in state if key not in target and key not in ignored]
    shapes = [key for key in state if key in target and state[key].shape != target[key].shape]
    return missing, unexpected, shapes


def allow_fresh(
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


def allow_leftovers(unexpected: list[str], name: str, network: Network, allowed: list[str]) -> list[str]:
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


def failure(
    record: WeightRecord, missing: list[str], unexpected: list[str], shapes: list[str], name: str, total: int
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
        why = f"another network than the one it is for (the file is {record.variant or 'unknown'})"
    lines = [f"{record.source}: {why}. {len(missing)} missing, {len(unexpected)} left over, {len(shapes)} misshapen"]
    for title, keys in (("missing", missing), ("left over", unexpected), ("misshapen", shapes)):
        if keys:
            lines.append(f"{title}: {', '.join(keys[:8])}{' ...' if len(keys) > 8 else ''}")
    return "\n".join(lines)
