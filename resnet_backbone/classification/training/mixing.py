"""Mixup, CutMix and soft targets of a batch, and the losses that take them."""

from __future__ import annotations

import torch
from torch.nn import functional as F
from torchvision.transforms import v2

from resnet_backbone.classification.data.streams import Stream, generator, torch_drawing_from
from resnet_backbone.classification.recipe.config import Loss


def mix(
    images: torch.Tensor, labels: torch.Tensor, classes: int, *, mixup: float, cutmix: float, seed: int, iteration: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mixes each image of a batch with the one before it, by torchvision's `MixUp` or `CutMix`.

    What is drawn depends on seed and iteration alone and is one for the batch.

    Args:
        images: N,C,H,W float, normalised.
        labels: N.
        classes: how many there are.
        mixup, cutmix: alpha of the Beta distribution of shares, 0 for never; with both, each has every second batch.

    Returns:
        Images N,C,H,W and targets N,classes, whose rows sum to 1; with CutMix they are the shares of the area.
    """
    rng = generator(Stream.MIXING, seed, iteration)
    pick_mixup = rng.random() < (0.5 if cutmix else 1.0)
    if mixup and pick_mixup:
        transform: v2.Transform = v2.MixUp(alpha=mixup, num_classes=classes)
    elif cutmix:
        transform = v2.CutMix(alpha=cutmix, num_classes=classes)
    else:
        return images, F.one_hot(labels, classes).float()
    with torch_drawing_from(rng):
        return transform(images, labels)


def classification_loss(
    logits: torch.Tensor,
    targets: torch.Tensor,
    *,
    kind: Loss = "cross_entropy",
    smoothing: float = 0.0,
) -> torch.Tensor:
    """The mean loss of a batch.

    Args:
        logits: N,classes.
        targets: N labels, or N,classes that sum to 1.
        kind: "binary_cross_entropy" asks about each class by itself (Wightman et al. 2021), as timm's does.
        smoothing: share of the target that is spread over all classes.
    """
    if kind == "cross_entropy":
        return F.cross_entropy(logits, targets, label_smoothing=smoothing)
    classes = logits.shape[1]
    soft = targets if targets.dim() == 2 else F.one_hot(targets, classes)
    # Sums over thousands of small terms: never in half precision.
    precise = torch.promote_types(logits.dtype, torch.float32)
    soft = soft.to(precise) * (1 - smoothing) + smoothing / classes
    return F.binary_cross_entropy_with_logits(logits.to(precise), soft)
