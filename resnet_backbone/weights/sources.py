"""One key for weights from anywhere: torchvision://, timm://, detectron2://, http(s):// and paths."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resnet_backbone.cache import cache_folder
from resnet_backbone.weights.download import cached_name, fetch
from resnet_backbone.weights.errors import WeightsError
from resnet_backbone.weights.record import WeightRecord

IMAGENET_MEAN, IMAGENET_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
FAIR_STD = (57.375, 57.120, 58.395)
CAFFE_MEAN = (103.53, 116.28, 123.675)  # BGR; Detectron2's own figures for MSRA's networks

DETECTRON2_ZOO = "https://dl.fbaipublicfiles.com/detectron2/"
TIMM_HUB = "https://huggingface.co/timm/{name}/resolve/main/model.safetensors"


@dataclass(frozen=True)
class Resolved:
    """A source as a file on this machine.

    Attributes:
        implied: what the source itself says about its weights; None for a path, which says nothing.
    """

    path: Path
    implied: WeightRecord | None


def resolve(source: str | Path) -> Resolved:
    """Downloads what has to be downloaded, once, and says what the source implies.

    Raises:
        WeightsError: an unknown scheme or name (names the nearest), no such file, a failed download.
    """
    text = str(source).strip()
    scheme, separator, rest = text.partition("://")
    if not separator:
        return Resolved(Path(text).expanduser(), None)
    resolvers = {
        "torchvision": _torchvision,
        "timm": _timm,
        "detectron2": _detectron2,
        "file": lambda r: Resolved(Path(r), None),
        "http": lambda _: Resolved(fetch(text), None),
        "https": lambda _: Resolved(fetch(text), None),
    }
    if scheme not in resolvers:
        near = difflib.get_close_matches(scheme, resolvers, n=1) or ["torchvision"]
        raise WeightsError(f"{text}: unknown scheme {scheme!r}; did you mean {near[0]}://? Or give a path")
    return resolvers[scheme](rest)


def on_disk(source: str | Path) -> bool:
    """Whether `resolve` would give a file without downloading anything.

    Raises:
        WeightsError: a name that does not exist.
    """
    text = str(source).strip()
    scheme, separator, rest = text.partition("://")
    if not separator:
        return Path(text).expanduser().is_file()
    names = {
        "torchvision": lambda: _published_name(_torchvision_weights(rest)[1]),
        "timm": lambda: f"timm-{rest}.safetensors",
        "detectron2": lambda: rest.replace("/", "-"),
        "file": lambda: rest,  # absolute, or from the working directory
    }
    name = names.get(scheme, lambda: cached_name(text))()
    return Path(name).is_file() if scheme == "file" else (cache_folder() / name).is_file()


def implied_record(source: str | Path) -> WeightRecord | None:
    """What `source` says about its weights, without downloading anything; None for paths and addresses.

    Raises:
        WeightsError: a name that does not exist.
    """
    scheme, _, rest = str(source).strip().partition("://")
    if scheme == "torchvision":
        return _torchvision_record(*_torchvision_weights(rest))
    if scheme == "timm":
        return _timm_record(rest)
    if scheme == "detectron2":
        return _detectron2_record(rest)
    return None


def _torchvision_weights(name: str) -> tuple[str, Any]:
    """`ResNet50_Weights.IMAGENET1K_V2` (as torchvision writes it) to the network's name and the enum's member."""
    import torchvision

    from resnet_backbone.models.variants import list_variants

    enums = {}
    for model in torchvision.models.list_models(module=torchvision.models):
        if model in list_variants():
            enums[torchvision.models.get_model_weights(model).__name__] = model
    enum, _, member = name.partition(".")
    known = [f"{e}.{m.name}" for e, model in enums.items() for m in torchvision.models.get_model_weights(model)]
    if enum not in enums or not member:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.3) or known[:1]
        raise WeightsError(f"torchvision://{name}: no such weights; did you mean torchvision://{near[0]}?")
    members = {m.name: m for m in torchvision.models.get_model_weights(enums[enum])}
    if member not in members:
        names = ", ".join(members)
        raise WeightsError(f"torchvision://{name}: {enum} has {names}, not {member!r} (DEFAULT changes over time)")
    return enums[enum], members[member]


def _torchvision_record(variant: str, weights: Any) -> WeightRecord:
    transforms = weights.transforms()
    metrics: dict[str, float] = next(iter(weights.meta.get("_metrics", {}).values()), {})
    return WeightRecord(
        naming="torchvision",
        source=f"torchvision://{weights}",
        variant=variant,
        stride_in_1x1=None if variant.startswith(("vgg", "resnet18", "resnet34")) else False,
        mean=tuple(255 * m for m in transforms.mean),
        std=tuple(255 * s for s in transforms.std),
        input_size=transforms.crop_size[0],
        resize=transforms.resize_size[0],
        interpolation=transforms.interpolation.value,
        top1=metrics.get("acc@1"),
        top5=metrics.get("acc@5"),
        num_classes=len(weights.meta["categories"]),
    )


def _torchvision(name: str) -> Resolved:
    variant, weights = _torchvision_weights(name)
    # torchvision writes the first hexadecimal digits of the sha256 into the file's name.
    prefix = re.search(r"-([0-9a-f]{8,})\.", weights.url)
    path = fetch(weights.url, sha256_prefix=prefix[1] if prefix else None, name=_published_name(weights))
    return Resolved(path, _torchvision_record(variant, weights))


def _published_name(weights: Any) -> str:
    return str(weights.url).rsplit("/", 1)[-1]


def _timm_record(name: str) -> WeightRecord:
    model, _, tag = name.partition(".")
    if not tag:
        raise WeightsError(
            f"timm://{name}: a bare name whose weights change with timm's releases; "
            f"add the tag, as timm://{name}.a1_in1k"
        )
    variants = {"resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d",
                "resnext101_32x8d", "resnext101_64x4d", "wide_resnet50_2", "wide_resnet101_2",
                "vgg16", "vgg19", "vgg16_bn", "vgg19_bn"}  # fmt: skip
    if model not in variants:
        deep = re.fullmatch(r"resnet\d+(c|d|s|t|ts)", model)
        near = difflib.get_close_matches(model, variants, n=1, cutoff=0.3) or ["resnet50"]
        why = "has another stem than the paper's" if deep else "is none of the family"
        raise WeightsError(f"timm://{name}: {model} {why}; did you mean timm://{near[0]}.{tag}?")
    half = tag.startswith("ra4_")
    mean, std = ((127.5,) * 3, (127.5,) * 3) if half else (IMAGENET_MEAN, IMAGENET_STD)
    size, resize, interpolation, stated = 224, 235, "bicubic", False
    try:
        from timm.models import get_pretrained_cfg
    except ImportError:
        pass
    else:
        config = get_pretrained_cfg(name)
        if config is None or config.architecture != model:
            raise WeightsError(f"timm://{name}: the installed timm does not know this tag; update timm or check it")
        mean, std = (tuple(255 * v for v in values) for values in (config.mean, config.std))
        size, interpolation, stated = config.input_size[-1], config.interpolation, True
        resize = round(size / config.crop_pct)
    return WeightRecord(
        naming="timm",
        source=f"timm://{name}",
        variant=model,
        stride_in_1x1=None if model.startswith(("vgg", "resnet18", "resnet34")) else False,
        mean=mean,
        std=std,
        input_size=size,
        resize=resize,
        interpolation=interpolation,
        assumed=not stated,
        notes=() if stated else ("timm is not installed: mean and deviation are taken from the tag's name",),
    )


def _timm(name: str) -> Resolved:
    record = _timm_record(name)
    return Resolved(fetch(TIMM_HUB.format(name=name), name=f"timm-{name}.safetensors"), record)


def _detectron2_record(name: str) -> WeightRecord:
    """Facts from Detectron2's own model zoo page and conversion scripts."""
    source = f"detectron2://{name}"
    stem = Path(name).stem
    variant = {"R-50": "resnet50", "R-101": "resnet101", "R-152": "resnet152",
               "X-101-32x8d": "resnext101_32x8d", "X-152-32x8d-IN5k": "resnext152_32x8d"}.get(stem)  # fmt: skip
    if name.startswith("ImageNetPretrained/torchvision/"):
        return WeightRecord("detectron2", source, variant, False, "RGB", IMAGENET_MEAN, IMAGENET_STD)
    if name.startswith("ImageNetPretrained/FAIR/"):
        return WeightRecord("caffe2", source, variant, False, "BGR", CAFFE_MEAN, FAIR_STD, num_classes=1000)
    if name.startswith("ImageNetPretrained/MSRA/"):
        return WeightRecord("caffe2", source, variant, True, "BGR", CAFFE_MEAN, (1.0,) * 3, num_classes=1000)
    return WeightRecord(
        "detectron2", source, None, None, "BGR", CAFFE_MEAN, (1.0,) * 3, input_size=None, resize=None,
        assumed=True, notes=("a detector: its own configuration says the rest",),
    )  # fmt: skip


def _detectron2(name: str) -> Resolved:
    record = _detectron2_record(name)
    base = DETECTRON2_ZOO
    catalog = {"ImageNetPretrained/MSRA/R-50.pkl", "ImageNetPretrained/MSRA/R-101.pkl"}
    if name not in catalog and not re.search(r"\.(pkl|pth)$", name):
        near = difflib.get_close_matches(name, catalog, n=1, cutoff=0.3) or sorted(catalog)[:1]
        raise WeightsError(f"detectron2://{name}: a file of the zoo ends in .pkl; did you mean detectron2://{near[0]}?")
    return Resolved(fetch(base + name, name=name.replace("/", "-")), record)
