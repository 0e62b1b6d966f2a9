"""Finds out what a file of weights expects, by classifying labelled images under every hypothesis.

A wrong channel order or stride is never an error and costs about twenty points: only images can tell.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from resnet_backbone.images.decode import open_image
from resnet_backbone.images.listing import class_names, image_names, validation_folder
from resnet_backbone.images.transforms import central_view, normalise
from resnet_backbone.models.build import build_network
from resnet_backbone.models.network import Network
from resnet_backbone.models.variants import find_variant
from resnet_backbone.weights.compare import options_of
from resnet_backbone.weights.errors import WeightsError
from resnet_backbone.weights.load import Source, load_weights, read_source
from resnet_backbone.weights.record import WeightRecord
from resnet_backbone.weights.sources import CAFFE_MEAN, IMAGENET_MEAN, IMAGENET_STD

Statistics = tuple[tuple[float, ...], tuple[float, ...]]

# Mean and deviation in RGB and pixel units, as the weights in circulation were trained with.
KNOWN: dict[str, Statistics] = {
    "mean and deviation": (IMAGENET_MEAN, IMAGENET_STD),
    "mean alone": (CAFFE_MEAN[::-1], (1.0, 1.0, 1.0)),
    "0.5 and 0.5": ((127.5,) * 3, (127.5,) * 3),
    "0 to 1": ((0.0,) * 3, (255.0,) * 3),
}
LABELS = "labels.txt"
DIFFERENT = 0.05  # two hypotheses are told apart below this p


@dataclass(frozen=True)
class Hypothesis:
    """One way to feed and build a network."""

    channel_order: str
    statistics: str
    stride_in_1x1: bool | None

    def __str__(self) -> str:
        stride = {None: "", True: ", stride in 1x1", False: ", stride in 3x3"}[self.stride_in_1x1]
        return f"{self.channel_order}, {self.statistics}{stride}"

    def values(self) -> Statistics:
        """Mean and deviation in the order of `channel_order`."""
        mean, std = KNOWN[self.statistics]
        return (mean, std) if self.channel_order == "RGB" else (mean[::-1], std[::-1])


@dataclass(frozen=True)
class Row:
    """A hypothesis and how many of `images` it classified right."""

    hypothesis: Hypothesis
    correct: int
    images: int


@dataclass(frozen=True)
class VerifyReport:
    """Attributes: rows, best first; `winner` is None where the best two cannot be told apart (`p`, McNemar's)."""

    rows: tuple[Row, ...]
    winner: Hypothesis | None
    p: float
    record: WeightRecord

    def __str__(self) -> str:
        lines = [f"{'hypothesis':<46} {'correct':>12} {'top-1':>8}"]
        for row in self.rows:
            share = 100 * row.correct / row.images
            lines.append(f"{row.hypothesis!s:<46} {row.correct:>5} of {row.images:<4} {share:>6.2f} %")
        best, second = self.rows[0], self.rows[1]
        if self.winner is None:
            lines.append(
                f"cannot be told apart (p = {self.p:.2g}): {best.hypothesis} | {second.hypothesis}; use more images"
            )
        else:
            lines.append(f"expects {self.winner} (against the next: p = {self.p:.2g}, paired exact test)")
        return "\n".join(lines)


def labelled_images(folder: str | Path) -> list[tuple[Path, int]]:
    """(file, class) from `labels.txt` (lines of name and class index) or from one folder a class, in sorted order.

    Raises:
        ValueError: neither is there, a line is malformed, or a named file is missing.
    """
    folder = Path(folder)
    labels = folder / LABELS
    if labels.is_file():
        pairs = []
        for number, line in enumerate(labels.read_text().splitlines(), start=1):
            name, _, index = line.strip().rpartition(" ")
            if not name or not index.isdigit():
                raise ValueError(f"{labels}:{number}: {line!r} is not a file name and a class index")
            if not (folder / name).is_file():
                raise ValueError(f"{labels}:{number}: no image {folder / name}")
            pairs.append((folder / name, int(index)))
        return pairs
    classes = [folder / name for name in class_names(folder)] if folder.is_dir() else []
    pairs = [(one / name, index) for index, one in enumerate(classes) for name in image_names(one)]
    if not pairs:
        raise ValueError(f"{folder}: neither labels.txt nor class folders with images in it")
    return pairs


def check_class_folders(weights: str | Path, count: int, folders: int) -> None:
    """Refuses images in another number of class folders than a classifier's classes: labels would be other ones.

    Raises:
        ValueError: says what there could be.
    """
    if folders != count:
        raise ValueError(
            f"{weights}: {count} classes, but the images lie in {folders} class folders; give all classes a folder "
            f"each, or a {LABELS} with lines of file name and class index"
        )


def hypotheses_for(source: Source) -> list[Hypothesis]:
    """Every channel order and normalisation, and both places of the stride where there are bottlenecks."""
    variant = find_variant(source.record.variant or "")
    strides: tuple[bool | None, ...] = (False, True) if variant.block == "bottleneck" else (None,)
    return [Hypothesis(o, s, t) for t, o, s in itertools.product(strides, ("RGB", "BGR"), KNOWN)]


def verify(
    source: str | Path,
    images: str | Path,
    *,
    screen: int | None = 100,
    limit: int | None = None,
    batch: int = 50,
    progress: Callable[[str], None] = lambda _: None,
) -> VerifyReport:
    """Classifies labelled images under every hypothesis; those clearly worse after `screen` images go no further.

    Args:
        images: folder with `labels.txt`, or one folder a class, themselves or in its `val`.
        screen: images after which a hypothesis may drop out; None takes all to the end.
        limit: how many of the images to use, drawn with a fixed seed; None is all.
        progress: is told a line after each hypothesis.

    Raises:
        WeightsError: no classifier. ValueError: no labelled images, or they are of other classes.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"--limit {limit}: at least 1 image")
    read, images = read_source(source), validation_folder(images)
    if read.detector or read.record.num_classes is None:
        raise WeightsError(f"{source}: no classifier in it, so that images cannot tell what it expects")
    pairs = labelled_images(images)
    if not (images / LABELS).is_file():
        check_class_folders(source, read.record.num_classes, len(class_names(images)))
    order = np.random.default_rng(0).permutation(len(pairs))[:limit]
    pairs = [pairs[i] for i in order]
    wrong = [p for p, label in pairs if label >= read.record.num_classes]
    if wrong:
        raise ValueError(f"{wrong[0]}: its class is not among the {read.record.num_classes} of {source}")
    size, resize = read.record.input_size or 224, read.record.resize
    views = torch.stack([central_view(open_image(p), resize, size, read.record.interpolation) for p, _ in pairs])
    labels = torch.tensor([label for _, label in pairs])
    first = len(pairs) if screen is None else min(screen, len(pairs))
    right: dict[Hypothesis, npt.NDArray[np.bool_]] = {}
    for hypothesis, net in _networks(read):
        right[hypothesis] = _classify(net, hypothesis, views[:first], labels[:first], batch)
        progress(f"{hypothesis}: {right[hypothesis].sum()} of {first}")
    best = max(right.values(), key=lambda r: r.sum())
    alive = {h for h, r in right.items() if paired_p(best, r) > DIFFERENT / 100}
    for hypothesis, net in _networks(read):
        if hypothesis in alive and first < len(pairs):
            rest = _classify(net, hypothesis, views[first:], labels[first:], batch)
            right[hypothesis] = np.concatenate([right[hypothesis], rest])
            progress(f"{hypothesis}: {right[hypothesis].sum()} of {len(pairs)}")
    return _judge(read.record, right)


def _judge(record: WeightRecord, right: dict[Hypothesis, npt.NDArray[np.bool_]]) -> VerifyReport:
    ranked = sorted(right, key=lambda h: (len(right[h]), right[h].sum()), reverse=True)
    rows = tuple(Row(h, int(right[h].sum()), len(right[h])) for h in ranked)
    shared = min(len(right[h]) for h in ranked[:2])
    p = paired_p(right[ranked[0]][:shared], right[ranked[1]][:shared])
    winner = ranked[0] if p < DIFFERENT else None
    if winner is not None:
        mean, std = winner.values()
        note = f"input found by verify: {rows[0].correct} of {rows[0].images} images right, next best p = {p:.2g}"
        stride = winner.stride_in_1x1
        record = replace(
            record, channel_order=winner.channel_order, mean=mean, std=std, stride_in_1x1=stride, assumed=False,
            notes=(*record.notes, note),
        )  # fmt: skip
    return VerifyReport(rows, winner, p, record)


def paired_p(a: npt.NDArray[np.bool_], b: npt.NDArray[np.bool_]) -> float:
    """Two-sided exact McNemar test on the images that exactly one of the two has right."""
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    n, k = only_a + only_b, min(only_a, only_b)
    tail = sum(math.comb(n, i) for i in range(k + 1)) / 2**n
    return min(1.0, 2 * tail)


def _networks(read: Source) -> Iterator[tuple[Hypothesis, Network]]:
    """Every hypothesis with a network built for its stride; one network a stride."""
    nets: dict[bool | None, Network] = {}
    for hypothesis in hypotheses_for(read):
        stride = hypothesis.stride_in_1x1
        if stride not in nets:
            record = replace(read.record, stride_in_1x1=stride)
            net = build_network(record.variant or "", **options_of(read.state, record))
            load_weights(net, replace(read, record=record))
            nets[stride] = net.eval()
        yield hypothesis, nets[stride]


@torch.no_grad()
def _classify(
    net: Network, hypothesis: Hypothesis, views: torch.Tensor, labels: torch.Tensor, batch: int
) -> npt.NDArray[np.bool_]:
    mean, std = hypothesis.values()
    right = []
    for pixels, wanted in zip(views.split(batch), labels.split(batch)):
        logits = net(normalise(pixels, mean, std, hypothesis.channel_order))
        assert isinstance(logits, torch.Tensor)
        right.append((logits.argmax(1) == wanted).numpy())
    return np.concatenate(right)
