"""COCO's metric beside pycocotools' and VOC's beside Detectron2's, on generated sets of their real sizes.

python -m benchmarks.evaluators_speed             # three rounds of about two minutes, one thread
python -m benchmarks.evaluators_speed --rounds 1 --threads 2

All in one process. In every round both evaluate the same objects, ours five times before and five times after
theirs, and it is noted whether the numbers are equal: COCO's three arrays to the bit, VOC's AP to the bit with
Detectron2's rounding. Detectron2 takes detections from text files, as its evaluator always does, ours from arrays, as
ours does; writing files is not counted.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import gc
import importlib.metadata
import io
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import versions
from benchmarks.record import make_entry
from benchmarks.record import record as put

OURS_REPEATS = 5
COCO_SIZE = {"images": 5000, "classes": 80, "objects": 36_800, "crowds": 455, "detections": 250_000}
VOC_SIZE = {"images": 4950, "classes": 20, "objects": 15_000, "difficult": 2800, "detections": 250_000}
OVERLAPS = [0.5 + 0.05 * n for n in range(10)]
FORM = (
    "<annotation><folder>VOC</folder><filename>{}.jpg</filename><size><width>500</width><height>375</height>"
    "<depth>3</depth></size><segmented>0</segmented>{}</annotation>"
)
OBJECT_FORM = (
    "<object><name>{}</name><pose>Unspecified</pose><truncated>0</truncated><difficult>{}</difficult><bndbox>"
    "<xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"
)
Timed = tuple[np.ndarray, Any]


def timed(call: Callable[[], Any]) -> Timed:
    """Seconds by the clock and of the processor, and the answer; what earlier calls left is collected before."""
    gc.collect()
    began = np.array([time.perf_counter(), time.process_time()])
    answer = call()
    return np.array([time.perf_counter(), time.process_time()]) - began, answer


def median_of(call: Callable[[], Any]) -> Timed:
    """The medians of some calls' seconds, and the last answer."""
    results = [timed(call) for _ in range(OURS_REPEATS)]
    return np.median([seconds for seconds, _ in results], axis=0), results[-1][1]


def made_objects(size: dict[str, int], rng: np.random.Generator) -> tuple[Any, Any, Any]:
    """Image, class and XYWH box of every object; some classes are much more frequent than others."""
    count = size["objects"]
    sides = np.exp(rng.normal(np.log(60), 0.9, (count, 2))).clip(3, 350)
    corners = rng.random((count, 2)) * ((500, 375) - sides).clip(1)
    frequency = 1 / np.arange(1, size["classes"] + 1) ** 0.7
    labels = rng.choice(size["classes"], count, p=frequency / frequency.sum())
    return rng.integers(0, size["images"], count), labels, np.concatenate([corners, sides], axis=1)


def made_detections(size: dict[str, int], of: tuple[Any, Any, Any], rng: np.random.Generator) -> tuple[Any, ...]:
    """Image, class, XYWH box and float32 score: objects found several times, worse and worse, some as others."""
    images, labels, boxes = of
    picks = rng.integers(0, size["objects"], size["detections"])
    blur = rng.choice([0.03, 0.1, 0.3], (len(picks), 1))
    moved = boxes[picks] + rng.normal(0, 1, (len(picks), 4)) * blur * np.tile(boxes[picks, 2:], 2)
    moved[:, 2:] = np.abs(moved[:, 2:]) + 1
    wrong = rng.random(len(picks)) < 0.3
    classes = np.where(wrong, rng.integers(0, size["classes"], len(picks)), labels[picks])
    scores = (rng.random(len(picks)) * (1.2 - 2 * blur[:, 0])).clip(0.001, 1)
    return images[picks], classes, moved.astype(np.float32), scores.astype(np.float32)


def made_coco(seed: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Ground truth and results in COCO's formats; ids have gaps as COCO's have."""
    rng = np.random.default_rng(seed)
    objects = made_objects(COCO_SIZE, rng)
    crowds = set(rng.choice(COCO_SIZE["objects"], COCO_SIZE["crowds"], replace=False).tolist())
    ids = [n + 1 + n // 9 for n in range(COCO_SIZE["classes"])]
    annotations = [
        {
            "id": n + 1, "image_id": 139 + 7 * image, "category_id": ids[label], "bbox": box, "area": box[2] * box[3],
            "iscrowd": int(n in crowds),
        }
        for n, (image, label, box) in enumerate(zip(*(column.tolist() for column in objects)))
    ]  # fmt: skip
    found = zip(*(column.tolist() for column in made_detections(COCO_SIZE, objects, rng)))
    results = [
        {"image_id": 139 + 7 * image, "category_id": ids[label], "bbox": box, "score": score}
        for image, label, box, score in found
    ]
    images = [{"id": 139 + 7 * n, "height": 375, "width": 500} for n in range(COCO_SIZE["images"])]
    truth = {"info": {}, "images": images, "categories": [{"id": i, "name": f"c{i}"} for i in ids]}
    return {**truth, "annotations": annotations}, results


def coco_round(truth: dict[str, Any], results: list[dict[str, Any]], folder: Path) -> list[dict[str, Any]]:
    """A run from memory and one from files; pycocotools evaluates once and loads both ways."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    from resnet_backbone.evaluation.coco import evaluate_coco

    truth_file, results_file = folder / "truth.json", folder / "results.json"
    truth_file.write_text(json.dumps(truth))
    results_file.write_text(json.dumps(results))
    memory, ours = median_of(lambda: evaluate_coco(truth, results, backend="hotcoco"))
    files, _ = median_of(lambda: evaluate_coco(truth_file, results_file, backend="hotcoco"))

    def from_memory() -> tuple[COCO, COCO]:
        index = COCO()
        index.dataset = own_truth
        index.createIndex()
        return index, index.loadRes(own_results)

    def from_files() -> tuple[COCO, COCO]:
        index = COCO(str(truth_file))
        return index, index.loadRes(str(results_file))

    def evaluated() -> COCOeval:
        evaluation = COCOeval(*loaded, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        return evaluation

    own_truth, own_results = copy.deepcopy((truth, results))  # pycocotools writes into them
    with contextlib.redirect_stdout(io.StringIO()):
        loading_memory, _ = timed(from_memory)
        loading_files, loaded = timed(from_files)
        evaluating, reference = timed(evaluated)
    again, _ = median_of(lambda: evaluate_coco(truth, results, backend="hotcoco"))
    names = ("precision", "recall", "scores")
    equal = all(np.array_equal(getattr(ours.arrays, name), reference.eval[name]) for name in names)
    same = {"equal": equal, "AP": 100 * float(reference.stats[0])}
    return [
        _run("COCO, results in memory", loading_memory + evaluating, (memory + again) / 2, same),
        _run("COCO, both files read", loading_files + evaluating, files, same),
    ]


def made_voc(seed: int, folder: Path) -> tuple[list[str], list[str], Any]:
    """Writes XML files, the split and Detectron2's text files; returns image ids, class names and detections."""
    from resnet_backbone.evaluation.voc import VocDetections

    rng = np.random.default_rng(seed)
    images, labels, boxes = made_objects(VOC_SIZE, rng)
    hard = set(rng.choice(VOC_SIZE["objects"], VOC_SIZE["difficult"], replace=False).tolist())
    ids = [f"2012_{n:06d}" for n in range(VOC_SIZE["images"])]
    names = [f"class{n}" for n in range(VOC_SIZE["classes"])]
    inside: dict[int, list[str]] = {}
    for n, (image, label, (x, y, w, h)) in enumerate(zip(images.tolist(), labels.tolist(), boxes.round().tolist())):
        corners = (int(v) for v in (x + 1, y + 1, x + w, y + h))
        inside.setdefault(image, []).append(OBJECT_FORM.format(names[label], int(n in hard), *corners))
    for n, image in enumerate(ids):
        (folder / f"{image}.xml").write_text(FORM.format(image, "".join(inside.get(n, []))))
    (folder / "split.txt").write_text("\n".join(ids))
    found, classes, moved, scores = made_detections(VOC_SIZE, (images, labels, boxes), rng)
    moved[:, 2:] += moved[:, :2]
    for n, name in enumerate(names):
        lines = [  # as its PascalVOCDetectionEvaluator writes them
            f"{ids[i]} {score:.3f} {x0 + 1:.1f} {y0 + 1:.1f} {x1:.1f} {y1:.1f}"
            for i, score, (x0, y0, x1, y1) in zip(
                found[classes == n].tolist(), scores[classes == n].tolist(), moved[classes == n].tolist()
            )
        ]
        (folder / f"{name}.txt").write_text("\n".join(lines))
    return ids, names, VocDetections([ids[i] for i in found.tolist()], classes, moved, scores)


def voc_round(folder: Path, ids: list[str], names: list[str], detections: Any) -> list[dict[str, Any]]:
    """Detectron2's sweep of ten overlaps over its text files, ours over the arrays; both read the XML files."""
    from detectron2.evaluation import pascal_voc_evaluation as stock

    from resnet_backbone.evaluation.voc import Rounding, VocResult, VocTruth, sweep_voc
    from resnet_backbone.evaluation.voc_xml import read_annotation

    def ours(rounding: Rounding) -> list[VocResult]:
        codes = {name: n for n, name in enumerate(names)}
        read = [(image, one) for image in ids for one in read_annotation(folder / f"{image}.xml").objects]
        truth = VocTruth(
            [image for image, _ in read], np.array([codes[one.name] for _, one in read]),
            np.array([one.box for _, one in read]), np.array([one.difficult for _, one in read]),
        )  # fmt: skip
        return sweep_voc(truth, detections, names, ious=OVERLAPS, rounding=rounding)

    def theirs() -> list[list[float]]:
        stock.parse_rec.cache_clear()
        files = (str(folder / "{}.txt"), str(folder / "{}.xml"), str(folder / "split.txt"))
        return [[100 * stock.voc_eval(*files, name, iou, False)[2] for name in names] for iou in OVERLAPS]

    before, exact = median_of(lambda: ours("none"))
    seconds, expected = timed(theirs)
    after, _ = median_of(lambda: ours("none"))
    rounded, by_rounding = median_of(lambda: ours("detectron2"))
    equal = [[one.ap for one in result.classes.values()] for result in by_rounding] == expected
    return [
        _run("VOC, XML files read", seconds, (before + after) / 2, {"equal": equal, "AP": exact[0].ap}),
        _run("VOC, XML files read, Detectron2's rounding", seconds, rounded, {"equal": equal, "AP": by_rounding[0].ap}),
    ]


def _run(part: str, theirs: np.ndarray, ours: np.ndarray, same: dict[str, Any]) -> dict[str, Any]:
    seconds = {"theirs_s": float(theirs[0]), "ours_s": float(ours[0])}
    ratio, cpu_ratio = (theirs / ours).tolist()
    run = {"part": part, **seconds, "ratio": ratio, "cpu_ratio": cpu_ratio, **same}
    print(run, flush=True)
    return run


def main() -> None:
    """Measures all rounds and records the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="of hotcoco; the others have one (default: 1)")
    arguments = parser.parse_args()
    os.environ["RAYON_NUM_THREADS"] = str(arguments.threads)  # before hotcoco is there
    versions()
    evaluators = {name: importlib.metadata.version(name) for name in ("hotcoco", "pycocotools")}
    runs: list[dict[str, Any]] = []
    for seed in range(arguments.rounds):
        with tempfile.TemporaryDirectory() as folder:
            runs += coco_round(*made_coco(seed), Path(folder))
            runs += voc_round(Path(folder), *made_voc(seed, Path(folder)))
    settings = {"COCO": COCO_SIZE, "VOC": VOC_SIZE, "overlaps": len(OVERLAPS), "threads": arguments.threads}
    put(make_entry(
        "evaluators-speed", "COCO's metric beside pycocotools' and VOC's beside Detectron2's, on generated sets.",
        f"python -m benchmarks.evaluators_speed --rounds {arguments.rounds} --threads {arguments.threads}", runs,
        settings={**settings, **evaluators}, seeds=list(range(arguments.rounds)),
        note="hotcoco {hotcoco}, pycocotools {pycocotools}; boxes; each round on a set of its own seed; ours: the mean "
        "of two medians of five, before and after the reference. Detectron2 takes VOC's detections from text files, "
        "as its evaluator always does, ours from arrays, as ours does.".format(**evaluators),
    ))  # fmt: skip


if __name__ == "__main__":
    main()
