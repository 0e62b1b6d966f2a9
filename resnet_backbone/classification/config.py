"""A pretraining recipe: every key of a YAML file in `configs/imagenet`, with its unit and default."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class TrainConfig:
    """What is trained and how. Keys are the same in YAML and on the command line.

    Attributes:
        network: a name of `list_variants()`.
        stem_out_channels, res2_out_channels: widths other than the network's own, doubled from stage to stage.
        stride_in_1x1: where a bottleneck strides; true is the paper's network (v1), false torchvision's (v1.5).
        shortcut: option A, B or C; the network's own if left out.
        zero_init_last_norm: residual branches start as zero.
        drop_path: stochastic depth rate of the last block.
        epochs: passes over the training images.
        batch_size: images a step.
        rate_per_256: learning rate for a batch of 256; the one used is scaled to `batch_size`.
        schedule: "cosine" to zero, or "steps": divided by ten at each of `steps` (in epochs).
        warmup_epochs: epochs in which the rate rises from zero.
        momentum, nesterov, weight_decay: of SGD; `decay_norms` says whether norms and biases decay too.
        label_smoothing: share of the target that is spread over all classes.
        augmentation: "resized_crop" (a random part of `scale` of the area, stretched by up to `ratio`), or
            "shorter_side" (the paper's: shorter side drawn from `shorter_sides`, then a random square of `size`).
        colour_shift: deviation of AlexNet's shift along the principal colours of ImageNet (the paper: 0.1).
        flip: mirror every second image.
        size: side of the training images in pixels.
        batch_sides: sides that whole batches are shrunk to in turn at random, for features at several
            scales and at less cost; empty: always `size`.
        test_size, test_resize: centre crop of the test, and shorter side before it.
        mean, std: per channel (RGB) of pixel values 0..255.
        norm_eps: epsilon of the batch norms.
        exact_norm_images: images over which the batch norms' statistics are computed anew at the end (0: not).
        workers: processes that read images; 0 reads in the main one.
        cache: keep decoded images in memory (small data sets).
        seed: of everything that is drawn.
        device: "cpu", "cuda", "cuda:1" ...; empty: a GPU if there is one.
    """

    network: str
    epochs: float
    stem_out_channels: int | None = None
    res2_out_channels: int | None = None
    stride_in_1x1: bool = True
    shortcut: Literal["A", "B", "C"] | None = None
    zero_init_last_norm: bool = False
    drop_path: float = 0.0
    batch_size: int = 256
    rate_per_256: float = 0.1
    schedule: Literal["cosine", "steps"] = "cosine"
    steps: tuple[float, ...] = ()
    warmup_epochs: float = 0.0
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 1e-4
    decay_norms: bool = True
    label_smoothing: float = 0.0
    augmentation: Literal["resized_crop", "shorter_side"] = "resized_crop"
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: float = 4 / 3
    shorter_sides: tuple[int, int] = (256, 480)
    colour_shift: float = 0.0
    flip: bool = True
    size: int = 224
    batch_sides: tuple[int, ...] = ()
    test_size: int = 224
    test_resize: int = 256
    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    std: tuple[float, float, float] = (58.395, 57.12, 57.375)
    norm_eps: float = 1e-5
    exact_norm_images: int = 10_000
    workers: int = 4
    cache: bool = False
    seed: int = 0
    device: str = ""

    def __post_init__(self) -> None:
        for key in ("epochs", "batch_size", "rate_per_256", "size", "test_size", "test_resize", "norm_eps"):
            if getattr(self, key) <= 0:
                raise ValueError(f"{key} is {getattr(self, key)}, but it must be positive")
        for key in ("workers", "warmup_epochs", "weight_decay", "exact_norm_images", "colour_shift", "seed"):
            if getattr(self, key) < 0:
                raise ValueError(f"{key} is {getattr(self, key)}, but it must not be negative")
        if self.test_resize < self.test_size:
            raise ValueError(f"test_resize {self.test_resize} is below test_size {self.test_size}: raise it")
        if not 0 < self.scale[0] <= self.scale[1] <= 1 or self.ratio < 1:
            raise ValueError(f"scale {list(self.scale)}, ratio {self.ratio}: 0 < low <= high <= 1 and ratio >= 1")
        if not self.size <= self.shorter_sides[0] <= self.shorter_sides[1] and self.augmentation == "shorter_side":
            raise ValueError(f"shorter_sides {list(self.shorter_sides)}: low <= high, none below size {self.size}")
        if self.schedule == "steps" and not self.steps:
            raise ValueError("schedule 'steps' needs the key steps: the epochs at which the rate drops to a tenth")
        if any(not 16 <= side <= self.size for side in self.batch_sides):
            raise ValueError(f"batch_sides {list(self.batch_sides)}: each must be from 16 to size {self.size}")
        if not 0 <= self.label_smoothing < 1 or not 0 <= self.momentum < 1:
            raise ValueError("label_smoothing and momentum must be from 0 up to, not including, 1")
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs {self.warmup_epochs} must be below epochs {self.epochs}")

    @property
    def rate(self) -> float:
        """Highest learning rate: the linear rule."""
        return self.rate_per_256 * self.batch_size / 256
