"""Counts of right answers on the validation images."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from resnet_backbone.engine import group


@dataclass(frozen=True)
class Accuracy:
    """Right answers of `images`; `top5` is None where there are five classes or fewer.

    Attributes:
        loss: mean cross entropy; None where it was not computed.
    """

    images: int
    top1: int
    top5: int | None
    loss: float | None = None

    @property
    def top1_percent(self) -> float:
        return 100 * self.top1 / self.images

    @property
    def top5_percent(self) -> float | None:
        return None if self.top5 is None else 100 * self.top5 / self.images

    def numbers(self, name: str) -> dict[str, float]:
        """For a log: name/top1, name/error, ... in percent."""
        values = {"top1": self.top1_percent, "error": 100 - self.top1_percent}
        if self.top5_percent is not None:
            values |= {"top5": self.top5_percent, "error5": 100 - self.top5_percent}
        if self.loss is not None:
            values["loss"] = self.loss
        return {f"{name}/{key}": value for key, value in values.items()}

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
    """Top-1 and top-5 of `network` in evaluation mode, over the batches of all processes.

    Args:
        batches: N,3,H,W uint8 images and N labels, of this process.
        prepare: makes of uint8 images what the network takes.
    """
    training = network.training
    network.eval()
    images, top1, top5, classes, loss = 0, 0, 0, 0, 0.0
    for pixels, labels in batches:
        logits = network(prepare(pixels)).float()
        classes = logits.shape[1]
        on_device = labels.to(device)
        ranked = logits.topk(min(5, classes), dim=1).indices == on_device[:, None]
        images += len(labels)
        top1 += int(ranked[:, 0].sum())
        top5 += int(ranked.sum())
        loss += float(F.cross_entropy(logits, on_device, reduction="sum"))
    network.train(training)
    counts = group.gather_all((images, top1, top5, loss, classes))
    images, top1, top5, loss, _ = (sum(one) for one in zip(*counts, strict=True))
    classes = max(one[-1] for one in counts)
    return Accuracy(int(images), int(top1), int(top5) if classes > 5 else None, loss / max(images, 1))
