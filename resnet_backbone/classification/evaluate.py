"""Counts of right answers on the validation images."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class Accuracy:
    """Right answers of `images`; `top5` is None where there are five classes or fewer."""

    images: int
    top1: int
    top5: int | None

    @property
    def top1_percent(self) -> float:
        return 100 * self.top1 / self.images

    @property
    def top5_percent(self) -> float | None:
        return None if self.top5 is None else 100 * self.top5 / self.images

    def __str__(self) -> str:
        five = "" if self.top5_percent is None else f", top-5 {self.top5_percent:.2f} %"
        return f"top-1 {self.top1_percent:.2f} %{five} of {self.images} images"


@torch.no_grad()
def evaluate(
    network: nn.Module,
    batches: Iterable[tuple[torch.Tensor, torch.Tensor]],
    prepare: Callable[[torch.Tensor], torch.Tensor],
    device: torch.device,
) -> Accuracy:
    """Top-1 and top-5 of `network` in evaluation mode.

    Args:
        batches: N,3,H,W uint8 images and N labels.
        prepare: makes of uint8 images what the network takes.
    """
    training = network.training
    network.eval()
    images, top1, top5, classes = 0, 0, 0, 0
    for pixels, labels in batches:
        logits = network(prepare(pixels)).float()
        classes = logits.shape[1]
        ranked = logits.topk(min(5, classes), dim=1).indices == labels.to(device)[:, None]
        images += len(labels)
        top1 += int(ranked[:, 0].sum())
        top5 += int(ranked.sum())
    network.train(training)
    return Accuracy(images, top1, top5 if classes > 5 else None)
