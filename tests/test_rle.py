"""Compressed run lengths of files: pycocotools' own pass, and damaged ones, on which it would hang, do not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as masks
from test_coco_backends import generated
from test_evaluate_odd_files import refused

from resnet_backbone.evaluation.rle import check_mask, check_rle_counts


def encoded(mask: np.ndarray) -> tuple[str, int, int]:
    rle = masks.encode(np.asfortranarray(mask.astype(np.uint8)))
    return rle["counts"].decode(), *rle["size"]


def counts_of(runs: list[int]) -> str:
    """By pycocotools, which checks nothing."""
    return masks.frPyObjects({"size": [10, 10], "counts": runs}, 10, 10)["counts"].decode()


def random_masks() -> list[np.ndarray]:
    """Noise, blobs, everything, nothing, one pixel, and one with runs beyond 16 bits; of many sizes."""
    rng = np.random.default_rng(0)
    made = [
        np.zeros((7, 9)),
        np.ones((7, 9)),
        np.eye(1),
        np.zeros((1, 1)),
        np.zeros((900, 1300)),
        np.ones((2000, 1700)),
    ]
    for _ in range(200):
        shape = tuple(rng.integers(1, 90, 2))
        made.append(rng.random(shape) < rng.choice([0.01, 0.5, 0.99]))
        coarse = rng.random((shape[0] // 8 + 1, shape[1] // 8 + 1)) < 0.5
        made.append(np.kron(coarse, np.ones((8, 8)))[: shape[0], : shape[1]])
    made.append(np.zeros((1500, 1500)))
    made[-1][700:, 700:] = 1
    return made


def test_what_pycocotools_writes_passes() -> None:
    for mask in random_masks():
        counts, height, width = encoded(mask)
        check_rle_counts(counts, height, width)
        with pytest.raises(ValueError, match=f"do not add up to its {height + 1} x {width} pixels"):
            check_rle_counts(counts, height + 1, width)


def test_cut_short_anywhere_it_does_not_pass() -> None:
    for mask in random_masks():
        counts, height, width = encoded(mask)
        for end in range(0, len(counts), len(counts) // 20 + 1):
            with pytest.raises(ValueError, match="do not add up"):
                check_rle_counts(counts[:end], height, width)


def test_any_run_lengths_are_judged_as_their_sum_says() -> None:
    """Differences of all signs; zeros within, which pycocotools writes nowhere, are the same to it."""
    rng = np.random.default_rng(1)
    for _ in range(300):
        runs = rng.integers(0, rng.choice([2, 20, 50_000]), rng.integers(1, 12)).tolist()
        counts = counts_of(runs)
        total = sum(runs)
        check_rle_counts(counts, total, 1)
        with pytest.raises(ValueError, match="do not add up"):
            check_rle_counts(counts, total - 1, 1)


@pytest.mark.parametrize(
    "counts",
    [
        "",
        " ",
        "hello world, this is no mask",
        "o",
        "é€😀",
        "\ud800",
        "0" * 40,
        "o" * 30 + "0",
        "O",
        "\x00",
        "MW3",
        "dé3",
    ],
)
def test_what_are_no_run_lengths(counts: str) -> None:
    """Among them -3 and 103, which are 100 together, and a letter that is none of ASCII's."""
    with pytest.raises(ValueError, match="do not add up to its 10 x 10 pixels; export it again"):
        check_rle_counts(counts, 10, 10)


def test_masks_of_files() -> None:
    check_mask([[1, 2, 3, 4, 5, 6]], "here")
    check_mask({"size": [2, 3], "counts": [0, 6]}, "here")
    for segmentation in ({"size": [2, 3], "counts": [0, 7]}, {"size": [2, 3], "counts": "7"}):
        with pytest.raises(ValueError, match="here has a mask with run lengths that do not add up to its 2 x 3"):
            check_mask(segmentation, "here")
    for segmentation in ({"size": [2], "counts": "6"}, {"size": [2, 3]}, 5, [["a"]], [1, 2, 3, 4]):
        with pytest.raises(ValueError, match="here has a segmentation that is neither polygons nor run lengths"):
            check_mask(segmentation, "here")


@pytest.mark.parametrize("which", ["annotation", "detection"])
def test_a_damaged_mask_in_a_file_ends_in_one_sentence(which: str, tmp_path: Path, capsys: Any) -> None:
    truth, results = json.loads(json.dumps(generated("normal")))
    counts = results[4]["segmentation"]["counts"]
    damaged = {**results[4]["segmentation"], "counts": counts[: len(counts) // 2]}
    (results if which == "detection" else truth["annotations"])[3]["segmentation"] = damaged
    error = refused(tmp_path, truth, results, capsys)
    assert f"{which} 3 has a mask with run lengths that do not add up to its 150 x 200 pixels; export it again" in error
