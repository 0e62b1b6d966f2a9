"""tools/predict.py: what it finds is Detectron2's, what it writes loads in pycocotools, and nothing is lost."""

from __future__ import annotations

import json
import os
import runpy
import signal
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.data.detection_utils import read_image
from detectron2.engine import DefaultPredictor
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from PIL import Image
from pycocotools.coco import COCO

from resnet_backbone.detection.config import default_config
from resnet_backbone.detection.prediction import predict as predict_module
from resnet_backbone.detection.prediction.inputs import Unreadable, Video, find_inputs
from resnet_backbone.detection.prediction.predict import PredictOptions, predict, split_words, start
from resnet_backbone.detection.prediction.predictor import Predictor, choose_device, classes_of, load, locate
from resnet_backbone.detection.prediction.results import Classes, Predictions
from resnet_backbone.detection.training.checkpoint import write_final
from resnet_backbone.weights.files import read_weights

TOOL = Path(__file__).parents[1] / "tools" / "predict.py"


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """A tiny detector with masks and random weights that has run: it finds a lot, all of it nonsense."""
    cfg = default_config()
    cfg.MODEL.BACKBONE.NAME = "build_residual_fpn_backbone"
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    cfg.MODEL.RESNETS.DEPTH, cfg.MODEL.RESNETS.NORM = 18, "BN"
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = cfg.MODEL.RESNETS.STEM_OUT_CHANNELS = 8
    cfg.MODEL.RESNETS.OUT_FEATURES = cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.FPN.OUT_CHANNELS = 16
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[32], [64], [128], [256], [512]]
    cfg.MODEL.RPN.IN_FEATURES = ["p2", "p3", "p4", "p5", "p6"]
    cfg.MODEL.RPN.POST_NMS_TOPK_TEST = 30
    cfg.MODEL.ROI_HEADS.NAME, cfg.MODEL.ROI_HEADS.IN_FEATURES = "StandardROIHeads", ["p2", "p3", "p4", "p5"]
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 3
    cfg.MODEL.ROI_BOX_HEAD.NAME, cfg.MODEL.ROI_BOX_HEAD.NUM_FC = "FastRCNNConvFCHead", 1
    cfg.MODEL.ROI_BOX_HEAD.FC_DIM, cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION = 32, 7
    cfg.MODEL.MASK_ON = True
    cfg.MODEL.ROI_MASK_HEAD.NAME = "MaskRCNNConvUpsampleHead"
    cfg.MODEL.ROI_MASK_HEAD.NUM_CONV, cfg.MODEL.ROI_MASK_HEAD.CONV_DIM = 1, 16
    cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = [120.0, 110.0, 100.0], [58.0, 57.0, 56.0]
    cfg.INPUT.FORMAT, cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = "RGB", 96, 128
    cfg.MODEL.DEVICE = "cpu"
    cfg.TEST.DETECTIONS_PER_IMAGE, cfg.TEST.PICTURE_THRESH = 10, 0.3
    cfg.DATA.CLASSES, cfg.DATA.CATEGORY_IDS = ["ape", "bee", "cow"], [3, 5, 90]
    torch.manual_seed(0)
    model = build_model(cfg)
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    write_final(folder / "model_final.pth", model, cfg, None, "tiny.yaml")
    (folder / "config.yaml").write_text(cfg.dump())
    return folder


@pytest.fixture
def photos(tmp_path):
    """A colour JPEG that its EXIF data turn, a grey PNG, a palette GIF, and one that breaks off."""
    folder = tmp_path / "photos"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (8, 12, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(pixels).save(folder / "turned.JPG", quality=95, exif=turned)
    Image.fromarray(pixels[:, :, 0]).save(folder / "grey.png")
    Image.fromarray(pixels).convert("P").save(folder / "palette.gif")
    whole = (folder / "turned.JPG").read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "notes.txt").write_text("no image")
    return folder


def film(path, frames=7, size=(64, 48)):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, size)
    for number in range(frames):
        writer.write(np.full((size[1], size[0], 3), 30 * number, np.uint8))
    writer.release()
    return path


def contents(folder):
    described = json.loads((folder / "images.json").read_text())
    return described, json.loads((folder / "coco_instances_results.json").read_text())


def tool(monkeypatch, *words):
    """The exit code."""
    monkeypatch.setattr(sys, "argv", [str(TOOL), *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(TOOL), run_name="__main__")
    return ended.value.code


def test_finds_what_detectron2s_predictor_finds(run_folder, photos):
    predictor, classes = load(run_folder / "model_final.pth", run_folder / "config.yaml")
    assert classes == Classes(("ape", "bee", "cow"), (3, 5, 90))
    theirs = DefaultPredictor(predictor.cfg)
    for name in ("turned.JPG", "grey.png", "palette.gif"):
        expected = theirs(read_image(str(photos / name), format="BGR"))["instances"]
        found = predictor(read_image(str(photos / name), format="RGB"))
        assert len(found) == len(expected) > 0 and found.image_size == expected.image_size
        assert torch.equal(found.pred_boxes.tensor, expected.pred_boxes.tensor)
        assert torch.equal(found.scores, expected.scores) and torch.equal(found.pred_masks, expected.pred_masks)


def test_bgr_models_get_bgr(run_folder, photos):
    predictor, _ = load(run_folder / "model_final.pth", run_folder / "config.yaml")
    rgb = read_image(str(photos / "turned.JPG"), format="RGB")
    expected = predictor(np.ascontiguousarray(rgb[:, :, ::-1]))
    cfg = predictor.cfg.clone()
    cfg.defrost()
    cfg.INPUT.FORMAT = "BGR"
    assert torch.equal(Predictor(cfg, predictor.model)(rgb).scores, expected.scores)


def test_writes_pictures_and_what_pycocotools_loads(run_folder, photos, monkeypatch, capsys):
    code = tool(
        monkeypatch, "--weights", run_folder, photos, "--threshold", "0.3", "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.1"
    )
    said = capsys.readouterr()
    assert code == 1 and "cut.jpg: does not decode (OSError" in said.err and "1 of 4 inputs" in said.out
    output = run_folder / "predictions"
    assert f"{output / 'pictures'}" in said.out and "objects from score 0.3 on: " in said.out
    images = {Path(i["file_name"]).name: i for i in contents(output)[0]["images"]}
    assert sorted(images) == ["grey.png", "palette.gif", "turned.JPG"]
    assert (images["turned.JPG"]["height"], images["turned.JPG"]["width"]) == (96, 64)
    assert sorted(p.name for p in (output / "pictures").iterdir()) == ["grey.jpg", "palette.jpg", "turned.jpg"]
    assert Image.open(output / images["turned.JPG"]["picture"]).size == (320, 480)  # small ones are enlarged
    truth = COCO(str(output / "images.json"))
    loaded = truth.loadRes(str(output / "coco_instances_results.json"))
    results = loaded.loadAnns(loaded.getAnnIds())
    assert len(results) == 30 and {truth.cats[r["category_id"]]["name"] for r in results} <= {"ape", "bee", "cow"}
    assert min(r["score"] for r in results) >= 0.1
    assert all(loaded.annToMask(r).shape == (truth.imgs[r["image_id"]]["height"], truth.imgs[r["image_id"]]["width"])
               for r in results)  # fmt: skip
    predictor, _ = load(run_folder / "model_final.pth", run_folder / "config.yaml")
    found = predictor(read_image(str(photos / "grey.png"), format="RGB"))
    mine = [r for r in results if r["image_id"] == images["grey.png"]["id"]]
    x0, y0, x1, y1 = found.pred_boxes.tensor[0].tolist()
    assert mine[0]["bbox"] == pytest.approx([x0, y0, x1 - x0, y1 - y0])
    assert mine[0]["category_id"] == (3, 5, 90)[int(found.pred_classes[0])]
    assert (loaded.annToMask(mine[0]).astype(bool) == found.pred_masks[0].numpy()).all()


def test_an_image_too_thin_to_resize_is_left_out(run_folder, photos, tmp_path, capsys):
    Image.new("RGB", (4000, 1)).save(photos / "thin.png")
    words = (str(photos / "thin.png"), str(photos / "grey.png"))
    assert start(PredictOptions(run_folder, words, output=tmp_path / "out")) == 1
    assert "thin.png: 4000 x 1 pixels: " in capsys.readouterr().err
    assert len(contents(tmp_path / "out")[0]["images"]) == 1


def test_models_without_objects_are_refused(run_folder):
    predictor, _ = load(run_folder / "model_final.pth", run_folder / "config.yaml")
    for key, value in (("MODEL.META_ARCHITECTURE", "SemanticSegmentor"), ("INPUT.FORMAT", "L")):
        cfg = predictor.cfg.clone()
        cfg.defrost()
        cfg.merge_from_list([key, value])
        with pytest.raises(ValueError, match=key):
            Predictor(cfg, predictor.model)


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


def test_mistakes_end_in_a_sentence(run_folder, photos, tmp_path, capsys, monkeypatch):
    image = str(photos / "grey.png")

    def error(*words, weights=run_folder, **more):
        assert start(PredictOptions(Path(weights), words or (image,), output=tmp_path / "out", **more)) == 1
        said = capsys.readouterr().err
        assert said.startswith("error: ") and "Traceback" not in said
        return said

    assert "no such folder or file" in error(weights=tmp_path / "nowhere")
    assert "holds neither model_final.pth nor last.pth" in error(weights=photos)
    assert "--threshold 1.5: scores lie between" in error(threshold=1.5)
    assert "--every 0" in error(every=0)
    assert "no such config file; correct --config" in error(config=tmp_path / "c.yaml")
    assert "did you mean 'MODEL.DEVICE'" in error(image, "MODLE.DEVICE", "cpu")
    assert "'MODEL.DEVICE' has no value" in error(image, "MODEL.DEVICE")
    assert "give --weights instead" in error(image, "MODEL.WEIGHTS", "x.pth")
    assert "INPUT.FORMAT is BGR, but the weights" in error(image, "INPUT.FORMAT", "BGR")
    assert "DATA.CLASSES: 2 of them, but the model has 3 classes" in error(image, "DATA.CLASSES", "['a', 'b']")
    wrong = ("MODEL.ROI_HEADS.NUM_CLASSES", "2", "DATA.CLASSES", "['a', 'b']", "DATA.CATEGORY_IDS", "[1, 2]")
    assert "cls_score" in error(image, *wrong)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert "use MODEL.DEVICE cpu" in error(image, "MODEL.DEVICE", "cuda")
    assert not (tmp_path / "out").exists()


def test_unfinished_runs_and_files_beside_a_config(run_folder, photos, tmp_path, capsys):
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    state = read_weights(run_folder / "model_final.pth").state
    parts = {"model": state, "optimizer": {}, "scheduler": {}, "scaler": {}}
    torch.save({**parts, "iteration": 3, "config": ""}, unfinished / "last.pth")
    (unfinished / "config.yaml").write_text((run_folder / "config.yaml").read_text())
    assert start(PredictOptions(unfinished, (str(photos / "grey.png"),), pictures=False)) == 0
    assert "the run is not finished; its last checkpoint" in capsys.readouterr().out
    described, results = contents(unfinished / "predictions")
    assert (
        results
        and described["info"]["weights"] == str(unfinished / "last.pth")
        and "picture" not in described["images"][0]
    )
    assert locate(run_folder / "model_final.pth", None)[1] == run_folder / "config.yaml"
    (unfinished / "config.yaml").unlink()
    with pytest.raises(ValueError, match="name the run's settled config: --config FILE"):
        locate(unfinished / "last.pth", None)


def test_stopping_keeps_what_was_done(run_folder, photos, tmp_path, monkeypatch, capsys):
    original = Predictor.__call__

    def interrupted(self, image):
        os.kill(os.getpid(), signal.SIGINT)
        return original(self, image)

    monkeypatch.setattr(Predictor, "__call__", interrupted)
    clip = film(tmp_path / "clip.avi")
    options = PredictOptions(run_folder, (str(clip), str(photos / "grey.png")), output=tmp_path / "out")
    assert start(options) == 130 and "stopped: what was looked at" in capsys.readouterr().out
    assert [i["frame"] for i in contents(tmp_path / "out")[0]["images"]] == [0]
    assert cv2.VideoCapture(str(tmp_path / "out" / "pictures" / "clip.mp4")).grab()


def test_what_was_found_is_written_when_something_breaks(run_folder, photos, tmp_path, monkeypatch, capsys):
    def full(self, name, image, instances):
        if self.seen:
            raise OSError(28, "No space left on device", name)

    monkeypatch.setattr(predict_module.Predictions, "save_picture", full)
    assert start(PredictOptions(run_folder, (f"{photos}/[gp]*.*",), output=tmp_path / "out")) == 1
    assert "No space left" in capsys.readouterr().err and len(contents(tmp_path / "out")[0]["images"]) == 1


def test_classes_come_from_the_config_else_from_the_known_set():
    cfg = default_config()
    cfg.DATASETS.TRAIN = ("coco_2017_train",)
    classes = classes_of(cfg)
    assert classes.names[0] == "person" and classes.ids[-1] == 90 and len(classes.ids) == 80
    cfg.DATASETS.TRAIN, cfg.MODEL.ROI_HEADS.NUM_CLASSES = ("voc_2007_trainval",), 20
    assert classes_of(cfg).names[:2] == ("aeroplane", "bicycle") and classes_of(cfg).ids == tuple(range(1, 21))
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 2
    assert classes_of(cfg) == Classes((), (1, 2)) and classes_of(cfg).name(1) == "class 1"
    cfg.MODEL.META_ARCHITECTURE, cfg.DATASETS.TRAIN = "RetinaNet", ("unheard_of",)
    assert len(classes_of(cfg).ids) == 80 and not classes_of(cfg).names
    cfg.DATA.CATEGORY_IDS = [1]
    with pytest.raises(ValueError, match="DATA.CATEGORY_IDS: 1 of them, but the model has 80 classes .MODEL.RETINANET"):
        classes_of(cfg)


def test_device(monkeypatch):
    cfg = default_config()
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert "no CUDA GPU here" in choose_device(cfg, asked=False) and cfg.MODEL.DEVICE == "cpu"
    assert choose_device(cfg, asked=False) == ""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert "MODEL.DEVICE cuda uses the GPU" in choose_device(cfg, asked=False)
    assert choose_device(cfg, asked=True) == ""


def test_numbers_that_are_none_and_nothing_found(tmp_path):
    found = Predictions(tmp_path, Classes((), (1, 2)), 0.5, {})
    odd = Instances((10, 10), pred_boxes=Boxes(torch.tensor([[0, 0, 5, float("nan")], [0, 0, 5, 5.0]])))
    odd.scores, odd.pred_classes = torch.tensor([0.9, 0.4]), torch.tensor([0, 1])
    found.add(0, "a.jpg", odd)
    found.write()
    described, results = contents(tmp_path)
    assert [r["category_id"] for r in results] == [2] and described["categories"][1] == {"id": 2, "name": "class 1"}
    assert "no object reaches the score 0.5 in 1 images or frames (the highest score is 0.40" in found.counted()


def test_help_names_what_it_takes(monkeypatch, capsys):
    assert tool(monkeypatch, "--help") == 0
    said = capsys.readouterr().out
    assert "--every N" in said and "MODEL.DEVICE cpu" in said
