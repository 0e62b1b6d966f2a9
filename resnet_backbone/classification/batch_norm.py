"""Exact statistics of batch norms: averages over images, not the trace of the last steps (Appendix A)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn


@torch.no_grad()
def recompute_statistics(network: nn.Module, batches: Iterable[torch.Tensor]) -> int:
    """Sets every batch norm's mean and variance to their averages over the batches; returns how many there were.

    Args:
        batches: normalised images; all batches should be of the same size, since each counts the same.
    """
    norms = [module for module in network.modules() if isinstance(module, (nn.BatchNorm2d, nn.SyncBatchNorm))]
    momenta = [norm.momentum for norm in norms]
    training = network.training
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch's word for a plain average
    network.train()
    count = 0
    for batch in batches:
        network(batch)
        count += 1
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.train(training)
    return count
