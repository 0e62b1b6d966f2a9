"""The same outputs in less time: norms folded, channels last, compiled; parameters and their names stay as they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

import torch
from torch import nn

from resnet_backbone.models.blocks import ConvNorm
from resnet_backbone.models.folding import Folding
from resnet_backbone.models.norms import FrozenBatchNorm2d
from resnet_backbone.models.resnet import Stage

M = TypeVar("M", bound=nn.Module)


def speed_up(module: M, *, fold_norms: bool = False, channels_last: bool = False, compile: bool = False) -> M:
    """`module`, changed in place: a network of ours, a stage of one, or what has one inside (an FPN).

    Args:
        fold_norms: a frozen batch norm and its convolution become one convolution; in training with the same
            gradients, and only where that is less work. Batch norms that learn stay as they are.
        channels_last: weights and activations in that memory format; the output is in it too.
        compile: `torch.compile` at the first call, once for training and once for evaluation, which takes a
            minute each time; needs a C++ compiler on a CPU. A copy of the module is not compiled.

    Raises:
        ValueError: `fold_norms`, and nothing in `module` can be folded; or `compile`, and a stage of it computes
            its activations again.
    """
    if compile and any(isinstance(m, Stage) and m.recompute for m in module.modules()):
        raise ValueError(
            "compile True: stages that compute their activations again (checkpoint_stages) cannot be compiled; "
            "choose one of the two"
        )
    if fold_norms:
        for conv in _convolutions(module):
            conv.folding = Folding()
        if not any(True for _ in _folded(module)):
            raise ValueError(
                "fold_norms True: there is no frozen batch norm in this network; take the norm FrozenBN, freeze a "
                "part of it first, or leave fold_norms False"
            )
    if channels_last:
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        module.register_forward_pre_hook(_to_channels_last)
    if compile:
        if fold_norms:
            for conv in _convolutions(module):
                assert conv.folding is not None
                conv.folding.outside = True
            module.register_forward_pre_hook(_refresh, prepend=True)
        module.compile()
    return module


def _convolutions(module: nn.Module) -> Iterator[ConvNorm]:
    return (m for m in module.modules() if isinstance(m, ConvNorm))


def _folded(module: nn.Module) -> Iterator[tuple[ConvNorm, Folding, FrozenBatchNorm2d]]:
    for conv in _convolutions(module):
        if conv.folding is not None and isinstance(conv.norm, FrozenBatchNorm2d):
            yield conv, conv.folding, conv.norm


def _to_channels_last(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return (inputs[0].contiguous(memory_format=torch.channels_last), *inputs[1:])


@torch.compiler.disable
def _refresh(module: nn.Module, _: tuple[Any, ...]) -> None:
    # Versions can be compared before a compiled graph, not inside it.
    for conv, folding, norm in _folded(module):
        folding.refresh(conv, norm)
