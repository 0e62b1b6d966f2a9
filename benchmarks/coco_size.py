"""Start-up time and memory of a training on annotations of COCO's size: ours beside stock Detectron2's.

python -m benchmarks.coco_size --folder FOLDER [--keep]

The data are generated: 118,287 images, 860,001 objects with polygons, 80 categories with gaps in their ids, one
object in a hundred a crowd. The image files are hard links to a few small JPEGs.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.machine import ROOT, versions
from benchmarks.record import make_entry
from benchmarks.record import record as put

IMAGES, OBJECTS, SHAPES, LINKS = 118_287, 860_001, 5_000, 40_000
GAPS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)  # the ids below 91 that COCO's objects do not use
KINDS = ("ours-user", "ours-registered", "stock")
CONFIG = ROOT / "configs" / "faster_rcnn_R18_coco.yaml"
ITERATIONS, WORKERS, SIDE = 20, 2, 64
SIZES = ((480, 640), (640, 480))  # height, width

KEYS = (
    "MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", "MODEL.RESNETS.NORM", "BN", "MODEL.BACKBONE.FREEZE_AT", "0",
    "DATALOADER.NUM_WORKERS", str(WORKERS), "SOLVER.IMS_PER_BATCH", "2", "SOLVER.REFERENCE_WORLD_SIZE", "0",
    "SOLVER.MAX_ITER", "100", "SOLVER.STEPS", "()", "SOLVER.WARMUP_ITERS", "1", "SOLVER.BASE_LR", "0.0001",
    "INPUT.MIN_SIZE_TRAIN", f"({SIDE},)", "INPUT.MIN_SIZE_TEST", str(SIDE),
    # A narrow head and few proposals: the network is not what is measured.
    "MODEL.FPN.OUT_CHANNELS", "16", "MODEL.ROI_BOX_HEAD.FC_DIM", "16", "MODEL.RPN.PRE_NMS_TOPK_TRAIN", "50",
    "MODEL.RPN.POST_NMS_TOPK_TRAIN", "50", "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", "16",
)  # fmt: skip


def main() -> None:
    """Generates the data, measures every kind in a process of its own, one after the other, and records it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="on a file system with hard links")
    parser.add_argument("--keep", action="store_true", help="leave the data there; used again by the next run")
    parser.add_argument("--child", choices=KINDS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child, arguments.folder)
        return
    versions()
    if not (arguments.folder / "train.json").is_file():
        generate(arguments.folder)
    size = (arguments.folder / "train.json").stat().st_size / 2**20
    checked = check(arguments.folder)  # first: the peak is that of all children so far
    runs = [measure(kind, arguments.folder) for kind in KINDS]
    put(make_entry(
        "coco-size", "Start-up and memory of a training on generated annotations of COCO's size.",
        "python -m benchmarks.coco_size --folder FOLDER", runs,
        settings={"images": IMAGES, "objects": OBJECTS, "json_mib": round(size), "iterations": ITERATIONS,
                  "workers": WORKERS, "shorter_side": SIDE, "detector": "Faster R-CNN, R18-FPN, narrow head"},
        note="Seconds from the start of the process to the end of its first optimiser step; memory after the last "
        "iteration, in MiB. PSS shares a page's size between the processes that hold it. The peak is of the main "
        "process. One run each; files in the system's cache.",
    ))  # fmt: skip
    put(make_entry(
        "coco-size-check", "--check on the same annotations.", "python -m benchmarks.coco_size --folder FOLDER",
        [checked], settings={"images": IMAGES, "objects": OBJECTS},
        note="The whole command, one run; the peak is of its process, and of its children.",
    ))  # fmt: skip
    if not arguments.keep:
        shutil.rmtree(arguments.folder)


def generate(folder: Path, images: int = IMAGES, objects: int = OBJECTS, seed: int = 0) -> None:
    """`folder`/images, train.json with everything and test.json with the first four images."""
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    shapes = [_shape(rng, crowd=index % 100 == 0) for index in range(min(SHAPES, objects))]
    owners = np.sort(rng.integers(0, images, objects))
    chosen = rng.permutation(objects) % len(shapes)
    ids = [i for i in range(1, 91) if i not in GAPS]
    categories = [{"id": i, "name": f"class {i}"} for i in ids]
    classes = rng.choice(ids, objects)
    entries: list[dict[str, Any]] = [
        {"id": i + 1, "file_name": f"{i + 1:012}.jpg", "height": SIZES[i % 2][0], "width": SIZES[i % 2][1]}
        for i in range(images)
    ]
    _link_images(folder / "images", [e["file_name"] for e in entries], rng)
    for name, count in (("test", min(4, images)), ("train", images)):
        # Piece by piece: the whole text beside its objects would need gigabytes.
        with open(folder / f"{name}.part", "w", encoding="utf-8") as stream:
            stream.write(f'{{"images": {json.dumps(entries[:count])}, "categories": {json.dumps(categories)}, ')
            stream.write('"annotations": [')
            for number in range(int(np.searchsorted(owners, count))):
                stream.write(", " * (number > 0) + f'{{"id": {number + 1}, "image_id": {owners[number] + 1}, ')
                stream.write(f'"category_id": {classes[number]}, {shapes[chosen[number]]}}}')
            stream.write("]}")
        (folder / f"{name}.part").replace(folder / f"{name}.json")


def _shape(rng: np.random.Generator, crowd: bool) -> str:
    """Box, area and mask of one object, inside 480 x 480 pixels, as JSON without braces.

    A polygon has 20 points in the median; the file gets 433 MiB. A crowd has run lengths in COCO, here a polygon
    too, since run lengths fit one image size alone.
    """
    points = int(np.clip(rng.lognormal(3.0, 0.6), 4, 200))
    angles = np.sort(rng.uniform(0, 2 * np.pi, points))
    radius = rng.uniform(5, 110) * rng.uniform(0.7, 1, points)
    xy = np.stack([np.cos(angles), np.sin(angles)], 1) * radius[:, None] + rng.uniform(115, 365, 2)
    (x0, y0), (x1, y1) = xy.min(0), xy.max(0)
    fields = {
        "bbox": [round(float(v), 2) for v in (x0, y0, x1 - x0, y1 - y0)],
        "area": round(float((x1 - x0) * (y1 - y0)) * 0.6, 4), "iscrowd": int(crowd),
        "segmentation": [[round(float(v), 2) for v in xy.ravel()]],
    }  # fmt: skip
    return json.dumps(fields)[1:-1]


def _link_images(folder: Path, names: list[str], rng: np.random.Generator) -> None:
    """Every name a hard link; no file gets more links than a file system such as ext4 allows."""
    for index, name in enumerate(names):
        source = folder.parent / f"source_{index % 2}_{index // LINKS}.jpg"
        if not source.is_file():
            image = rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)
            cv2.imwrite(str(source), cv2.resize(image, SIZES[index % 2][::-1]))
        if not (folder / name).exists():
            os.link(source, folder / name)


def measure(kind: str, folder: Path) -> dict[str, Any]:
    """One training in a process of its own."""
    result = folder / f"{kind}.json"
    words = [sys.executable, "-m", "benchmarks.coco_size", "--folder", str(folder), "--child", kind]
    with open(folder / f"{kind}.log", "w", encoding="utf-8") as log:
        subprocess.run(
            words, check=True, cwd=ROOT, env={**os.environ, "COCO_SIZE_BEGAN": str(time.time())}, stdout=log, stderr=log
        )
    run: dict[str, Any] = json.loads(result.read_text())
    print(json.dumps(run), flush=True)
    return run


def check(folder: Path) -> dict[str, Any]:
    """The tool's `--check` on the user's data."""
    import resource

    words = [sys.executable, str(ROOT / "tools" / "train_net.py"), "--check", "--output", str(folder / "check")]
    began = time.monotonic()
    done = subprocess.run(
        [*words, "--config", str(CONFIG), *KEYS, *user_keys(folder)], capture_output=True, text=True, check=False
    )
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**10
    assert "Traceback" not in done.stderr, done.stderr
    found = {"exit_code": done.returncode, "seconds": round(time.monotonic() - began, 1), "peak_rss": round(peak)}
    return {**found, "verdict": done.stdout.splitlines()[-1]}


def user_keys(folder: Path) -> tuple[str, ...]:
    """The data as a user's own."""
    return (
        "DATA.ROOT", str(folder), "DATA.FORMAT", "coco", "DATA.TRAIN", "train.json", "DATA.TEST", "test.json",
        "DATA.TRAIN_IMAGES", "images", "DATA.TEST_IMAGES", "images",
    )  # fmt: skip


def child(kind: str, folder: Path) -> None:
    """Trains until `_watch` has what it wants, and ends there."""
    from detectron2.data.datasets import register_coco_instances

    from resnet_backbone.detection.training.run import run
    from resnet_backbone.detection.training.settle import RunOptions

    _watch(kind, folder)
    output = folder / f"run_{kind}"
    for split in ("train", "test"):
        register_coco_instances(f"coco_size_{split}", {}, str(folder / f"{split}.json"), str(folder / "images"))
    registered = ("DATASETS.TRAIN", "('coco_size_train',)", "DATASETS.TEST", "('coco_size_test',)")
    if kind == "stock":
        _stock(CONFIG, (*KEYS, *registered), output)
    else:
        keys = (*KEYS, *(user_keys(folder) if kind == "ours-user" else registered))
        run(RunOptions(CONFIG, keys, output, overwrite=True, keep_schedule=True))


def _stock(config: Path, options: tuple[str, ...], output: Path) -> None:
    """Detectron2's model, trainer and loader; its config is ours with its own backbone."""
    from detectron2.engine import DefaultTrainer

    from benchmarks.stock_detectron2 import STOCK
    from resnet_backbone.detection.training.config import read_config

    cfg = read_config(config, options).cfg.clone()
    cfg.defrost()
    cfg.MODEL.BACKBONE.NAME = STOCK[cfg.MODEL.BACKBONE.NAME]
    cfg.OUTPUT_DIR = str(output)
    output.mkdir(exist_ok=True)
    DefaultTrainer(cfg).train()


def _watch(kind: str, folder: Path) -> None:
    """After the last iteration writes `folder`/`kind`.json and ends this process and its workers."""
    import multiprocessing
    import resource

    from torch.optim.optimizer import register_optimizer_step_post_hook

    began, steps, first = float(os.environ["COCO_SIZE_BEGAN"]), 0, 0.0

    def after(*_: Any) -> None:
        nonlocal steps, first
        steps += 1
        first = first or time.time() - began
        if steps < ITERATIONS:
            return
        workers = multiprocessing.active_children()
        memory = [_memory(os.getpid()), *(_memory(w.pid or 0) for w in workers)]
        found = {
            "trained_by": kind, "first_iteration_s": round(first, 1),
            "main_pss": memory[0]["Pss"], "main_rss": memory[0]["Rss"],
            "worker_pss": [m["Pss"] for m in memory[1:]], "worker_rss": [m["Rss"] for m in memory[1:]],
            "all_pss": sum(m["Pss"] for m in memory),
            "peak_rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        }  # fmt: skip
        (folder / f"{kind}.json").write_text(json.dumps(found))
        for worker in workers:
            worker.terminate()
        os._exit(0)

    register_optimizer_step_post_hook(after)


def _memory(process: int) -> dict[str, int]:
    """MiB by the kernel's names."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()[1:]
    return {line.split(":")[0]: int(line.split()[1]) // 1024 for line in lines}


if __name__ == "__main__":
    main()
