"""What a file of weights does not say by its tensors: the input that it expects and the network it belongs to."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resnet_backbone.weights.errors import WeightsError

MEASURED_NOTE, STATISTICS_NOTE = "accuracy measured on", "batch norms: mean and variance"
"""How the notes begin that no longer hold where a network's statistics are computed anew."""
NAMINGS = ("resnet_backbone", "torchvision", "timm", "detectron2", "caffe2", "cifar")


@dataclass(frozen=True)
class WeightRecord:
    """Everything needed to feed weights right; config keys are derived from it and never typed by a user.

    Attributes:
        naming: whose parameter names the file has, one of `NAMINGS`.
        source: where the weights came from, as one would write it in MODEL.WEIGHTS.
        variant: network of the table, as "resnet50".
        stride_in_1x1: where bottlenecks stride (True: the paper's v1, MSRA; False: torchvision's v1.5);
            None for networks without bottlenecks, or where nobody knows.
        channel_order: "RGB" or "BGR".
        mean, std: of pixel values 0..255, per channel, in `channel_order`.
        eps: of the batch norms.
        input_size: side of the square crop that the network was measured at.
        resize: shorter side before that crop.
        interpolation: of that resize.
        top1, top5: percent correct on ImageNet's validation set, measured at that size.
        shortcut: option A, B, C or "none".
        pad_before: option A with half of the new channels before the old ones.
        mean_image: side of the mean image that the network subtracts from its normalised input; None for none.
        norm: "GN" for group norms, whose tensors have the names and shapes of a batch norm's scale and shift; None for
            batch norms, or where nobody knows.
        num_classes: of the classifier; None for a backbone.
        classes: their names, by label; empty where nobody knows.
        sha256: of the file.
        notes: what else a user should know ("batch norm is affine only", "grown from ...").
        assumed: True where the facts are implied by the source or the naming, not stated by a record.
    """

    naming: str
    source: str
    variant: str | None = None
    stride_in_1x1: bool | None = None
    channel_order: str = "RGB"
    mean: tuple[float, ...] = (123.675, 116.28, 103.53)
    std: tuple[float, ...] = (58.395, 57.12, 57.375)
    eps: float = 1e-5
    input_size: int | None = 224
    resize: int | None = 256
    interpolation: str = "bilinear"
    top1: float | None = None
    top5: float | None = None
    shortcut: str | None = None
    pad_before: bool = False
    mean_image: int | None = None
    norm: str | None = None
    num_classes: int | None = None
    classes: tuple[str, ...] = ()
    sha256: str | None = None
    notes: tuple[str, ...] = ()
    assumed: bool = False

    def __post_init__(self) -> None:
        if self.naming not in NAMINGS:
            raise WeightsError(f"record: naming {self.naming!r} is none of {', '.join(NAMINGS)}")
        if self.channel_order not in ("RGB", "BGR"):
            raise WeightsError(f"record: channel_order {self.channel_order!r} is neither 'RGB' nor 'BGR'")
        if len(self.mean) != len(self.std) or min(self.std) <= 0:
            raise WeightsError(f"record: mean {self.mean} and std {self.std} must have one positive entry a channel")

    def to_json(self) -> str:
        """One JSON object; `from_json` gives the same record back."""
        return json.dumps(dataclasses.asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str, where: str = "record") -> WeightRecord:
        """Reads what `to_json` wrote.

        Args:
            where: the file's name for messages.

        Raises:
            WeightsError: no JSON, an unknown key, a value of the wrong type.
        """
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise WeightsError(f"{where}: no valid JSON ({error}); delete it or write it anew with verify") from None
        if not isinstance(values, dict):
            raise WeightsError(f"{where}: a record is one JSON object, not {type(values).__name__}")
        return cls(**_checked(values, where))

    def detectron2_settings(self) -> dict[str, Any]:
        """The config keys of a Detectron2 detector that this record settles."""
        settings: dict[str, Any] = {
            "MODEL.PIXEL_MEAN": list(self.mean),
            "MODEL.PIXEL_STD": list(self.std),
            "INPUT.FORMAT": self.channel_order,
        }
        if self.stride_in_1x1 is not None:
            settings["MODEL.RESNETS.STRIDE_IN_1X1"] = self.stride_in_1x1
        if self.norm is not None:
            settings["MODEL.RESNETS.NORM"] = self.norm
        return settings

    def other_class(self, names: Sequence[str]) -> str | None:
        """Says where as many names, by label, begin to be other ones than `classes`; None where none is.

        Labels of class folders are their places in the order of their names: of other names they are other labels.
        """
        others = (f"{old!r} where these have {new!r}" for old, new in zip(self.classes, names) if old != new)
        return next(others, None)

    def describe(self) -> str:
        """One line for people."""
        stride = {True: "stride in 1x1 (v1)", False: "stride in 3x3 (v1.5)", None: ""}[self.stride_in_1x1]
        parts = [
            self.variant or "unknown network",
            f"{self.channel_order}, mean {_short(self.mean)}, std {_short(self.std)}",
            stride,
            f"eps {self.eps:g}",
            f"top-1 {self.top1:.2f} % at {self.input_size}" if self.top1 is not None else "",
            "ASSUMED" if self.assumed else "",
        ]
        return "; ".join(part for part in parts if part)


def _short(values: tuple[float, ...]) -> str:
    return "[" + ", ".join(f"{v:g}" for v in values) + "]"


_TYPES: dict[str, tuple[type, ...]] = {
    "naming": (str,), "source": (str,), "variant": (str, type(None)), "stride_in_1x1": (bool, type(None)),
    "channel_order": (str,), "mean": (list,), "std": (list,), "eps": (float, int),
    "input_size": (int, type(None)), "resize": (int, type(None)), "interpolation": (str,),
    "top1": (float, int, type(None)), "top5": (float, int, type(None)), "shortcut": (str, type(None)),
    "pad_before": (bool,), "mean_image": (int, type(None)), "num_classes": (int, type(None)),
    "norm": (str, type(None)), "sha256": (str, type(None)), "notes": (list,), "assumed": (bool,),
    "classes": (list,),
}  # fmt: skip


def _checked(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    unknown = sorted(set(values) - set(_TYPES))
    if unknown:
        raise WeightsError(f"{where}: unknown key {unknown[0]!r}; a record has {', '.join(_TYPES)}")
    for key in ("naming", "source"):
        if key not in values:
            raise WeightsError(f"{where}: key {key!r} is missing")
    for key, value in values.items():
        if not isinstance(value, _TYPES[key]):
            raise WeightsError(f"{where}: {key} is {value!r}, not {_TYPES[key][0].__name__}")
    for key in ("mean", "std"):
        if not all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values.get(key, [])):
            raise WeightsError(f"{where}: {key} is {values[key]!r}, not a list of numbers")
    for key in ("notes", "classes"):
        if not all(isinstance(one, str) for one in values.get(key, [])):
            raise WeightsError(f"{where}: {key} is not a list of texts")
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}


def sidecar_of(path: Path) -> Path:
    """Where the record of a file without an embedded one lies: `resnet50.pth.xz` has `resnet50.json` beside it."""
    name = path.name
    for suffix in (".xz", ".gz", ".pth", ".pt", ".th", ".pkl", ".safetensors"):
        name = name.removesuffix(suffix)
    return path.with_name(f"{name}.json")
