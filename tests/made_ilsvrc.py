"""ILSVRC2012's archives in miniature."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

SYNSETS = ("n01440764", "n01443537", "n02084071")
TRUTH = [2, 0, 1, 1, 2, 0, 0]  # of seven validation images


def jpeg(seed: int, size: tuple[int, int] = (96, 64)) -> bytes:
    made = io.BytesIO()
    noise = np.random.default_rng(seed).integers(0, 256, (size[1] // 8, size[0] // 8, 3), np.uint8)
    Image.fromarray(noise).resize(size).save(made, "JPEG")
    return made.getvalue()


def tar_of(files: dict[str, bytes], mode: str = "w") -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode=mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return made.getvalue()


TRAIN = {s: {f"{s}_{k}.JPEG": jpeg(10 * i + k) for k in range(3 + i)} for i, s in enumerate(SYNSETS)}
VAL = {f"ILSVRC2012_val_{k + 1:08}.JPEG": jpeg(100 + k) for k in range(len(TRUTH))}


def devkit() -> bytes:
    # As the real one: numbers that are not the order of the synsets, and internal nodes behind the classes.
    rows = [(n, s) for n, s in ((3, SYNSETS[0]), (1, SYNSETS[1]), (2, SYNSETS[2]), (4, "n00001740"))]
    table = np.zeros((4, 1), [("ILSVRC2012_ID", object), ("WNID", object)])
    for index, row in enumerate(rows):
        table[index, 0] = row
    meta = io.BytesIO()
    savemat(meta, {"synsets": table})
    number = {SYNSETS[0]: 3, SYNSETS[1]: 1, SYNSETS[2]: 2}
    text = "\n".join(str(number[SYNSETS[i]]) for i in TRUTH) + "\n"
    where = "ILSVRC2012_devkit_t12/data/"
    return tar_of(
        {where + "meta.mat": meta.getvalue(), where + "ILSVRC2012_validation_ground_truth.txt": text.encode()}, "w:gz"
    )


def write_archives(folder: Path) -> Path:
    """Training and validation images, and three forms of the truth."""
    (folder / "train.tar").write_bytes(tar_of({f"{s}.tar": tar_of(files) for s, files in TRAIN.items()}))
    # Not in the order of their names, as archives may be.
    (folder / "val.tar").write_bytes(tar_of(dict(sorted(VAL.items(), reverse=True))))
    (folder / "devkit.tar.gz").write_bytes(devkit())
    (folder / "truth.txt").write_text("\n".join(SYNSETS[i] for i in TRUTH))
    rows = [f"{Path(name).stem},{SYNSETS[i]} 1 2 3 4" for name, i in zip(VAL, TRUTH)]
    (folder / "truth.csv").write_text("\n".join(["ImageId,PredictionString", *reversed(rows)]))
    return folder
