"""Weights that are there already, with the batch norms of the paper's detectors in place of moving averages."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from resnet_backbone.classification.data.folders import ClassFolders, Paths
from resnet_backbone.classification.data.loader import read
from resnet_backbone.classification.data.once import Viewed
from resnet_backbone.classification.data.splits import Files
from resnet_backbone.classification.testing.batch_norm import NORMS, give_statistics, recompute_statistics
from resnet_backbone.classification.testing.images import views_of, whole
from resnet_backbone.classification.testing.protocols import protocol
from resnet_backbone.classification.testing.testing import load_network
from resnet_backbone.engine.device import find_device
from resnet_backbone.engine.progress import Progress
from resnet_backbone.images.listing import image_names
from resnet_backbone.images.transforms import normalise
from resnet_backbone.weights.files import check_suffix, write_weights
from resnet_backbone.weights.load import AFFINE_ONLY
from resnet_backbone.weights.naming import facts_of
from resnet_backbone.weights.record import MEASURED_NOTE, STATISTICS_NOTE, WeightRecord


def recompute_norms(
    source: str | Path,
    output: str | Path,
    images: str | Path,
    *,
    count: int | None = None,
    batch: int = 128,
    workers: int = 4,
    device: str = "",
) -> WeightRecord:
    """Writes a classifier with mean and variance of every batch norm over a folder's images (Appendix A).

    Norms that are affine only get them too, and another scale and shift, so that the network answers as before.

    The images are seen as the record's test sees them: central crop, mean and deviation. They are shuffled, for the
    batches to mix classes as those of a training do.

    Args:
        images: every image file below it, or below its `train`.
        count: only so many, drawn with a fixed seed; None is all.
        batch: images that go through the network, and are normalised, together.

    Raises:
        ValueError: no classifier with batch norms, too few images, or one that cannot be read.
        OSError: `output` cannot be written.
    """
    check_suffix(output)
    if batch < 2 or workers < 0 or (count is not None and count < 2):
        raise ValueError(f"--batch {batch}, --workers {workers}, --count {count}: at least 2, 0 and 2")
    files = _files(Path(images))
    order = np.random.default_rng(0).permutation(len(files))[:count]
    network, record = load_network(source)
    if not any(isinstance(module, NORMS) for module in network.modules()):
        raise ValueError(f"{source}: {network.variant.name} has no batch norms here; use the weights as they are")
    affine_only = facts_of(network.state_dict()).affine_only
    network.to(find_device(device, "--device"))
    progress = Progress(len(order), "batch norms")
    chunks = [chunk.tolist() for chunk in np.array_split(order, max(len(order) // batch, 1))]
    batches = _batches(files, chunks, record, workers, next(network.parameters()).device, progress.step)
    done = (give_statistics if affine_only else recompute_statistics)(network, batches)
    note = f"{STATISTICS_NOTE} over {done:,} images of {Path(images).resolve().name}, central crop"
    old = (AFFINE_ONLY, STATISTICS_NOTE) if affine_only else (STATISTICS_NOTE, MEASURED_NOTE)
    notes = (*(one for one in record.notes if not one.startswith(old)), note)
    record = replace(record, naming="resnet_backbone", notes=notes)
    if not affine_only:
        record = replace(record, top1=None, top5=None)  # what was measured was so with other statistics
    write_weights(output, network.state_dict(), record)
    return record


def _files(folder: Path) -> Files:
    """As if they were of one class: nobody asks for it."""
    folder = folder / "train" if (folder / "train").is_dir() else folder
    names = image_names(folder) if folder.is_dir() else []
    if len(names) < 2:
        raise ValueError(f"--images {folder}: {len(names)} images there; give a folder of training images")
    return Files(ClassFolders((), Paths(folder, names), np.zeros(len(names), np.int64)))


def _batches(
    files: Files,
    chunks: list[list[int]],
    record: WeightRecord,
    workers: int,
    device: torch.device,
    step: Callable[[], None],
) -> Iterator[torch.Tensor]:
    viewed = Viewed(files, partial(views_of, protocol("1-crop"), record))
    for seen in read(viewed, min(workers, os.cpu_count() or 1), batch_sampler=chunks, collate_fn=whole):
        pixels = torch.stack([view for (view,), *_ in seen])
        yield normalise(pixels, record.mean, record.std, record.channel_order).to(device)
        for _ in seen:
            step()
