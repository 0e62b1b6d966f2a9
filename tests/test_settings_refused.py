"""Settings that would break a run late are refused before its data are read, by name and with the remedy."""

from __future__ import annotations

import json

import pytest
from detectron2.modeling import build_model
from made_data import TINY, write_config, write_rectangles

from resnet_backbone.detection.training.optimizer import make_optimizer
from resnet_backbone.detection.training.settle import RunOptions, settle
from resnet_backbone.engine.device import find_device

EXPECTED = "TEST.EXPECTED_RESULTS"
MASKS = ("MODEL.MASK_ON", "True", "TEST.EVAL_PERIOD", "2", "TEST.BEST_METRIC", "segm/AP")


@pytest.fixture
def data(tmp_path):
    return write_rectangles(tmp_path / "rectangles")


@pytest.fixture
def settled(tmp_path, data):
    def settled(*pairs: str):
        given = ("DATA.ROOT", str(data), *pairs)
        return settle(RunOptions(write_config(tmp_path, TINY), given, tmp_path / "run")).cfg

    return settled


@pytest.mark.parametrize("name", ["mps", "meta", "xpu", "cuda:x", "gpu", "cpu:1"])
def test_only_the_cpu_and_cuda_gpus_are_devices(name, settled):
    with pytest.raises(ValueError, match=f"MODEL.DEVICE: '{name}' is no device to compute on here; use cpu, cuda or"):
        settled("MODEL.DEVICE", name)
    assert str(find_device("cpu")) == "cpu"


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        (EXPECTED, "[['bbox', 'AP', 38.5]]", r"\['bbox', 'AP', 38.5\] is not \[task, metric, value, tolerance\]"),
        (EXPECTED, "['bbox', 'AP', 38.5, 0.2]", "'bbox' is not"),
        (EXPECTED, "[['bbox', 'AP', '38.5', 0.2]]", r"\['bbox', 'AP', '38.5', 0.2\] is not"),
        (EXPECTED, "[['bbox', 'AP', 38.5, -1]]", r"\['bbox', 'AP', 38.5, -1\] is not"),
        ("DATALOADER.NUM_WORKERS", "-1", "-1: 0 reads images in the process itself"),
        ("INPUT.MIN_SIZE_TEST", "-1", "-1: pixels, at least 0"),
        ("INPUT.MAX_SIZE_TEST", "0", "0: pixels, at least 1"),
    ],
)
def test_what_would_break_later_is_refused_at_once(key, value, sentence, settled):
    with pytest.raises(ValueError, match=f"^{key}: {sentence}"):
        settled(key, value)


@pytest.mark.parametrize("value", ["0.0", "-1.0"])
def test_clipping_to_nothing_is_refused(value, settled):
    cfg = settled("SOLVER.CLIP_GRADIENTS.ENABLED", "True", "SOLVER.CLIP_GRADIENTS.CLIP_VALUE", value)
    with pytest.raises(ValueError, match=r"SOLVER.CLIP_GRADIENTS.CLIP_VALUE: -?[01]: above 0"):
        make_optimizer(cfg, build_model(cfg))


def test_the_best_by_a_metric_that_the_test_set_cannot_give_is_refused(data, settled):
    assert settled(*MASKS).TEST.BEST_METRIC == "segm/AP"
    file = data / "test.json"
    content = json.loads(file.read_text())
    for annotation in content["annotations"]:
        del annotation["segmentation"]
    file.write_text(json.dumps(content))
    name = ("DATA.NAME", "without_masks")  # a set is read once in a process
    with pytest.raises(ValueError, match="TEST.BEST_METRIC: no metric 'segm/AP'; the nearest are bbox/AP"):
        settled(*MASKS, *name)
    del content["annotations"]
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="TEST.BEST_METRIC: 'segm/AP', but the test sets have no annotations"):
        settled(*MASKS, "DATA.NAME", "without_annotations")
