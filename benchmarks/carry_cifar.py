"""CIFAR-10 in 55 % of its size: each piece of 5,000 images is one lossless WebP picture, beside their labels."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

FILES = (*(f"data_batch_{k}.bin" for k in range(1, 6)), "test_batch.bin")
NAMES = "batches.meta.txt"
CLASSES = "airplane automobile bird cat deer dog frog horse ship truck"
PIECE, ROW, SIDE = 5_000, 100, 32
LINE = 1 + 3 * SIDE * SIDE
"""Bytes of an image in the official binary files: its label, then red, green and blue."""
Bytes = NDArray[np.uint8]


def pack(data: Path, pieces: Path) -> list[Path]:
    """Writes the pieces of the official binary files, half a minute; each is read back and compared.

    Raises:
        ValueError: a file is not of the official size, or does not come back the same.
        OSError: a file is missing.
    """
    pieces.mkdir(parents=True, exist_ok=True)
    written = []
    for name in FILES:
        content = np.fromfile(data / name, np.uint8)
        if content.size != 2 * PIECE * LINE:
            raise ValueError(f"{data / name}: {content.size} bytes, not {2 * PIECE * LINE}; get it again")
        for part, lines in enumerate(content.reshape(2, PIECE, LINE)):
            path = pieces / f"{name}.{part}.npz"
            digest = np.frombuffer(hashlib.sha256(lines.tobytes()).digest(), np.uint8)
            np.savez(path, picture=encoded(lines[:, 1:]), labels=lines[:, 0], digest=digest)
            read_piece(path)
            written.append(path)
    return written


def encoded(pixels: Bytes) -> Bytes:
    """One picture of many: N,3072 uint8 to the bytes of a WebP file; N is a multiple of 100."""
    tiles = pixels.reshape(-1, ROW, 3, SIDE, SIDE).transpose(0, 3, 1, 4, 2).reshape(-1, ROW * SIDE, 3)
    file = io.BytesIO()
    # More effort takes ten times as long for 6 % less.
    Image.fromarray(tiles).save(file, format="WEBP", lossless=True, method=0, quality=0)
    return np.frombuffer(file.getvalue(), np.uint8)


def decoded(picture: Bytes) -> Bytes:
    """The opposite."""
    tiles = np.asarray(Image.open(io.BytesIO(picture.tobytes())).convert("RGB"))
    apart = tiles.reshape(-1, SIDE, ROW, SIDE, 3).transpose(0, 2, 4, 1, 3)
    return apart.reshape(-1, 3 * SIDE * SIDE)


def read_piece(path: Path) -> Bytes:
    """Half an official file, N,3073 uint8.

    Raises:
        ValueError: other bytes than were packed.
    """
    with np.load(path) as piece:
        lines = np.column_stack((piece["labels"], decoded(piece["picture"])))
        if hashlib.sha256(lines.tobytes()).digest() != piece["digest"].tobytes():
            raise ValueError(f"{path}: other bytes than were packed; pack it again")
    return lines


def unpack(folders: Sequence[Path], target: Path) -> Path:
    """The official files out of the pieces in these folders; what is there stays.

    Raises:
        ValueError: pieces are missing or damaged.
    """
    there = {path.name: path for folder in folders for path in folder.glob("*.npz")}
    missing = [name for name in piece_names() if name not in there]
    if missing:
        raise ValueError(f"CIFAR-10: {len(missing)} of {2 * len(FILES)} pieces are missing, as {missing[0]}; carry all")
    target.mkdir(parents=True, exist_ok=True)
    (target / NAMES).write_text("\n".join(CLASSES.split()) + "\n")
    for name in FILES:
        if not (target / name).is_file():
            halves = [read_piece(there[f"{name}.{part}.npz"]) for part in (0, 1)]
            (target / name).write_bytes(np.concatenate(halves).tobytes())
    return target


def piece_names() -> Iterator[str]:
    """Of all twelve."""
    return (f"{name}.{part}.npz" for name in FILES for part in (0, 1))
