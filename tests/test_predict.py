"""tools/predict.py: what it finds is Detectron2's, what it writes loads in pycocotools, and nothing is lost."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.data.detection_utils import read_image
from detectron2.engine import DefaultPredictor
from detectron2.structures import Boxes, Instances
from made_predictions import contents, film, tool
from PIL import Image
from pycocotools.coco import COCO

from resnet_backbone.detection.config import default_config
from resnet_backbone.detection.prediction import predict as predict_module
from resnet_backbone.detection.prediction.predict import PredictOptions, start
from resnet_backbone.detection.prediction.predictor import Predictor, choose_device, classes_of, load, locate
from resnet_backbone.detection.prediction.results import Classes, Predictions
from resnet_backbone.weights.files import read_weights


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
