"""Config keys and batch norms that have cost others a run."""

from __future__ import annotations

import torch
from detectron2.config import CfgNode
from detectron2.layers import FrozenBatchNorm2d as StockFrozen
from detectron2.layers import NaiveSyncBatchNorm
from torch import nn

from resnet_backbone.engine.preflight import Finding
from resnet_backbone.models.norms import FrozenBatchNorm2d

SYNCHRONISED = (nn.SyncBatchNorm, NaiveSyncBatchNorm)
SMALL_BATCH = 8
"""Images from which on batch norm may learn: at 2, AP50 71.8 became 40.9 on VOC (Detectron2 issue 3545)."""
RATE_FOR_16 = 0.02
"""SGD's rate for 16 images in all of Detectron2's zoo with frozen norms; others follow by the linear rule."""


def schedule_findings(cfg: CfgNode, images: int) -> list[Finding]:
    """The rate and its schedule.

    Args:
        images: in the training sets.
    """
    solver = cfg.SOLVER
    epochs = solver.MAX_ITER * solver.IMS_PER_BATCH / max(images, 1)
    found = [
        Finding(
            "ok",
            f"{solver.MAX_ITER} iterations of {solver.IMS_PER_BATCH} images: {epochs:.1f} passes over {images} images; "
            f"rate {solver.BASE_LR:g} ({solver.OPTIMIZER}), divided at {list(solver.STEPS)}",
        )
    ]
    rule = RATE_FOR_16 * solver.IMS_PER_BATCH / 16
    times = solver.BASE_LR / rule
    if solver.OPTIMIZER == "SGD" and times > 2:
        text = f"SOLVER.BASE_LR {solver.BASE_LR:g} is {times:.1f} times the linear rule's {rule:g} for "
        text += f"SOLVER.IMS_PER_BATCH {solver.IMS_PER_BATCH}: losses often become nan; lower it"
        found.append(Finding("warning", text))
    if solver.WARMUP_ITERS >= solver.MAX_ITER:
        text = f"SOLVER.WARMUP_ITERS {solver.WARMUP_ITERS} is not shorter than SOLVER.MAX_ITER {solver.MAX_ITER}: the "
        found.append(Finding("warning", text + "rate is never reached; shorten it"))
    late = [step for step in solver.STEPS if step >= solver.MAX_ITER]
    if late:
        text = f"SOLVER.STEPS {late} are never reached with SOLVER.MAX_ITER {solver.MAX_ITER}; set them below it"
        found.append(Finding("warning", text))
    return found


def norm_findings(model: nn.Module, images: int, processes: int = 1) -> list[Finding]:
    """Every batch norm: whether its statistics can be used, and whether it learns from too few images.

    Args:
        images: a process sees at a time.
        processes: that train together; synchronised norms learn from the images of all.
    """
    frozen = {n: m for n, m in model.named_modules() if isinstance(m, (FrozenBatchNorm2d, StockFrozen))}
    learning = {n: m for n, m in model.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)}
    found = [Finding("ok", f"{len(frozen)} frozen batch norms, {len(learning)} that learn")]
    wrong = [name for name, norm in {**frozen, **learning}.items() if not _usable(norm)]
    if wrong:
        text = (
            f"running statistics of {wrong[0]} and {len(wrong) - 1} more are no numbers or negative: the weights are "
        )
        found.append(Finding("error", text + "broken; get them again"))
    sizes = [images * (processes if isinstance(m, SYNCHRONISED) else 1) for m in learning.values()]
    small = [size for size in sizes if size < SMALL_BATCH]
    if small:
        text = f"{len(small)} batch norms learn from {min(small)} images at a time, which costs much AP; use "
        text += "MODEL.RESNETS.NORM FrozenBN with pretrained weights, GN without, or SyncBN on many GPUs"
        found.append(Finding("warning", text))
    return found


def _usable(norm: nn.Module) -> bool:
    tensors = dict(norm.named_buffers(recurse=False)) | dict(norm.named_parameters(recurse=False))
    finite = all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values())
    return finite and not bool((tensors.get("running_var", torch.zeros(1)) < 0).any())
