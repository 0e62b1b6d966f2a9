"""Mixup and CutMix: shares, areas and targets that fit each other, torchvision's draws, and losses as timm's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from timm.loss import BinaryCrossEntropy, LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from torch.nn import functional as F
from torchvision.transforms import v2

from resnet_backbone.classification.data.streams import Stream, generator, torch_drawing_from
from resnet_backbone.classification.training.mixing import classification_loss, mix

LABELS = torch.tensor([3, 0, 4, 1, 2])
# The image of label k has the value k everywhere, so that a mixed one tells what it was made of.
IMAGES = LABELS.float()[:, None, None, None].expand(5, 3, 12, 20).contiguous()


def mixed(iteration, *, mixup=0.0, cutmix=0.0, seed=0, images=IMAGES):
    return mix(images, LABELS, 7, mixup=mixup, cutmix=cutmix, seed=seed, iteration=iteration)


def test_mixup_is_the_sum_that_its_targets_say():
    shares = []
    for iteration in range(300):
        images, targets = mixed(iteration, mixup=0.4)
        share = targets[0, LABELS[0]]
        expected = share * IMAGES + (1 - share) * IMAGES[[4, 0, 1, 2, 3]]
        torch.testing.assert_close(images, expected)
        one_hot = torch.eye(7)[LABELS]
        torch.testing.assert_close(targets, share * one_hot + (1 - share) * one_hot[[4, 0, 1, 2, 3]])
        shares.append(float(share))
    # Beta(a, a) has mean 1/2 and variance 1 / (4 (2a + 1)).
    assert np.mean(shares) == pytest.approx(0.5, abs=0.07)
    assert np.var(shares) == pytest.approx(1 / 7.2, abs=0.02)


def test_cutmix_pastes_exactly_the_area_that_its_targets_say():
    areas = []
    for iteration in range(200):
        images, targets = mixed(iteration, cutmix=1.0)
        assert (images[:, 0] == images[:, 1]).all()
        for row, own in enumerate(LABELS.tolist()):
            other = int(LABELS[row - 1])
            pasted = images[row, 0] == other
            assert ((images[row, 0] == own) | pasted).all()
            rows, columns = pasted.any(1), pasted.any(0)
            assert torch.equal(pasted, rows[:, None] & columns)
            area = float(pasted.sum()) / (12 * 20)
            assert targets[row, other] == pytest.approx(area, abs=1e-6)
            assert targets[row, own] == pytest.approx(1 - area, abs=1e-6)
        areas.append(area)
    assert np.std(areas) > 0.1


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_the_draws_are_torchvisions_and_leave_torchs_numbers_alone(name):
    images = torch.randn(5, 3, 12, 20)
    theirs = (v2.MixUp if name == "mixup" else v2.CutMix)(alpha=0.8, num_classes=7)
    for iteration in range(5):
        before = torch.get_rng_state()
        got = mixed(iteration, seed=9, images=images, **{name: 0.8})
        assert torch.equal(torch.get_rng_state(), before)
        rng = generator(Stream.MIXING, 9, iteration)
        rng.random()
        with torch_drawing_from(rng):
            expected = theirs(images, LABELS)
        assert all(torch.equal(a, b) for a, b in zip(got, expected))


def test_batches_depend_on_seed_and_iteration_and_labels_sum_to_one():
    kinds = []
    for iteration in range(200):
        images, targets = mixed(iteration, mixup=0.2, cutmix=1.0, seed=iteration % 2)
        torch.rand(1)
        again = mixed(iteration, mixup=0.2, cutmix=1.0, seed=iteration % 2)
        assert torch.equal(images, again[0]) and torch.equal(targets, again[1])
        torch.testing.assert_close(targets.sum(1), torch.ones(5))
        kinds.append(set(images.unique().tolist()) <= {0, 1, 2, 3, 4})
    assert 70 < sum(kinds) < 130
    images, targets = mixed(0)
    assert images is IMAGES and torch.equal(targets, torch.eye(7)[LABELS])
    assert not torch.equal(mixed(0, mixup=1.0)[0], mixed(0, mixup=1.0, seed=1)[0])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_losses_are_timms(smoothing):
    logits = torch.randn(5, 7, dtype=torch.float64)
    hard, soft = F.one_hot(LABELS, 7).double(), torch.softmax(torch.randn(5, 7, dtype=torch.float64), 1)
    smooth = LabelSmoothingCrossEntropy(smoothing)(logits, LABELS)
    spread = SoftTargetCrossEntropy()(logits, soft * (1 - smoothing) + smoothing / 7)
    torch.testing.assert_close(classification_loss(logits, LABELS, smoothing=smoothing), smooth)
    torch.testing.assert_close(classification_loss(logits, hard, smoothing=smoothing), smooth)
    torch.testing.assert_close(classification_loss(logits, soft, smoothing=smoothing), spread)
    theirs = BinaryCrossEntropy(smoothing)(logits, LABELS)
    ours = classification_loss(logits, LABELS, kind="binary_cross_entropy", smoothing=smoothing)
    torch.testing.assert_close(ours, theirs)
    # timm smooths soft targets when it mixes, not in the loss.
    theirs = BinaryCrossEntropy(0.0)(logits, soft * (1 - smoothing) + smoothing / 7)
    ours = classification_loss(logits, soft, kind="binary_cross_entropy", smoothing=smoothing)
    torch.testing.assert_close(ours, theirs)
