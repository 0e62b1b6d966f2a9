"""What the device does to whole batches is what a worker does to each view."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from made_pretraining import SMALL, options, tool
from PIL import Image
from torchvision.transforms import v2

from resnet_backbone.classification.data.augmentation import Augmentation, Changes
from resnet_backbone.classification.data.batch import collate
from resnet_backbone.classification.data.batches import training_batches
from resnet_backbone.classification.data.on_device import augments_there
from resnet_backbone.classification.data.policies import operations_of
from resnet_backbone.classification.data.splits import open_data
from resnet_backbone.classification.data.streams import Stream, generator, torch_drawing_from
from resnet_backbone.classification.data.views import Views
from resnet_backbone.classification.prepare.prepare import PrepareOptions, prepare

CPU = torch.device("cpu")
FILL = (1, 2, 3)
OPTIONS = {"interpolation": v2.InterpolationMode.BILINEAR, "fill": list(FILL)}
THEIRS = {"randaugment": v2.RandAugment(3, 15, **OPTIONS), "trivial_augment": v2.TrivialAugmentWide(**OPTIONS)}
SHAPES = {"Rotate", "ShearX", "ShearY"}


def photograph(seed: int) -> torch.Tensor:
    """3,64,64: smooth, as noise is not, and with all levels."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((64, 64), Image.Resampling.BICUBIC))
    return torch.from_numpy(smooth.copy()).permute(2, 0, 1)


IMAGES = torch.stack([photograph(seed) for seed in range(48)])


def pixels(view: torch.Tensor) -> np.ndarray:
    return view.permute(1, 2, 0).numpy()


@pytest.mark.parametrize("policy", list(THEIRS))
def test_policies_of_a_batch_are_torchvisions_on_each_image(policy):
    ours = Augmentation(flip=False, policy=policy, operations=3, magnitude=15, fill=FILL)
    changes, expected = [], []
    for place, image in enumerate(IMAGES):
        changes.append(ours.draw(64, 64, generator(Stream.VIEW, 5, place)))
        with torch_drawing_from(generator(Stream.VIEW, 5, place)):
            expected.append(THEIRS[policy](image))
    before = IMAGES.clone()
    assert torch.equal(ours.apply_to_batch(IMAGES, changes), torch.stack(expected))
    assert torch.equal(IMAGES, before), "the cut views are kept as they are"
    assert len({name for one in changes for name, _ in one.operations}) > 10


@pytest.mark.parametrize("policy", list(THEIRS))
def test_an_operation_on_a_batch_is_pillows_but_for_roundings(policy):
    """One level, along the edges of a turned image more, and Solarize's first level may or may not be inverted."""
    operations, drawn = operations_of(policy, 2, 9, FILL), set()
    torch.manual_seed(0)
    while len({name for name, _ in drawn}) < 14:
        drawn.update(operations.draw(64, 64))
    for operation in drawn:
        ours = operations.apply(IMAGES, operation)
        theirs = torch.stack([v2.functional.pil_to_tensor(operations.apply(Image.fromarray(pixels(image)), operation))
                              for image in IMAGES])  # fmt: skip
        apart = (ours.int() - theirs.int()).abs()
        name, magnitude = operation
        if name == "Solarize":
            apart[round(255 * magnitude) == IMAGES] = 0
        if name in SHAPES:
            assert (apart > 2).float().mean() < 0.04, operation
        else:
            assert apart.max() <= 1, operation


def test_flips_shifts_and_rectangles_of_a_batch_are_those_of_its_views():
    ours = Augmentation(colour_shift=0.3, erasing=0.5, fill=FILL)
    changes = [ours.draw(64, 64, generator(Stream.VIEW, 0, place)) for place in range(len(IMAGES))]
    views = torch.stack([torch.from_numpy(ours.apply(pixels(image), one).copy()).permute(2, 0, 1)
                         for image, one in zip(IMAGES, changes)])  # fmt: skip
    assert torch.equal(ours.apply_to_batch(IMAGES, changes), views)
    counts = Counter((one.mirrored, one.erased is not None) for one in changes)
    assert len(counts) == 4 and min(counts.values()) > 3


def test_nothing_to_do_is_nothing_done():
    assert torch.equal(Augmentation().apply_to_batch(IMAGES, [Changes()] * len(IMAGES)), IMAGES)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_the_same_wherever_they_are_augmented(folders, workers):
    config = replace(SMALL, erasing=0.5, colour_shift=0.1, workers=workers)
    train = open_data(str(folders)).train

    def batches(where):
        return list(islice(training_batches(train, replace(config, augment_on=where), 3, CPU), 4))

    for one, other in zip(batches("workers"), batches("device"), strict=True):
        assert torch.equal(one.images, other.images) and not other.changes and other.images.dtype == torch.uint8


@pytest.mark.parametrize("kind", ["folders", "shards"])
def test_workers_augment_nothing_where_the_device_does(folders, tmp_path, monkeypatch, kind):
    if kind == "shards":
        assert prepare(PrepareOptions(tmp_path / kind, folders=folders, any_counts=True, shard_size=1.0), str) == 0
    train = open_data(str(folders if kind == "folders" else tmp_path / kind)).train
    config = replace(SMALL, policy="randaugment", augment_on="device")
    done = {}
    for unused, where in (("apply", "device"), ("apply_to_batch", "workers")):
        with monkeypatch.context() as patch:
            patch.setattr(Augmentation, unused, lambda *_: pytest.fail("in the wrong place"))
            done[where] = next(training_batches(train, replace(config, augment_on=where), 0, CPU)).images
    cut = next(training_batches(train, replace(config, policy="none", flip=False), 0, CPU)).images
    assert not torch.equal(done["device"], cut) and not torch.equal(done["workers"], cut)


def test_a_cut_view_says_what_is_left_to_do_and_so_does_a_part_of_a_batch(folders):
    views, train = Views(replace(SMALL, policy="randaugment"), 10, cut=True), open_data(str(folders)).train
    seen = [(*views.training(train.read(index), index, 0, "x"), index) for index in range(4)]
    batch = collate([(view, 0, index, (), changes) for view, changes, index in seen])
    assert len(set(batch.changes)) == 4 and all(len(one.operations) == 2 for one in batch.changes)
    assert batch[1:3].changes == batch.changes[1:3] and batch[1:3].indices.tolist() == [1, 2]


def test_a_gpu_augments_and_a_cpu_lets_its_workers(folders):
    gpu = torch.device("cuda")
    assert [augments_there(replace(SMALL, augment_on=where), device) for where in ("auto", "workers", "device")
            for device in (CPU, gpu)] == [False, True, False, False, True, True]  # fmt: skip


def test_where_it_is_done_cannot_be_changed_half_way(folders, tmp_path, capsys):
    assert tool(options(tmp_path / "run", replace(SMALL, epochs=1.0), folders)) == 0
    changed = options(tmp_path / "run", replace(SMALL, epochs=1.0, augment_on="device"), folders, resume=True)
    assert tool(changed) == 1
    assert "begun with augment_on 'auto', now it is 'device'" in capsys.readouterr().err
    with pytest.raises(ValueError, match="augment_on: 'padded_crop' is computed on the device; leave 'workers' out"):
        replace(SMALL, augmentation="padded_crop", augment_on="workers")
