"""Batched crops against one image after the other, and the distribution of what is drawn."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from resnet_backbone.classification.data.batched_crops import crop_batch, draw_crops, pack


def one_crop(image, mean, std, top, left, mirrored, padding):
    """The paper's words: subtract, pad, crop, or its mirror image."""
    height, width = image.shape[1:]
    padded = np.pad((image - mean) / std, ((0, 0), (padding, padding), (padding, padding)))
    crop = padded[:, top : top + height, left : left + width]
    return crop[:, :, ::-1] if mirrored else crop


@pytest.mark.parametrize("padding", [0, 4])
@pytest.mark.parametrize("mean_image", [True, False])
@pytest.mark.parametrize("size", [(32, 32), (12, 20)])
def test_batches_are_the_plain_crops(padding, mean_image, size):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (50, 3, *size), dtype=np.uint8)
    mean = images.mean(0) if mean_image else images.mean((0, 2, 3)).reshape(3, 1, 1)
    std = np.array([60.0, 61.0, 62.0]).reshape(3, 1, 1)
    indices = rng.integers(0, 50, 40)
    crops = draw_crops(1, 2, 40, padding)
    packed = torch.from_numpy(pack(indices, crops))
    got = crop_batch(torch.from_numpy(images), packed, padding, torch.from_numpy(mean), torch.from_numpy(std))
    plain = [
        one_crop(images[i], mean, std, *offset, mirrored, padding)
        for i, offset, mirrored in zip(indices, crops.offsets, crops.mirrored)
    ]
    assert crops.mirrored.any() and not crops.mirrored.all()
    assert torch.equal(got, torch.from_numpy(np.stack(plain)))


def test_a_part_of_the_batch_is_that_part():
    images = torch.randint(0, 256, (9, 3, 32, 32), dtype=torch.uint8)
    indices, crops, mean = np.arange(9)[::-1].copy(), draw_crops(0, 0, 9), torch.full((3, 1, 1), 128.0)
    whole = crop_batch(images, torch.from_numpy(pack(indices, crops)), 4, mean)
    assert whole.dtype == torch.float32
    part = torch.from_numpy(pack(indices[2::3], crops[2::3]))
    assert torch.equal(crop_batch(images, part, 4, mean), whole[2::3])


def test_draws_depend_on_seed_and_iteration_and_are_uniform():
    crops = draw_crops(3, 7, 81_000)
    again = draw_crops(3, 7, 81_000)
    assert np.array_equal(crops.offsets, again.offsets) and np.array_equal(crops.mirrored, again.mirrored)
    assert not np.array_equal(crops.offsets, draw_crops(3, 8, 81_000).offsets)
    # 81 places, 1000 each; the deviation of a count is 31.
    counts = np.bincount(crops.offsets[:, 0] * 9 + crops.offsets[:, 1], minlength=81)
    assert len(counts) == 81 and abs(counts - 1000).max() < 160
    assert crops.mirrored.mean() == pytest.approx(0.5, abs=0.01)
