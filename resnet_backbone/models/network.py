"""What every network of the family shares: its configuration, its feature shapes, classifying or extracting."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import nn

from resnet_backbone.models.norms import Norm
from resnet_backbone.models.variants import Shortcut, Variant


@dataclass(frozen=True)
class FeatureShape:
    """Channels of a feature map and how many input pixels one of its cells covers per side."""

    channels: int
    stride: int


@dataclass(frozen=True)
class NetworkConfig:
    """Everything that a network was built with; `build_network` documents the fields."""

    variant: Variant
    num_classes: int | None = None
    out_features: tuple[str, ...] = ()
    stride_in_1x1: bool = True
    shortcut: Shortcut = "B"
    pad_before: bool = False
    norm: Norm = "BN"
    norm_eps: float = 1e-5
    freeze_at: int = 0
    in_channels: int = 3
    mean_image: int | None = None
    groups: int = 1
    width_per_group: int = 64
    stem_out_channels: int = 64
    res2_out_channels: int = 64
    res5_dilation: int = 1
    zero_init_last_norm: bool = False
    drop_path: float = 0.0
    checkpoint_stages: tuple[str, ...] = ()


class Network(nn.Module):
    """A classifier (no `out_features`: N,C,H,W to N,num_classes logits) or a backbone (to a dict of feature maps).

    Subclasses give `stages()`, the named parts in the order in which data passes them; layers that no
    requested feature needs are not built.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.variant = config.variant
        self.shapes: dict[str, FeatureShape] = {}
        if config.mean_image is not None:
            self.register_buffer("mean_image", torch.zeros(config.in_channels, config.mean_image, config.mean_image))

    def stages(self) -> Iterator[tuple[str, nn.Module]]:
        """(name, module) in forward order; names are those of `out_features`."""
        raise NotImplementedError

    def classify(self, x: torch.Tensor) -> torch.Tensor:
        """The last feature map to logits."""
        raise NotImplementedError

    def classify_everywhere(self, x: torch.Tensor) -> torch.Tensor:
        """The last feature map to logits N,num_classes,h,w: one for each place of `classify`'s window."""
        raise NotImplementedError

    def score_map(self, x: torch.Tensor) -> torch.Tensor:
        """The fully convolutional form (Sec. 3.4): N,C,H,W of normalised pixels to logits N,num_classes,h,w.

        The window that is classified is what a crop of the usual size covers: at 224 x 224 (CIFAR: 32 x 32) the map
        has one place, whose logits are those of `forward`.
        """
        x = self._centred(x)
        for _, stage in self.stages():
            x = stage(x)
        return self.classify_everywhere(x)

    def _centred(self, x: torch.Tensor) -> torch.Tensor:
        side = self.config.mean_image
        if side is None:
            return x
        if x.shape[2:] != (side, side):
            raise ValueError(
                f"{self.variant.name} subtracts a mean image of {side} x {side}, the input is {tuple(x.shape)}"
            )
        mean: torch.Tensor = self.get_buffer("mean_image")
        return x - mean

    def forward(self, x: torch.Tensor) -> torch.Tensor | dict[str, torch.Tensor]:
        """N,C,H,W of normalised pixels to logits N,num_classes, or to {name: N,C,H/stride,W/stride}.

        Raises:
            ValueError: the input is no batch of images, or has other channels than the network.
        """
        if x.dim() != 4 or x.shape[1] != self.config.in_channels:
            raise ValueError(
                f"{self.variant.name} takes N,{self.config.in_channels},H,W, not {tuple(x.shape)}: "
                "add the batch dimension, or build it with in_channels"
            )
        x = self._centred(x)
        outputs = {}
        for name, stage in self.stages():
            x = stage(x)
            if name in self.config.out_features:
                outputs[name] = x
        if self.config.num_classes is None:
            return outputs
        logits = self.classify(x)
        if "linear" in self.config.out_features:
            outputs["linear"] = logits
        return outputs or logits

    def output_shape(self) -> dict[str, FeatureShape]:
        """Channels and stride of every requested feature."""
        return {name: self.shapes[name] for name in self.config.out_features}

    @property
    def size_divisibility(self) -> int:
        """0, in Detectron2's meaning: an input may have any size (an FPN on top asks for more)."""
        return 0


def check_features(config: NetworkConfig, available: Iterable[str]) -> None:
    """Refuses a request that the network cannot meet.

    Raises:
        ValueError: an unknown feature or stage (names the nearest), or nothing asked for at all.
    """
    names = list(available)
    if not config.out_features and config.num_classes is None:
        raise ValueError(
            f"{config.variant.name}: say num_classes for a classifier "
            f"or out_features for a backbone ({', '.join(names)})"
        )
    for key in ("out_features", "checkpoint_stages"):
        for feature in getattr(config, key):
            if feature not in names and not (feature == "linear" and config.num_classes is not None):
                near = difflib.get_close_matches(feature, names, n=1, cutoff=0.3) or names[:1]
                raise ValueError(
                    f"{config.variant.name} has no {feature!r} ({key}): did you mean {near[0]!r}? "
                    f"It has {', '.join(names)}"
                )


def needed_stages(config: NetworkConfig, names: tuple[str, ...]) -> int:
    """How many of the stages `names` must be built for what was asked."""
    if config.num_classes is not None:
        return len(names)
    return max((names.index(f) + 1 for f in config.out_features if f in names), default=0)
