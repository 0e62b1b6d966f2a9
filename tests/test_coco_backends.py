"""hotcoco and pycocotools through our evaluator, beside pycocotools called plainly: the same arrays to the bit."""

from __future__ import annotations

import contextlib
import copy
import io
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as masks
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from resnet_backbone.evaluation.coco import METRICS, CocoResult, evaluate_coco
from resnet_backbone.evaluation.coco_backends import choose_backend

HEIGHT, WIDTH = 150, 200
CATEGORIES = [3, 4, 90]
BACKENDS = ("pycocotools", "hotcoco")

pytest.importorskip("hotcoco", reason="hotcoco is not installed (extra [eval])")


def corners(box: Any) -> list[float]:
    x, y, w, h = (float(v) for v in box)
    return [x + w / 4, y, x + w, y + h / 3, x + w * 0.8, y + h, x, y + h * 0.7]


def rle(box: Any) -> dict[str, Any]:
    """A crooked box, as compressed run lengths in text."""
    mask = masks.merge(masks.frPyObjects([corners(box)], HEIGHT, WIDTH))
    return {"size": list(mask["size"]), "counts": mask["counts"].decode()}


def uncompressed(mask: dict[str, Any]) -> dict[str, Any]:
    """COCO's crowds: run lengths as a list, column by column, beginning with those outside."""
    flat = masks.decode({**mask, "counts": mask["counts"].encode()}).flatten(order="F")
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat, [2]])))
    return {"size": mask["size"], "counts": np.diff(np.concatenate([[0], edges])).tolist()}


def generated(case: str, seed: int = 0) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A small ground truth with masks of all kinds, and detections around its objects."""
    rng = np.random.default_rng(seed)
    images = [{"id": 100 - 3 * n, "height": HEIGHT, "width": WIDTH} for n in range(12)]
    annotations: list[dict[str, Any]] = []
    for image in images[: 6 if case == "empty" else 12]:
        for _ in range(rng.integers(1, 9)):
            w, h = rng.choice([12.0, 50.0, 110.0]) * rng.uniform(0.7, 1.2, 2)
            box = [float(v) for v in (*rng.uniform(0, (WIDTH - w, HEIGHT - h)), w, h)]
            crowd = case == "crowd" and rng.random() < 0.4
            annotations.append({
                "id": len(annotations) + 1, "image_id": image["id"], "category_id": int(rng.choice(CATEGORIES)),
                "bbox": box, "area": w * h, "iscrowd": int(crowd), "ignore": int(rng.random() < 0.2),
                "segmentation": uncompressed(rle(box)) if crowd else [corners(box), corners(box)[:6]],
            })  # fmt: skip
    if case == "flat":
        for one in annotations[::5]:
            one["bbox"][2], one["area"], one["segmentation"] = 0.0, 0.0, [[5.0, 5.0, 5.0, 5.0, 5.0, 5.0]]
    results = []
    for image in images[3:] if case == "empty" else images:
        near = [a for a in annotations if a["image_id"] == image["id"]] or annotations[:5]
        for _ in range({"many": 140, "none": 0}.get(case, 15)):
            one = near[rng.integers(len(near))]
            box = np.array(one["bbox"]) + rng.normal(0, 0.04, 4) * np.tile(one["bbox"][2:], 2)
            box = [float(v) for v in np.maximum(box, 0)]
            score = round(float(rng.random()), 1 if case == "ties" else 9)
            category = one["category_id"] if rng.random() < 0.8 else int(rng.choice(CATEGORIES))
            if case == "many":
                category = 3  # the limit holds for each class
            results.append({
                "image_id": image["id"], "category_id": category, "score": score, "bbox": box,
                "segmentation": rle(box),
            })  # fmt: skip
    if case == "flat":
        for found in results[::4]:
            found["bbox"][2], found["segmentation"] = 0.0, rle([0, 0, 0, 0])
    categories = [{"id": c, "name": f"class {c}"} for c in CATEGORIES]
    return {"images": images, "annotations": annotations, "categories": categories, "info": {}}, results


def plainly(truth: dict[str, Any], results: list[dict[str, Any]], iou_type: str) -> COCOeval:
    """pycocotools as its own demonstration calls it."""
    truth, results = copy.deepcopy((truth, results))
    for one in results:
        del one["bbox" if iou_type == "segm" else "segmentation"]
    with contextlib.redirect_stdout(io.StringIO()):
        index = COCO()
        index.dataset = truth
        index.createIndex()
        evaluation = COCOeval(index, index.loadRes(results) if results else COCO(), iou_type)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def assert_bit_equal(ours: CocoResult, evaluation: COCOeval) -> None:
    for name in ("precision", "recall", "scores"):
        array, expected = getattr(ours.arrays, name), evaluation.eval[name]
        assert array.dtype == expected.dtype == np.float64 and np.array_equal(array, expected), name
    stats = np.array([100 * x if x > -1 else np.nan for x in evaluation.stats])
    assert np.array_equal([ours.metrics[name] for name in METRICS], stats, equal_nan=True)


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
@pytest.mark.parametrize("case", ["normal", "crowd", "empty", "ties", "many", "flat", "none"])
def test_arrays_equal_pycocotools(case: str, iou_type: Any, capfd: pytest.CaptureFixture[str]) -> None:
    truth, results = generated(case)
    before = copy.deepcopy((truth, results))
    expected = plainly(truth, results, iou_type)
    assert (0.03 < expected.stats[0] < 0.9) == (case != "none")
    assert case != "normal" or min(expected.stats) > 0.1  # small, medium and large ones are there
    capfd.readouterr()
    for backend in BACKENDS:
        ours = evaluate_coco(truth, results, iou_type, backend=backend)  # type: ignore[arg-type]
        assert ours.backend == backend
        assert_bit_equal(ours, expected)
    assert capfd.readouterr() == ("", "") and (truth, results) == before


def test_the_cases_are_what_they_are_called() -> None:
    of = {case: generated(case) for case in ("normal", "crowd", "empty", "ties", "many", "flat")}
    assert sum(a["iscrowd"] for a in of["crowd"][0]["annotations"]) > 5
    images, truth = {i["id"] for i in of["empty"][0]["images"]}, {a["image_id"] for a in of["empty"][0]["annotations"]}
    found = {d["image_id"] for d in of["empty"][1]}
    assert len(images - truth) == 6 and len(images - found) == 3 and truth & found and found - truth
    assert len({d["score"] for d in of["ties"][1]}) <= 11
    assert len(of["many"][1]) == 12 * 140 and {d["category_id"] for d in of["many"][1]} == {3}
    assert any(d["bbox"][2] == 0 for d in of["flat"][1])


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_input_of_other_kinds(iou_type: Any) -> None:
    """Polygons and bytes as detections, numpy's numbers, whole scores, image ids that are texts, ids below 0."""
    truth, results = generated("crowd", seed=1)
    for n, one in enumerate(results):
        one["score"] = np.float32(one["score"]) if n % 2 else n % 5 // 4
        one["category_id"] = np.int64(one["category_id"])
        if n % 3:
            one["segmentation"]["counts"] = one["segmentation"]["counts"].encode()
    expected = plainly(truth, results, iou_type)
    for one in results[::3]:
        one["segmentation"] = [corners(one["bbox"])]  # as masks these are the same
    names = {100 - 3 * n: f"{11 - n:02d}" for n in range(12)}
    for one in (*truth["annotations"], *results):
        one["image_id"] = names[one["image_id"]]
    truth = {**truth, "images": [{**i, "id": names[i["id"]]} for i in truth["images"]]}
    for n, one in enumerate(truth["annotations"]):
        one["id"] = -n
    for backend in BACKENDS:
        assert_bit_equal(evaluate_coco(truth, tuple(results), iou_type, backend=backend), expected)  # type: ignore[arg-type]


def test_a_mask_that_is_missing_is_the_same_for_both() -> None:
    truth, results = generated("normal")
    truth["annotations"][0].update(segmentation=[], area=None)
    truth["annotations"][1].pop("segmentation")
    ours = [evaluate_coco(truth, results, "segm", backend=b) for b in BACKENDS]  # type: ignore[arg-type]
    assert np.array_equal(ours[0].arrays.precision, ours[1].arrays.precision) and str(ours[0]) == str(ours[1])
    assert str(ours[0]) != str(evaluate_coco(*generated("normal"), "segm"))


def test_auto_is_hotcoco_where_a_fitting_one_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_backend() == choose_backend("hotcoco") == "hotcoco" and choose_backend("pycocotools") == "pycocotools"
    for there, said in ((None, "not installed"), (SimpleNamespace(__version__="0.5.0"), "0.5.0"),
                        (SimpleNamespace(__version__="2.0.1"), "2.0.1")):  # fmt: skip
        monkeypatch.setitem(sys.modules, "hotcoco", there)
        assert choose_backend("auto") == "pycocotools"
        with pytest.raises(ValueError, match=f"TEST.COCO_BACKEND is 'hotcoco', which is {said}; install it"):
            choose_backend("hotcoco", key="TEST.COCO_BACKEND")
    assert evaluate_coco(*generated("normal")).backend == "pycocotools"
    with pytest.raises(ValueError, match="which is 2.0.1"):
        evaluate_coco(*generated("normal"), backend="hotcoco")


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(ValueError, match="backend is 'numpy', but it must be one of auto, pycocotools, hotcoco"):
        evaluate_coco(*generated("none"), backend="numpy")  # type: ignore[arg-type]
