"""Pictures: the right size, changed where objects are and nowhere else, readable at any size, never an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from resnet_backbone.evaluation import labels
from resnet_backbone.evaluation.pictures import Objects, colour_of, contact_sheet, draw, save, side_by_side

GREY = np.full((120, 160, 3), 128, np.uint8)


def changed(picture: np.ndarray, before: np.ndarray = GREY) -> np.ndarray:
    return (picture != before).any(axis=2)


def test_draws_the_box_in_the_colour_of_its_class_and_leaves_the_rest_alone() -> None:
    before = GREY.copy()
    picture = draw(GREY, Objects([[40, 50, 100, 110]], [3]), ["a", "b", "c", "d"])
    assert (before == GREY).all() and picture.shape == GREY.shape and picture.dtype == np.uint8
    assert tuple(picture[80, 40]) == tuple(picture[109, 70]) == colour_of(3)
    rows, columns = np.nonzero(changed(picture))
    assert rows.min() >= 50 - 20 and rows.max() <= 110 and columns.min() >= 39 and columns.max() <= 101
    assert not changed(picture)[60:100, 50:90].any()


def test_a_mask_is_translucent_and_ends_where_it_ends() -> None:
    mask = np.zeros((1, 120, 160), bool)
    mask[0, 60:100, 60:90] = True
    picture = draw(GREY, Objects([[60, 60, 90, 100]], [0], masks=mask), ["thing"])
    inside = changed(picture)[63:97, 63:87]
    assert inside.all() and (picture[80, 75] != colour_of(0)).any()
    assert not changed(picture)[63:97, 100:].any()


def test_a_label_shows_class_score_and_remark() -> None:
    seen: list[str] = []

    def spy(picture: np.ndarray, texts: Any) -> np.ndarray:
        seen.extend(text for text, _, _ in texts)
        return picture

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("resnet_backbone.evaluation.pictures.draw_labels", spy)
        draw(GREY, Objects([[0, 0, 9, 9], [5, 5, 8, 8]], [0, 7], scores=[0.3, 0.875]), ["cat"])
        draw(GREY, Objects([[0, 0, 9, 9]], [0], remarks=["crowd"]), ["cat"])
    assert seen == ["class 7 0.88", "cat 0.30", "cat (crowd)"]


@pytest.mark.parametrize("size", [(16, 16), (120, 160), (480, 640), (2160, 3840)])
@pytest.mark.parametrize("name", ["x", "a name that is much longer than a small picture is wide", "Blutplättchen"])
def test_labels_stay_inside_and_readable(size: tuple[int, int], name: str) -> None:
    height, width = size
    font = labels.font_of(max(labels.SMALLEST, round((height * width) ** 0.5 / 42)))
    assert font.size >= 10
    text = labels.shortened(name, font, width)
    wide, high = labels.extent(text, font)
    assert wide <= max(width, labels.extent("x\u2026", font)[0])
    for box in [(0, 0, 3, 3), (width - 3, height - 3, width, height), (0, 0, width, height)]:
        left, top, right, bottom = labels.free_place((wide, high), box, [], [], (width, height))
        assert 0 <= left < right <= width and 0 <= top < bottom <= height


def test_labels_of_neighbours_do_not_hide_each_other() -> None:
    taken: list[labels.Place] = []
    for box in [(50, 50, 80, 80), (52, 52, 82, 82), (54, 54, 84, 84)]:
        taken.append(labels.free_place((40, 12), box, taken, [], (160, 120)))
    boards = np.zeros((120, 160), int)
    for left, top, right, bottom in taken:
        boards[top:bottom, left:right] += 1
    assert boards.max() == 1


@pytest.mark.parametrize(
    "box",
    [
        [-50, -50, 900, 900],
        [500, 500, 600, 600],
        [30, 30, 30, 30],
        [60, 60, 20, 20],
        [1e30, 0, 1e31, 5],
        [np.nan, 0, 5, 5],
    ],
)
def test_odd_boxes_do_not_matter(box: list[float]) -> None:
    assert draw(GREY, Objects([box, [10, 10, 50, 50]], [0, 1], scores=[1, 0.5])).shape == GREY.shape


def test_nothing_found_is_the_image_itself() -> None:
    for image in (GREY, GREY[:, :, 0], GREY[:, :, :1], GREY.astype(float)):
        assert (draw(image, Objects(np.zeros((0, 4)), [])) == GREY).all()
    with pytest.raises(ValueError, match=r"shape \(120, 160, 4\)"):
        draw(np.zeros((120, 160, 4)), Objects([], []))


def test_colours_are_stable_and_neighbours_differ() -> None:
    colours = [colour_of(i) for i in range(80)]
    assert colours == [colour_of(i) for i in range(80)] and len(set(colours)) == 80
    first = np.array(colours[:10], float)
    distances = np.abs(first[:, None] - first[None]).sum(-1) + 999 * np.eye(10)
    assert distances.min() > 60


@pytest.mark.parametrize(
    ("shape", "panel"), [((40, 160), (125, 500)), ((400, 160), (500, 200)), ((2000, 4000), (500, 1000))]
)
def test_side_by_side_brings_small_and_large_images_to_one_scale(
    shape: tuple[int, int], panel: tuple[int, int]
) -> None:
    objects = Objects([[5, 5, 30, 30]], [0])
    sheet = side_by_side(np.zeros((*shape, 3), np.uint8), objects, objects, ["thing"])
    height, width = panel
    if shape[1] > 2.2 * shape[0]:
        assert sheet.shape[1] == width and sheet.shape[0] > 2 * height + 8
    else:
        assert sheet.shape[1] == 2 * width + 8 and height < sheet.shape[0] < height + 60


def test_contact_sheet_holds_every_picture_once() -> None:
    pictures = [np.full((60 + 10 * i, 100, 3), 10 * (i + 1), np.uint8) for i in range(7)]
    sheet = contact_sheet(pictures, width=900)
    assert sheet.shape[1] == 900
    counts = {i: int((sheet == 10 * (i + 1)).all(axis=2).sum()) for i in range(7)}
    assert all(counts[i] > 0.8 * counts[0] for i in range(7))
    assert contact_sheet(pictures, columns=1, width=400).shape[0] > sheet.shape[0]
    with pytest.raises(ValueError, match="no pictures"):
        contact_sheet([])


def test_saves_png_exactly_and_jpeg_nearly(tmp_path: Path) -> None:
    picture = draw(GREY, Objects([[40, 50, 100, 110]], [3]))
    save(tmp_path / "new folder" / "a.png", picture)
    assert (np.asarray(Image.open(tmp_path / "new folder" / "a.png")) == picture).all()
    save(tmp_path / "a.JPG", picture)
    assert np.abs(np.asarray(Image.open(tmp_path / "a.JPG"), float) - picture).mean() < 3
    with pytest.raises(ValueError, match=r"a\.bmp"):
        save(tmp_path / "a.bmp", picture)
