"""One network, many names: between our state-dict names (Detectron2's) and everyone else's, both ways."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch

from resnet_backbone.models.variants import Variant, find_variant, list_variants
from resnet_backbone.models.vgg import WIDTHS
from resnet_backbone.weights.errors import WeightsError
from resnet_backbone.weights.torchvision_detectors import BODY, rename_detector, split_body

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
NORM_KEYS = ("weight", "bias", *STATISTICS)
# Keys of other stems and blocks that carry torchvision's names but are other networks.
FOREIGN = {
    r"conv1\.\d\.": "a deep stem (timm's c, d, s and t variants)",
    r"\.se\.": "squeeze-and-excitation blocks",
    r"downsample\.2\.": "an average-pooled shortcut (timm's d variants)",
    r"\.bn3\.1\.": "anti-aliased blocks",
}


@dataclass(frozen=True)
class Renamed:
    """A file's tensors under our names.

    Attributes:
        naming: whose names they had.
        dropped: key of the file: why it is not in `state`.
    """

    state: dict[str, torch.Tensor]
    naming: str
    dropped: dict[str, str]


def detect(keys: Iterable[str]) -> str:
    """Whose names these are: one of `record.NAMINGS`; full Detectron2 detectors are "detectron2".

    A detector of torchvision's kind is what its backbone is: "torchvision", or "resnet_backbone" for ours.

    Raises:
        WeightsError: nobody's that we know, or a network that the family cannot hold.
    """
    names = [key.removeprefix("module.") for key in keys]
    names = [name.removeprefix(BODY) for name in names if name.startswith(BODY)] or names
    for pattern, what in FOREIGN.items():
        if any(re.search(pattern, name) for name in names) and any(n.startswith("layer1.") for n in names):
            raise WeightsError(f"these weights belong to a network with {what}, which is none of the family")
    joined = set(names)
    if any(re.match(r"(res\d_\d+_branch|conv1_w$|res_conv1_bn)", n) for n in names):
        return "caffe2"
    if any(n.startswith(("proposal_generator.", "roi_heads.", "backbone.")) for n in names):
        return "detectron2"
    if any(n.startswith(("stem.conv1.", "res2.0.", "conv1_1.")) for n in names):
        return "resnet_backbone"
    if "layer1.0.conv1.weight" in joined:
        return "torchvision" if "layer4.0.conv1.weight" in joined else "cifar"
    if "features.0.weight" in joined:
        return "torchvision"
    raise WeightsError(
        "these names are not torchvision's, timm's, Detectron2's, Caffe2's or ours: "
        f"{', '.join(names[:4])} ...; `resnet-backbone weights show` lists what is read"
    )


def to_ours(state: Mapping[str, torch.Tensor], naming: str | None = None) -> Renamed:
    """Renames a state dict into our names.

    Args:
        naming: whose names they are; None finds out.

    Raises:
        WeightsError: unknown names, or two keys that mean the same tensor.
    """
    naming = naming or detect(state)
    rename: Callable[[str], str | None]
    stripped = {key.removeprefix("module."): value for key, value in state.items()}
    if any(key.startswith("features.") for key in stripped):
        table = _vgg_table(stripped)
        rename = table.get
    else:
        rename = {"torchvision": _from_torchvision, "timm": _from_torchvision, "cifar": _from_torchvision,
                  "caffe2": _from_caffe2}.get(naming, lambda key: key)  # fmt: skip
    if any(key.startswith(BODY) for key in stripped):
        rename = rename_detector(rename, stripped)
    ours: dict[str, torch.Tensor] = {}
    dropped: dict[str, str] = {}
    for key, value in stripped.items():
        name = rename(key)
        if name is None:
            dropped[key] = "Caffe's bias of a convolution before batch norm" if key == "conv1_b" else "unknown name"
        elif name in ours:
            raise WeightsError(f"two tensors of the file mean {name}: the second is {key}")
        else:
            ours[name] = value
    return Renamed(ours, naming, dropped)


def from_ours(state: Mapping[str, torch.Tensor], naming: str) -> dict[str, torch.Tensor]:
    """The inverse of `to_ours`: our names to those of `naming`.

    Raises:
        WeightsError: this naming has no name for a tensor.
    """
    if naming in ("resnet_backbone", "detectron2"):
        return dict(state)
    body, around = split_body(state)
    if body and naming == "torchvision":
        return {**{BODY + key: value for key, value in from_ours(body, naming).items()}, **around}
    if body:
        raise WeightsError(f"{naming} has no names for a torchvision detector; write torchvision's or ours")
    if any(key.startswith("conv1_1.") for key in state):
        if naming == "caffe2":
            raise WeightsError("there is no Caffe2 naming for VGG here; write torchvision's or ours")
        table = {ours: theirs for theirs, ours in _vgg_table_for(state).items()}
        return {table[key]: value for key, value in state.items()}
    rename = _to_caffe2 if naming == "caffe2" else _to_torchvision
    renamed = {}
    for key, value in state.items():
        name = rename(key)
        if name is None:
            if naming == "caffe2" and key.endswith("num_batches_tracked"):
                continue
            raise WeightsError(f"{naming} has no name for {key}; Caffe2's batch norms are scale and shift alone")
        renamed["linear" + name[2:] if naming == "cifar" and name.startswith("fc.") else name] = value
    return renamed


def _from_torchvision(key: str) -> str | None:
    if match := re.fullmatch(r"(?:fc|linear)\.(weight|bias)", key):
        return f"linear.{match[1]}"
    if key == "conv1.weight":
        return "stem.conv1.weight"
    if match := re.fullmatch(r"bn1\.(\w+)", key):
        return f"stem.conv1.norm.{match[1]}"
    match = re.fullmatch(r"layer(\d)\.(\d+)\.(conv|bn|downsample\.)(\d)\.(\w+)", key)
    if not match:
        return None
    stage, block, kind, number, what = match.groups()
    place = f"res{int(stage) + 1}.{block}."
    if kind == "downsample.":
        return place + ("shortcut." if number == "0" else "shortcut.norm.") + what
    return place + f"conv{number}." + ("norm." if kind == "bn" else "") + what


def _to_torchvision(key: str) -> str | None:
    if key.startswith("linear."):
        return "fc." + key[7:]
    key = re.sub(r"^stem\.conv1\.norm\.", "bn1.", key)
    key = re.sub(r"^stem\.conv1\.", "conv1.", key)
    key = re.sub(r"^res(\d)\.", lambda m: f"layer{int(m[1]) - 1}.", key)
    key = key.replace(".shortcut.norm.", ".downsample.1.").replace(".shortcut.", ".downsample.0.")
    return re.sub(r"\.conv(\d)\.norm\.", r".bn\1.", key)


_BRANCH = {"branch1": "shortcut", "branch2a": "conv1", "branch2b": "conv2", "branch2c": "conv3"}


def _from_caffe2(key: str) -> str | None:
    key = {"conv1_w": "stem.conv1.weight", "res_conv1_bn_s": "stem.conv1.norm.weight",
           "res_conv1_bn_b": "stem.conv1.norm.bias"}.get(key, key)  # fmt: skip
    if key.startswith("stem."):
        return key
    if match := re.fullmatch(r"(?:pred|fc1000|fc)_(w|b)", key):
        return f"linear.{'weight' if match[1] == 'w' else 'bias'}"
    match = re.fullmatch(r"res(\d)_(\d+)_(branch\d[abc]?)_(w|bn_s|bn_b|bn_rm|bn_riv)", key)
    if not match:
        return None
    stage, block, branch, what = match.groups()
    kind = {"w": "weight", "bn_s": "norm.weight", "bn_b": "norm.bias",
            "bn_rm": "norm.running_mean", "bn_riv": "norm.running_var"}[what]  # fmt: skip
    return f"res{stage}.{block}.{_BRANCH[branch]}.{kind}"


def _to_caffe2(key: str) -> str | None:
    fixed = {"stem.conv1.weight": "conv1_w", "stem.conv1.norm.weight": "res_conv1_bn_s",
             "stem.conv1.norm.bias": "res_conv1_bn_b", "linear.weight": "pred_w", "linear.bias": "pred_b"}  # fmt: skip
    if key in fixed:
        return fixed[key]
    match = re.fullmatch(r"res(\d)\.(\d+)\.(shortcut|conv\d)\.(weight|norm\.weight|norm\.bias)", key)
    if not match:
        return None
    stage, block, layer, what = match.groups()
    branch = {layer: branch for branch, layer in _BRANCH.items()}[layer]
    return f"res{stage}_{block}_{branch}_" + {"weight": "w", "norm.weight": "bn_s", "norm.bias": "bn_b"}[what]


def _vgg_table(state: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """torchvision's `features.N` and `classifier.N` to our layer names; N counts ReLUs and pools too."""
    convolutions = [k for k in state if re.fullmatch(r"features\.\d+\.weight", k) and state[k].dim() == 4]
    for name in ("vgg16", "vgg19", "vgg16_bn", "vgg19_bn"):
        variant = find_variant(name)
        table = _vgg_names(variant)
        wanted = [k for k in table if re.fullmatch(r"features\.\d+\.weight", k)]
        if set(convolutions) <= set(wanted) and len(convolutions) == sum(variant.depths):
            return table
    raise WeightsError(
        f"a VGG with {len(convolutions)} convolutions; the family has vgg16 and vgg19, with or without BN"
    )


def _vgg_table_for(state: Mapping[str, torch.Tensor]) -> dict[str, str]:
    layers = {key.split(".")[0] for key in state if key.startswith("conv")}
    norm = "_bn" if any(".norm." in key for key in state) else ""
    return _vgg_names(find_variant(("vgg19" if "conv5_4" in layers else "vgg16") + norm))


def _vgg_names(variant: Variant) -> dict[str, str]:
    table: dict[str, str] = {}
    position = 0
    for stage, depth in enumerate(variant.depths[: len(WIDTHS)], start=1):
        for layer in range(1, depth + 1):
            ours = f"conv{stage}_{layer}"
            table |= {f"features.{position}.{kind}": f"{ours}.{kind}" for kind in ("weight", "bias")}
            if variant.batch_norm:
                position += 1
                table |= {f"features.{position}.{kind}": f"{ours}.norm.{kind}" for kind in NORM_KEYS}
            position += 2
        position += 1
    for number, ours in ((0, "fc6"), (3, "fc7"), (6, "fc8")):
        table |= {f"classifier.{number}.{kind}": f"{ours}.{kind}" for kind in ("weight", "bias")}
    return table


@dataclass(frozen=True)
class Facts:
    """What the tensors themselves say about their network.

    Attributes:
        affine_only: norms without statistics, or with a mean of 0 everywhere: a frozen norm's that was filled.
    """

    variant: str | None
    shortcut: str | None
    num_classes: int | None
    in_channels: int | None
    affine_only: bool
    stem_out_channels: int | None = None
    res2_out_channels: int | None = None


def facts_of(state: Mapping[str, torch.Tensor]) -> Facts:
    """Reads depth, block, groups, width, shortcut option and classes off a backbone's state in our names."""
    depths = []
    for stage in range(2, 6):
        blocks = {int(m[1]) for key in state if (m := re.match(rf"res{stage}\.(\d+)\.conv1\.weight", key))}
        if blocks:
            depths.append(max(blocks) + 1)
    classifier = state.get("linear.weight", state.get("fc8.weight"))
    stem = state.get("stem.conv1.weight", state.get("conv1_1.weight"))
    res2 = state.get("res2.0.conv3.weight", state.get("res2.0.conv2.weight"))
    norms = any(key.endswith("norm.weight") for key in state)
    statistics = any(bool(value.any()) for key, value in state.items() if key.endswith("running_mean"))
    return Facts(
        variant=_variant_of(state, tuple(depths)),
        shortcut=_shortcut_of(state),
        num_classes=None if classifier is None else classifier.shape[0],
        in_channels=None if stem is None else stem.shape[1],
        affine_only=norms and not statistics,
        stem_out_channels=None if stem is None else stem.shape[0],
        res2_out_channels=None if res2 is None else res2.shape[0],
    )


def _shortcut_of(state: Mapping[str, torch.Tensor]) -> str | None:
    if any(key.startswith("conv1_1.") for key in state):
        return "none"
    if any(".1.shortcut." in key for key in state):
        return "C"
    # A and none have the same tensors: only a record can tell them apart.
    return "B" if any(".shortcut." in key for key in state) else None


def _variant_of(state: Mapping[str, torch.Tensor], depths: tuple[int, ...]) -> str | None:
    if any(key.startswith("conv1_1.") for key in state):
        return ("vgg19" if "conv5_4.weight" in state else "vgg16") + ("_bn" if "conv1_1.norm.weight" in state else "")
    if "res2.0.conv2.weight" not in state or "stem.conv1.weight" not in state:
        return None
    bottleneck = "res2.0.conv3.weight" in state
    conv2 = state["res2.0.conv2.weight"]
    if state["stem.conv1.weight"].shape[-1] == 3:
        return f"cifar_resnet{6 * depths[0] + 2}" if depths else None
    groups = conv2.shape[0] // conv2.shape[1] if bottleneck else 1
    for name in list_variants():
        variant = find_variant(name)
        same = variant.family == "resnet" and variant.depths[: len(depths)] == depths
        if not same or (variant.block == "bottleneck") != bottleneck:
            continue
        if not bottleneck or (variant.groups == groups and variant.width_per_group * groups == conv2.shape[0]):
            return name
    return None
