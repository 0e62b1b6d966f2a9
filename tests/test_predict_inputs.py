"""What tools/predict.py looks at: pictures, folders, films, and names that are there twice."""

from __future__ import annotations

import cv2
import pytest
from made_predictions import contents, film
from PIL import Image

from resnet_backbone.detection.prediction.inputs import Unreadable, Video, find_inputs
from resnet_backbone.detection.prediction.predict import PredictOptions, predict, split_words, start


def test_videos_and_ids(run_folder, photos, tmp_path):
    clip = film(tmp_path / "clip.avi")
    output = tmp_path / "out"
    options = PredictOptions(run_folder, (str(clip),), output=output, every=3)
    assert predict(options).unreadable == 0
    images = contents(output)[0]["images"]
    assert [i["id"] for i in images] == [i["frame"] for i in images] == [0, 3, 6]
    drawn = cv2.VideoCapture(str(output / "pictures" / "clip.mp4"))
    assert drawn.get(cv2.CAP_PROP_FPS) == pytest.approx(10 / 3, abs=0.01)
    assert sum(drawn.grab() for _ in range(9)) == 3
    assert not [p for p in (output / "pictures").iterdir() if "part" in p.name]
    both = PredictOptions(run_folder, (str(photos / "grey.png"), str(clip), str(photos / "turned.JPG")),
                          output=output, every=3, pictures=False)  # fmt: skip
    predict(both)
    described, results = contents(output)
    assert [i["id"] for i in described["images"]] == [0, 1, 4, 7, 8]
    assert {r["image_id"] for r in results} <= {0, 1, 4, 7, 8}


def test_broken_videos_are_told_of(run_folder, tmp_path, capsys, monkeypatch):
    (tmp_path / "bad.mp4").write_bytes(b"nothing" * 50)
    clip = film(tmp_path / "clip.avi")
    options = PredictOptions(run_folder, (str(tmp_path / "bad.mp4"), str(clip)), output=tmp_path / "out", every=3)
    assert start(options) == 1
    said = capsys.readouterr()
    assert "bad.mp4: does not open as a video" in said.err and "1 of 2 inputs" in said.out
    assert len(contents(tmp_path / "out")[0]["images"]) == 3
    video = Video(clip)
    video._said = 50
    with video, pytest.raises(Unreadable, match="breaks off after 7 of 50 frames"):
        list(video.frames())


def test_equal_names_do_not_overwrite_each_other(run_folder, photos, tmp_path):
    other = tmp_path / "more"
    other.mkdir()
    for name in ("grey.png", "GREY.bmp"):
        Image.open(photos / "grey.png").save(other / name)
    words = (str(photos / "grey.png"), str(other), str(other / "grey.png"))
    predict(PredictOptions(run_folder, words, output=tmp_path / "out"))
    described, _ = contents(tmp_path / "out")
    assert [i["picture"] for i in described["images"]] == [
        "pictures/grey.jpg", "pictures/more_GREY.jpg", "pictures/grey_2.jpg"
    ]  # fmt: skip
    assert len(list((tmp_path / "out" / "pictures").iterdir())) == 3


def test_what_is_looked_at(photos, tmp_path, monkeypatch):
    (photos / "inner").mkdir()
    (photos / "._grey.png").write_bytes(b"")
    found, notes = find_inputs([str(photos)])
    assert [i.path.name for i in found] == ["cut.jpg", "grey.png", "palette.gif", "turned.JPG"]
    assert "its 1 folders are not searched" in notes[0]
    assert [i.name for i in find_inputs([f"{photos}/*.png", str(photos / "grey.png")])[0]] == ["grey"]
    bracketed = photos / "a[1].png"
    Image.open(photos / "grey.png").save(bracketed)
    assert [i.path for i in find_inputs([str(bracketed)])[0]] == [bracketed]
    with pytest.raises(ValueError, match="inner: 0 images and videos: nothing to look at; name images"):
        find_inputs([str(photos / "inner")])
    with pytest.raises(ValueError, match="gray.png: no such image, folder or video; did you mean .*grey.png"):
        find_inputs([str(photos / "gray.png")])
    monkeypatch.chdir(photos)
    words = ["grey.png", "MODEL.DEVICE", "cpu", "DSC_1.JPG", "MODLE.DEVICE", "cpu", "inner", "SEED"]
    paths, pairs = split_words(words)
    assert paths == ["grey.png", "DSC_1.JPG", "inner"]
    assert pairs == ["MODEL.DEVICE", "cpu", "MODLE.DEVICE", "cpu", "SEED"]
