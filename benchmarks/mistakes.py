"""What `--check` says of broken copies of real data: blood cells in VOC's layout, balloons in COCO's JSON.

python -m benchmarks.mistakes --folder FOLDER

Each mistake is made in a copy of its own, in one place, and the real `tools/train_net.py --check` looks at it. What is
recorded is what it says that it does not say of the sound copy.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.machine import ROOT, data_folder
from benchmarks.record import make_entry
from benchmarks.record import record as put

CONFIGS = {"bccd": "configs/faster_rcnn_R50_bccd.yaml", "balloon": "configs/mask_rcnn_R50_balloon.yaml"}
WEIGHTS = "weights/resnet50_pqf_fp16.pth.xz"
# Small, as the data are what is looked at.
KEYS = ("INPUT.MIN_SIZE_TRAIN", "(160,)", "INPUT.MIN_SIZE_TEST", "160", "MODEL.DEVICE", "cpu")
CELLS = "BloodImage_00001"  # in trainval


@dataclass(frozen=True)
class Mistake:
    """Something wrong with one copy of the data or with one key."""

    name: str
    data: str
    make: Callable[[Path], object] = lambda root: None
    keys: tuple[str, ...] = ()


def main() -> None:
    """Looks at the sound copies, then at every broken one, and records what was said."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="for the copies; each is removed again")
    folder: Path = parser.parse_args().folder.resolve()
    sound = {data: looked_at(folder, Mistake("none", data)) for data in CONFIGS}
    runs: list[dict[str, Any]] = []
    for mistake in MISTAKES:
        run = looked_at(folder, mistake)
        known = {_gist(line) for line in sound[mistake.data]["said"]}
        run["said"] = [line for line in run["said"] if _gist(line) not in known]
        print(
            f"{mistake.name} ({mistake.data}): exit code {run['exit_code']}, {run['seconds']} s",
            *run["said"],
            sep="\n  ",
        )
        runs.append(run)
    for run in sound.values():
        run["said"] = []
    put(make_entry(
        "mistakes", "What --check says of broken copies of blood cells (BCCD) and balloons.",
        "python -m benchmarks.mistakes --folder FOLDER", [*sound.values(), *runs],
        settings={"configs": CONFIGS, "weights": WEIGHTS, "keys": list(KEYS)},
        note="The notes, warnings and errors beyond those of the sound copies; seconds of the whole command, one run.",
    ))  # fmt: skip


def looked_at(folder: Path, mistake: Mistake) -> dict[str, Any]:
    """Makes the copy, runs the tool on it, and removes it."""
    root = folder / mistake.data
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(data_folder() / mistake.data, root)
    mistake.make(root)
    command = [sys.executable, str(ROOT / "tools/train_net.py"), "--config", str(ROOT / CONFIGS[mistake.data])]
    command += ["--check", "--output", "run", "MODEL.WEIGHTS", str((data_folder() / WEIGHTS).resolve())]
    began = time.monotonic()
    done = subprocess.run([*command, *KEYS, *mistake.keys], cwd=folder, capture_output=True, text=True, check=False)
    seconds = round(time.monotonic() - began)
    shutil.rmtree(root)
    shutil.rmtree(folder / "run", ignore_errors=True)
    lines = [line.strip() for line in done.stdout.replace(f"{folder}/", "").splitlines()]
    said = [re.sub(r"\s+", " ", line) for line in lines if line.startswith(("note", "warning", "error"))]
    assert done.stdout and not done.stderr.strip().startswith("Traceback"), done.stderr
    return {"mistake": mistake.name, "data": mistake.data, "exit_code": done.returncode, "verdict": lines[-1],
            "said": said, "seconds": seconds}  # fmt: skip


def _gist(line: str) -> str:
    """Without numbers and what is in brackets: they differ where one object less is counted."""
    return re.sub(r"\(.*?\)|[\d.]+", "#", line)


def _text(root: Path, name: str, *changes: tuple[str, str]) -> None:
    """Replaces the first of each text in one annotation file."""
    file = root / "Annotations" / f"{name}.xml"
    text = file.read_text()
    for old, new in changes:
        assert re.search(old, text), old
        text = re.sub(old, new, text, count=1)
    file.write_text(text)


def _box(*sides: float) -> tuple[tuple[str, str], ...]:
    return tuple((rf"<{k}>\d+</{k}>", f"<{k}>{v}</{k}>") for k, v in zip(("xmin", "ymin", "xmax", "ymax"), sides))


def _json(root: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Changes both annotation files."""
    for file in (root / "annotations").iterdir():
        content = json.loads(file.read_text())
        change(content)
        file.write_text(json.dumps(content))


def _gaps(content: dict[str, Any]) -> None:
    content["categories"] = [{"id": 7, "name": "balloon"}]
    for annotation in content["annotations"]:
        annotation["category_id"] = 7


def _turned(root: Path) -> None:
    file = root / "JPEGImages" / f"{CELLS}.jpg"
    with Image.open(file) as image:
        image.load()
        exif = Image.Exif()
        exif[0x0112] = 6
        image.save(file, exif=exif)


def _grey(root: Path) -> None:
    file = root / "JPEGImages" / f"{CELLS}.jpg"
    with Image.open(file) as image:
        image.convert("L").save(file)


def _cut_off(root: Path) -> None:
    file = root / "JPEGImages" / f"{CELLS}.jpg"
    file.write_bytes(file.read_bytes()[:-2000])


def _three(root: Path) -> None:
    _cut_off(root)
    _text(root, "BloodImage_00000", (r"<width>\d+", "<width>600"))
    (root / "JPEGImages" / "BloodImage_00007.jpg").write_text("no image")


def _floats(root: Path) -> None:
    _text(root, CELLS, *_box(10.5, 20.25, 90.5, 100), (r"\s*<difficult>0</difficult>", ""))


BOMB = '<?xml version="1.0"?><!DOCTYPE annotation [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]>'

MISTAKES = (
    Mistake("a class count that differs from the data", "bccd", keys=("MODEL.ROI_HEADS.NUM_CLASSES", "4")),
    Mistake("category ids with gaps", "balloon", lambda root: _json(root, _gaps)),
    Mistake("annotation ids from 0, as the file has them", "balloon"),
    Mistake("a box outside the image", "bccd", lambda root: _text(root, CELLS, *_box(700, 20, 800, 90))),
    Mistake("a box of zero size", "bccd", lambda root: _text(root, CELLS, *_box(50, 20, 49, 90))),
    Mistake("an annotation without its image", "balloon",
            lambda root: _json(root, lambda c: c["annotations"][0].update(image_id=999))),
    Mistake("an image that does not decode", "bccd", _cut_off),
    Mistake("a size that differs from the annotation's", "bccd",
            lambda root: _text(root, CELLS, (r"<width>\d+</width>", "<width>600</width>"))),
    Mistake("an image that its EXIF data turn", "bccd", _turned),
    Mistake("a greyscale image", "bccd", _grey),
    Mistake("XML with floats and without `difficult`", "bccd", _floats),
    Mistake("an entity bomb", "bccd", lambda root: _text(root, CELLS, (r"^", BOMB), (r"<name>\w+<", "<name>&b;<"))),
    Mistake("a JSON without `info`", "balloon", lambda root: _json(root, lambda c: c.pop("info"))),
    Mistake("`segmentation: []`", "balloon",
            lambda root: _json(root, lambda c: c["annotations"][0].update(segmentation=[]))),
    Mistake("a split file that names a missing image", "bccd",
            lambda root: (root / "JPEGImages" / f"{CELLS}.jpg").unlink()),
    Mistake("an empty training set", "balloon",
            lambda root: _json(root, lambda c: c.update(images=[], annotations=[]))),
    Mistake("no GPU where one is asked for", "bccd", keys=("MODEL.DEVICE", "cuda")),
    Mistake("three things at a time", "bccd", _three),
)  # fmt: skip

if __name__ == "__main__":
    main()
