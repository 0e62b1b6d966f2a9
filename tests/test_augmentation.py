"""Views of one image: boxes by torchvision's and the paper's law, and what is done to the pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from resnet_backbone.classification.data.augmentation import Augmentation, Changes, drawn_rectangle
from resnet_backbone.classification.data.boxes import resized_crop, shorter_side
from resnet_backbone.classification.data.streams import Stream, generator, torch_drawing_from
from resnet_backbone.classification.data.views import Views
from resnet_backbone.classification.recipe.config import TrainConfig

NOISE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)


def changed(augmentation, view, rng):
    """Drawn and applied."""
    return augmentation.apply(view, augmentation.draw(*view.shape[:2], rng))


class TorchNumbers:
    """torch's numbers under the names of numpy's, so that torchvision and we draw the same ones."""

    def uniform(self, low, high):
        return torch.empty(1).uniform_(low, high).item()

    def integers(self, low, high):
        return torch.randint(low, high, (1,)).item()


@pytest.mark.parametrize("size", [(375, 500), (500, 375), (64, 64), (20, 400), (400, 20), (300, 170)])
@pytest.mark.parametrize(("scale", "ratio"), [((0.08, 1.0), 4 / 3), ((0.9, 1.0), 2.0)])
def test_resized_crops_are_torchvisions(size, scale, ratio):
    crop = v2.RandomResizedCrop(8, scale=scale, ratio=(1 / ratio, ratio))
    image = torch.empty(3, *size)
    boxes = set()
    for seed in range(100):
        torch.manual_seed(seed)
        theirs = crop.make_params([image])
        torch.manual_seed(seed)
        box = resized_crop(*size, scale, ratio, TorchNumbers())
        boxes.add(box)
        left, top, right, bottom = box
        assert {"top": top, "left": left, "height": bottom - top, "width": right - left} == theirs
    # Long images leave no room for ten tries: always the middle.
    assert len(boxes) == 1 if max(size) / min(size) > 10 else len(boxes) > 20


@pytest.mark.parametrize("size", [(96, 128), (128, 96), (75, 75), (70, 201)])
def test_the_papers_crop_is_resize_then_crop(size):
    pixels = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    seen = set()
    for seed in range(30):
        box = shorter_side(*size, (64, 120), 56, np.random.default_rng(seed))
        side = int(np.random.default_rng(seed).integers(64, 121))
        resized = v2.functional.resize(image, side, v2.InterpolationMode.BILINEAR)
        x, y = resized.width / size[1], resized.height / size[0]
        left, top = round(box[0] * x), round(box[1] * y)
        expected = resized.crop((left, top, left + 56, top + 56))
        got = image.resize((56, 56), Image.Resampling.BILINEAR, box=box)
        # Pillow keeps boxes in single precision and weights in whole numbers: one or two levels.
        assert abs(np.asarray(got).astype(int) - np.asarray(expected)).max() <= 2
        seen.add((side, left, top))
    assert len(seen) == 30


def test_every_place_of_the_papers_crop_is_as_likely():
    rng = np.random.default_rng(0)
    boxes = np.array([shorter_side(64, 68, (64, 64), 62, rng) for _ in range(15_000)])
    places = np.unique(boxes[:, :2], axis=0, return_counts=True)
    assert places[0].tolist() == [[left, top] for left in range(7) for top in range(3)]
    assert abs(places[1] - 15_000 / 21).max() < 150
    assert (boxes[:, 2:] - boxes[:, :2] == 62).all()


@pytest.mark.parametrize("policy", ["randaugment", "trivial_augment"])
def test_policies_are_torchvisions_and_leave_torchs_numbers_alone(policy):
    options = {"interpolation": v2.InterpolationMode.BILINEAR, "fill": [1, 2, 3]}
    theirs = v2.RandAugment(3, 15, **options) if policy == "randaugment" else v2.TrivialAugmentWide(**options)
    ours = Augmentation(flip=False, policy=policy, operations=3, magnitude=15, fill=(1, 2, 3))
    different = 0
    for position in range(20):
        before = torch.get_rng_state()
        got = changed(ours, NOISE, generator(Stream.VIEW, 5, position))
        assert torch.equal(torch.get_rng_state(), before)
        with torch_drawing_from(generator(Stream.VIEW, 5, position)):
            expected = np.asarray(theirs(Image.fromarray(NOISE)))
        assert got.dtype == np.uint8 and np.array_equal(got, expected)
        different += not np.array_equal(got, NOISE)
    assert different > 10


def test_views_depend_on_seed_and_position_alone():
    everything = Augmentation(policy="randaugment", colour_shift=0.1, erasing=0.5)

    def view(seed, position):
        torch.rand(1)
        return changed(everything, NOISE, generator(Stream.VIEW, seed, position)).tobytes()

    assert view(0, 3) == view(0, 3)
    assert len({view(seed, position) for seed in (0, 1) for position in range(5)}) == 10


def test_half_of_the_views_are_mirrored():
    rng = np.random.default_rng(0)
    views = [changed(Augmentation(), NOISE, rng) for _ in range(1000)]
    mirrored = sum(np.array_equal(view, NOISE[:, ::-1]) for view in views)
    assert mirrored + sum(np.array_equal(view, NOISE) for view in views) == 1000
    assert 430 < mirrored < 570
    assert changed(Augmentation(flip=False), NOISE, rng) is NOISE


def test_the_colour_shift_is_one_for_all_pixels_with_alexnets_covariance():
    grey, ours = np.full((2, 2, 3), 128, np.uint8), Augmentation(flip=False, colour_shift=0.1)
    rng = np.random.default_rng(0)
    shifts = np.array([changed(ours, grey, rng)[0, 0].astype(float) - 128 for _ in range(4000)])
    assert abs(shifts.mean(0)).max() < 0.25
    # Sum over the components of (0.1 * 255 * eigenvalue)^2 times the squared entry of the eigenvector, and
    # 1/12 for the rounding: 10.06 for red.
    red = 25.5**2 * (0.2175**2 * 0.5675**2 + 0.0188**2 * 0.7192**2 + 0.0045**2 * 0.4009**2)
    assert shifts[:, 0].var() == pytest.approx(red + 1 / 12, rel=0.08)
    assert np.corrcoef(shifts.T)[0, 1] > 0.97
    shifted = changed(ours, NOISE, np.random.default_rng(1)).astype(int) - NOISE
    inside = ((NOISE > 30) & (NOISE < 225)).all(-1)
    assert len(np.unique(shifted[inside], axis=0)) == 1


def test_erased_rectangles_are_torchvisions():
    ours, theirs, shapes = [], [], set()
    erasing = v2.RandomErasing(p=1, value=7)
    image = torch.zeros(3, 48, 64, dtype=torch.uint8)
    torch.manual_seed(0)
    for seed in range(1500):
        changes = Changes(erased=drawn_rectangle(48, 64, np.random.default_rng(seed)))
        view = Augmentation(fill=(7, 8, 9)).apply(np.zeros((48, 64, 3), np.uint8), changes)
        painted = view[..., 0] == 7
        ours.append(painted.mean())
        theirs.append((erasing(image)[0] == 7).float().mean().item())
        rows, columns = np.flatnonzero(painted.any(1)), np.flatnonzero(painted.any(0))
        assert painted[np.ix_(rows, columns)].all() and (view[painted] == (7, 8, 9)).all() and not view[~painted].any()
        shapes.add((len(rows), len(columns)))
    assert len(shapes) > 200
    quantiles = [0.05, 0.25, 0.5, 0.75, 0.95]
    assert np.quantile(ours, quantiles) == pytest.approx(np.quantile(theirs, quantiles), abs=0.025)


def test_a_share_of_the_views_is_erased():
    white = np.full((32, 32, 3), 255, np.uint8)
    rng = np.random.default_rng(0)
    erased = sum((changed(Augmentation(erasing=0.25), white, rng) == (124, 116, 104)).any() for _ in range(1000))
    assert 190 < erased < 310 and (white == 255).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 50), (3, 2)])
def test_views_of_images_of_few_pixels_are_of_one_at_least(size):
    config = TrainConfig(network="resnet18", augmentation="shorter_side", epochs=1, flip=False)
    columns = np.arange(size[1]) * 5
    pixels = np.broadcast_to(columns[None, :, None], (*size, 3)).astype(np.uint8)
    views = [Views(config, 10).training(pixels, place, 0, "x")[0] for place in range(60)]
    assert all(view.shape == (3, 224, 224) for view in views)
    assert {int(view.max()) for view in views} <= set(columns.tolist())
