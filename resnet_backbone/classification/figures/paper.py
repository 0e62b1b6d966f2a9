"""What the paper prints of its classifiers: errors in percent, and the schedules behind them (Sec. 3.4 and 4.2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

CIFAR: Mapping[str, float] = {
    "cifar_resnet20": 8.75,
    "cifar_resnet32": 7.51,
    "cifar_resnet44": 7.17,
    "cifar_resnet56": 6.97,
    "cifar_resnet110": 6.43,
    "cifar_resnet1202": 7.93,
}
"""Table 6: test error on CIFAR-10; of the 110 layers the best of five runs."""
CIFAR_PRINTED: Mapping[str, str] = {"cifar_resnet110": "6.43 (best), 6.61 ± 0.16 over 5"}
"""Where Table 6 prints more than one value."""

TEN_CROP: Mapping[str, tuple[float, float | None]] = {
    "plain18": (27.94, None),
    "resnet18 A": (27.88, None),
    "plain34": (28.54, 10.02),
    "resnet34 A": (25.03, 7.76),
    "resnet34 B": (24.52, 7.46),
    "resnet34 C": (24.19, 7.40),
    "resnet50": (22.85, 6.71),
    "resnet101": (21.75, 6.05),
    "resnet152": (21.43, 5.71),
    "vgg16": (28.07, 9.33),
}
"""Tables 2 and 3: top-1 and top-5 validation error on ImageNet by ten crops; the letter is the shortcut option."""


@dataclass(frozen=True)
class RunLength:
    """How long a run is and when its rate drops.

    Attributes:
        length: in `unit`.
        steps: where the rate drops to a tenth, in `unit`.
        batch_size: images an iteration.
        unit: "iterations" or "epochs".
    """

    length: float
    steps: tuple[float, ...]
    batch_size: int
    unit: str = "iterations"


CIFAR_LENGTH = RunLength(64_000, (32_000, 48_000), 128)
IMAGENET_LENGTH = RunLength(600_000, (), 256)
"""Up to so many iterations; the rate drops where the error plateaus, and the paper does not print when."""
