"""A classifier's training images from file to tensor, one thread: torchvision's ImageFolder way and ours, in turns.

resnet-backbone build-decoder && python -m benchmarks.image_loading
"""

from __future__ import annotations

import argparse
import importlib.metadata
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import cv2
import numpy as np
import torch
import torchvision.transforms as T
from numpy.typing import NDArray
from PIL import Image, features
from torchvision.datasets.folder import pil_loader

from benchmarks.machine import data_folder, versions
from benchmarks.record import make_entry
from benchmarks.record import record as put
from resnet_backbone.classification.prepare.shrinking import smaller
from resnet_backbone.images import views
from resnet_backbone.images.region import Box, library
from resnet_backbone.images.size import image_size
from resnet_backbone.images.transforms import normalise

FOLDERS = {"VOC2012": "VOC2012/JPEGImages", "COCO": "coco/train2017"}
LIKE_IMAGENET = "COCO at 500 pixels"
"""ImageNet's photographs have 500 x 375 pixels and 110 KB: COCO's at that side have them at this quality."""
LONG_SIDE, QUALITY = 500, 93
IMAGES, ROUNDS, SIZE, SHORT_SIDES = 50, 7, 224, (320, 256)
SCALE, RATIO = [0.08, 1.0], [3 / 4, 4 / 3]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
Load = Callable[[Path], torch.Tensor]

CUT = (T.RandomResizedCrop(SIZE, SCALE, RATIO), T.RandomHorizontalFlip())
TO_FLOAT = T.Compose([*CUT, T.ToTensor(), T.Normalize(MEAN, STD)])
TO_UINT8 = T.Compose([*CUT, T.PILToTensor()])


def main() -> int:
    """Measures every folder and way and records it; returns 1 where the decoder is not built."""
    if not begin(__doc__ or ""):
        return 1
    runs = [run for name, folder in FOLDERS.items() for run in measure(name, some_of(folder))]
    with tempfile.TemporaryDirectory() as made:
        runs += measure(LIKE_IMAGENET, [like_imagenet(file, Path(made)) for file in some_of(FOLDERS["COCO"])])
    for run in runs:
        print(run["data"], run["way"], f"{run['images_per_second']:.0f} images/s, {run['ratio']:.2f}", sep=", ")
    settings = {
        "images": IMAGES, "rounds": ROUNDS, "size": SIZE, "scale": SCALE, "ratio": RATIO,
        LIKE_IMAGENET: {"long_side": LONG_SIDE, "quality": QUALITY}, **decoders(),
    }  # fmt: skip
    put(make_entry(
        "image-loading", "A file to a random view of 224 x 224 pixels: ours beside torchvision's ImageFolder way.",
        "python -m benchmarks.image_loading", runs, settings=settings,
        note="CPU time of one thread, files in the system's cache, in turns image by image, with the same crops "
        "(RandomResizedCrop's law) and flips; milliseconds are medians over the rounds of the mean over all images, "
        "ratios medians of the rounds' ratios with their quartiles. These photographs stand for ImageNet's, of which "
        "the full-size ones are not here (about 500 x 375, 110 KB): VOC2012's have its size and less than half its "
        f"bytes, COCO's are larger (640 x 480, 190 KB), and made smaller (longer side {LONG_SIDE}, quality {QUALITY}) "
        "have its size and its bytes. Differences are of grey levels, against Pillow's pixels; of the "
        "smaller files those of the same part of the image, up to rounding to its pixels.",
    ))  # fmt: skip
    return 0


def begin(description: str) -> bool:
    """Reads the command line, takes down the versions and computes on one thread; False without the decoder."""
    argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    if library() is None:
        print("error: the decoder of parts is not built; run resnet-backbone build-decoder", file=sys.stderr)
        return False
    versions()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    return True


def decoders() -> dict[str, str]:
    """Versions of what decodes."""
    asked = subprocess.run(
        ["cc", "-E", "-P", "-"], input="#include <stdio.h>\n#include <jpeglib.h>\nLIBJPEG_TURBO_VERSION\n",
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return {
        "pillow": importlib.metadata.version("Pillow"),
        "pillow_libjpeg_turbo": str(features.version("libjpeg_turbo")),
        "opencv": cv2.__version__,
        "decoder_libjpeg_turbo": asked.stdout.split()[-1],
    }


def choose(height: int, width: int) -> Box:
    """RandomResizedCrop's own draw."""
    top, left, h, w = T.RandomResizedCrop.get_params(torch.empty(1).expand(3, height, width), SCALE, RATIO)
    return left, top, left + w, top + h


def ours(file: Path, plain: bool = False) -> torch.Tensor:
    """The view, flipped or not, uint8."""
    view = views.view_of(file.read_bytes(), choose, SIZE, plain=plain, name=str(file))
    return view.flip(2) if torch.rand(1) < 0.5 else view


def normalised(file: Path) -> torch.Tensor:
    """The view as the network takes it."""
    return normalise(ours(file), [255 * m for m in MEAN], [255 * s for s in STD])


def same_part(file: Path, small: Path) -> torch.Tensor:
    """What `ours` draws of `file`, out of the smaller one: its own draw would be another part."""
    height, width = image_size(str(file))
    left, top, right, bottom = choose(height, width)

    def scaled(h: int, w: int) -> Box:
        return round(left * w / width), round(top * h / height), round(right * w / width), round(bottom * h / height)

    view = views.view_of(small.read_bytes(), scaled, SIZE)
    return view.flip(2) if torch.rand(1) < 0.5 else view


def by_opencv(load: Load) -> Load:
    """The same without the helper."""

    def loaded(file: Path) -> torch.Tensor:
        with patch.object(views, "library", lambda: None):
            return load(file)

    return loaded


WAYS: dict[str, Load] = {
    "torchvision, float": lambda file: TO_FLOAT(pil_loader(str(file))),
    "torchvision, uint8": lambda file: TO_UINT8(pil_loader(str(file))),
    "ours by Pillow, uint8": lambda file: ours(file, plain=True),
    "ours by OpenCV, float": by_opencv(normalised),
    "ours by OpenCV, uint8": by_opencv(ours),
    "ours, part alone, float": normalised,
    "ours, part alone, uint8": ours,
}
SMALLER = {f"ours, part alone, uint8, files of --short-side {side}": side for side in SHORT_SIDES}
REFERENCE, PIXELS = "torchvision, float", "torchvision, uint8"


def some_of(folder: str) -> list[Path]:
    """The first photographs of the data's folder."""
    return sorted((data_folder() / folder).glob("*.jpg"))[:IMAGES]


def like_imagenet(file: Path, folder: Path) -> Path:
    """The photograph at ImageNet's size."""
    image = Image.open(file).convert("RGB")
    scale = LONG_SIDE / max(image.size)
    image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS).save(
        folder / file.name, quality=QUALITY, subsampling=0
    )
    return folder / file.name


def measure(name: str, files: list[Path]) -> list[dict[str, Any]]:
    """A run for each way: milliseconds an image of every round, and how far pixels are from Pillow's."""
    ways = [*WAYS, *SMALLER]
    seconds = np.zeros((ROUNDS + 1, len(ways)))
    apart: dict[str, list[torch.Tensor]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory() as made:
        for number in range(ROUNDS + 1):
            for index, file in enumerate(files):
                small = {way: Path(made) / f"{side}-{file.name}" for way, side in SMALLER.items()}
                if number == 0:
                    for way, side in SMALLER.items():
                        small[way].write_bytes(smaller(file.read_bytes(), side)[0])
                found = {}
                for turn in range(len(ways)):
                    which = (turn + index + number) % len(ways)
                    way = ways[which]
                    load, source = WAYS.get(way, ours), small.get(way, file)
                    torch.manual_seed(index)
                    began = time.process_time()
                    found[way] = load(source)
                    seconds[number, which] += time.process_time() - began
                if number == 0:
                    for way, source in small.items():
                        torch.manual_seed(index)
                        found[way] = same_part(file, source)
                    for way, view in found.items():
                        if view.dtype == torch.uint8:
                            apart[way].append((view.int() - found[PIXELS].int()).abs())
    ms = dict(zip(ways, (1000 * seconds[1:] / len(files)).T))  # the first round warms up
    size = round(statistics.fmean(file.stat().st_size for file in files))
    return [
        {"data": name, "way": way, "file_bytes": size, **speed(ms[way], ms[REFERENCE]), **differences(apart[way])}
        for way in ways
    ]


def speed(ms: NDArray[np.float64], reference: NDArray[np.float64]) -> dict[str, Any]:
    """Of milliseconds an image, a value a round."""
    q1, ratio, q3 = np.percentile(reference / ms, [25, 50, 75]).tolist()
    middle = float(np.median(ms))
    return {
        "ms": middle, "images_per_second": 1000 / middle, "ratio": ratio, "ratio_q1": q1, "ratio_q3": q3,
        "ms_all": [round(value, 4) for value in ms.tolist()],
    }  # fmt: skip


def differences(apart: list[torch.Tensor]) -> dict[str, Any]:
    """Of absolute differences, an image each; null for floats, which are the same pixels again."""
    means = [float(one.float().mean()) for one in apart]
    return {
        "largest_difference": max((int(one.max()) for one in apart), default=None),
        "mean_difference": statistics.fmean(means) if means else None,
        "worst_image_difference": max(means, default=None),
    }


if __name__ == "__main__":
    sys.exit(main())
