"""What a detector is to look at: images, folders and videos as the user names them, and their pixels."""

from __future__ import annotations

import difflib
import glob
import itertools
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
from detectron2.data.detection_utils import read_image

from resnet_backbone.evaluation.pictures import Picture, unique_names

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm", ".jp2", ".avif")
VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg")


class Unreadable(ValueError):
    """An image or video that does not decode; the message names the file."""


@dataclass(frozen=True)
class Input:
    """An image or a video.

    Attributes:
        name: for what is made of it, without suffix; no two inputs have the same, however upper and lower case
            are taken.
    """

    path: Path
    name: str

    @property
    def is_video(self) -> bool:
        """By its suffix: everything else is taken for an image."""
        return self.path.suffix.lower() in VIDEOS


def find_inputs(words: Sequence[str]) -> tuple[list[Input], list[str]]:
    """The images and videos of files, folders (without the folders in them) and patterns, each once.

    Args:
        words: as on the command line; a pattern such as "photos/*.jpg" that the shell left as it is gets expanded.

    Returns:
        The inputs in the order of `words`, those of a folder by name; lines for the user.

    Raises:
        ValueError: a path that is not there, or nothing to look at.
    """
    paths: list[Path] = []
    notes = []
    for path in itertools.chain.from_iterable(_matches(word) for word in words):
        if not path.is_dir():
            paths.append(path)
            continue
        inside = _in_folder(path)
        paths += inside
        folders = sum(entry.is_dir() for entry in path.iterdir())
        if folders or not inside:
            more = f"; its {folders} folders are not searched, name them too: {path}/*" if folders else ""
            notes.append(f"{path}: {len(inside)} images and videos{more}")
    if not paths:
        suffixes = " ".join(s[1:] for s in (*IMAGES, *VIDEOS))
        raise ValueError(f"{'; '.join(notes) or 'nothing named'}: nothing to look at; name images, videos or folders "
                         f"that hold some ({suffixes})")  # fmt: skip
    once = list({path.resolve(): path for path in reversed(paths)}.values())[::-1]
    return [Input(path, name) for path, name in zip(once, unique_names(once), strict=True)], notes


def _matches(word: str) -> list[Path]:
    path = Path(word).expanduser()
    if path.exists():
        return [path]
    found = [Path(match) for match in sorted(glob.glob(str(path), recursive=True))]
    if not found:
        there = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        near = difflib.get_close_matches(path.name, there, n=1)
        raise ValueError(
            f"{word}: no such image, folder or video; "
            + (f"did you mean {path.with_name(near[0])}?" if near else "correct the path")
        )
    return found


def _in_folder(folder: Path) -> list[Path]:
    known = (*IMAGES, *VIDEOS)
    entries = sorted(folder.iterdir())
    # Hidden files: macOS puts "._photo.jpg" beside a photo.jpg, which is none.
    return [p for p in entries if p.suffix.lower() in known and p.is_file() and not p.name.startswith(".")]


def read_pixels(path: Path) -> Picture:
    """RGB pixels, H,W,3, upright, as Detectron2 reads them.

    Raises:
        Unreadable: it does not decode.
    """
    try:
        return np.ascontiguousarray(read_image(str(path), format="RGB"))
    except Exception as error:  # Pillow's decoders raise OSError, ValueError, SyntaxError, struct.error and more
        raise Unreadable(f"{path}: does not decode ({_sentence(error)})") from None


def _sentence(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"


class Video:
    """A video's frames; to be entered by `with`.

    Args:
        every: 1 for all frames, n for frames 0, n, 2n, ...

    Attributes:
        steps: how many frames `frames` will give, by the file's header.
        rate: of the frames given, per second.

    Raises:
        Unreadable: it does not open.
    """

    def __init__(self, path: Path, every: int = 1) -> None:
        # Its messages name no file; ours do. Only read when the first video is opened.
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
        self.path, self.every = path, every
        self._capture = cv2.VideoCapture(str(path))
        if not self._capture.isOpened():
            raise Unreadable(f"{path}: does not open as a video")
        said = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self._said = int(said) if math.isfinite(said) and said > 0 else 0
        self.steps = math.ceil(self._said / every)
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate = (rate if math.isfinite(rate) and 0 < rate <= 1000 else 25.0) / every

    def __enter__(self) -> Video:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._capture.release()

    def frames(self) -> Iterator[tuple[int, Picture]]:
        """Frame numbers from 0 on, and RGB pixels, H,W,3.

        Raises:
            Unreadable: at its end, if it breaks off before the end that its header names.
        """
        number = 0
        while self._capture.grab():
            if number % self.every == 0:
                there, frame = self._capture.retrieve()
                if not there:
                    break
                yield number, np.ascontiguousarray(frame[:, :, ::-1])
            number += 1
        # Headers of whole files are wrong by some frames, too.
        if number < 0.95 * self._said - 2 or number == 0:
            raise Unreadable(f"{self.path}: breaks off after {number} of {self._said} frames")
