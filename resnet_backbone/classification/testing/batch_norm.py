"""Batch norms' mean and variance over a set of images, in place of the trace of the last steps (Appendix A)."""

from __future__ import annotations

import contextlib
import functools
import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from resnet_backbone.engine import group

NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm)


@dataclass(frozen=True)
class Moments:
    """Of every channel of some feature maps; those of two parts of a set add up to those of the whole, exactly.

    Attributes:
        count: values a channel.
        mean: C, float64.
        squares: C, float64, the sum of squared distances from the mean.
    """

    count: int
    mean: torch.Tensor
    squares: torch.Tensor

    @classmethod
    def of(cls, maps: torch.Tensor) -> Moments:
        """Of N,C,H,W, on its device."""
        count = maps.numel() // maps.shape[1]
        maps = maps if maps.dtype == torch.float64 else maps.float()
        variance, mean = torch.var_mean(maps, (0, 2, 3), correction=0)
        return cls(count, mean.double(), variance.double() * count)

    def __add__(self, other: Moments) -> Moments:
        """The law of total variance: within the parts and between their means (Chan et al. 1979)."""
        count = self.count + other.count
        apart, share = other.mean - self.mean, other.count / max(count, 1)
        squares = self.squares + other.squares + apart.square() * (self.count * share)
        return Moments(count, self.mean + apart * share, squares)

    @property
    def variance(self) -> torch.Tensor:
        """C: of the set itself, divided by the count and not by one less."""
        return self.squares / self.count


@torch.no_grad()
def recompute_statistics(network: nn.Module, batches: Iterable[torch.Tensor]) -> int:
    """Sets every batch norm's mean and variance to those of its input over all images of the batches.

    One pass finds them for all layers at once, in which each batch is normalised by its own statistics, as in
    training: a layer's input is then what it learnt from. Had the layers before it their new statistics already, which
    takes a pass for every layer, it would differ by the batches' own deviation from the set. Nothing else is as in
    training: dropout and stochastic depth are off, as they are for the weights' users.

    Args:
        batches: normalised images of this process, more than one each; the sizes may differ, since values count and
            not batches. Those of all processes are taken together.

    Returns:
        how many images there were; 0, and nothing is changed, where there is no batch norm or no batch.
    """
    found, images = _moments(network, batches, by_batch=True)
    for norm, moments in found.items():
        norm.running_mean.copy_(moments.mean)
        norm.running_var.copy_(moments.variance)
    return images


@torch.no_grad()
def give_statistics(network: nn.Module, batches: Iterable[torch.Tensor]) -> int:
    """Sets mean and variance as `recompute_statistics` does, and scale and shift so that the network computes the same.

    For norms that are affine only, as those of weights that were frozen once: with mean 0 and variance 1 they answer
    right, but a training, whose batches have other statistics, would undo them at its first step. Their inputs are
    looked at as they are, through norms with the old statistics.

    Args:
        batches: as of `recompute_statistics`.

    Returns:
        how many images there were.
    """
    found, images = _moments(network, batches, by_batch=False)
    for norm, moments in found.items():
        before = (norm.running_var.double() + norm.eps).rsqrt()
        after = (moments.variance + norm.eps).sqrt()
        shift = (moments.mean - norm.running_mean.double()) * before
        norm.bias += (norm.weight.double() * shift).to(norm.bias.dtype)
        norm.weight *= (before * after).to(norm.weight.dtype)
        norm.running_mean.copy_(moments.mean)
        norm.running_var.copy_(moments.variance)
    return images


def _moments(network: nn.Module, batches: Iterable[torch.Tensor], *, by_batch: bool) -> tuple[dict[Any, Moments], int]:
    """Of the inputs of all norms that saw any, over the images of all processes; and how many images there were.

    Args:
        by_batch: batches are normalised by their own statistics, as in training.
    """
    norms = [module for module in network.modules() if isinstance(module, NORMS)]
    if not norms:
        return {}, 0
    found: dict[Any, Moments] = {norm: _nothing(norm) for norm in norms}

    def look(norm: nn.Module, inputs: tuple[Any, ...]) -> None:
        found[norm] += Moments.of(inputs[0])

    training, images = network.training, 0
    network.eval()
    with contextlib.ExitStack() as hooks:
        for norm in norms:
            norm.train(by_batch)
            hooks.enter_context(norm.register_forward_pre_hook(look))
        for batch in batches:
            network.forward(batch)  # not by calling it: with hooks it would be compiled anew
            images += len(batch)
    network.train(training)
    whole = _of_all_processes(list(found.values()))
    seen = {norm: moments for norm, moments in zip(norms, whole, strict=True) if moments.count}
    return seen, sum(group.gather_all(images))


def _nothing(norm: nn.Module) -> Moments:
    none = torch.zeros_like(norm.get_buffer("running_mean"), dtype=torch.float64)
    return Moments(0, none, none)


def _of_all_processes(own: Sequence[Moments]) -> list[Moments]:
    """Every layer's, over the images of all processes."""
    if group.world() == 1:
        return list(own)
    sent = [Moments(one.count, one.mean.cpu(), one.squares.cpu()) for one in own]
    return [functools.reduce(operator.add, parts) for parts in zip(*group.gather_all(sent), strict=True)]
