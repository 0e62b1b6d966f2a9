"""Classes of ILSVRC2012's validation images, which its archive does not say."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from resnet_backbone.classification.data.archives import content_of, files_of, opened

NUMBERS, META = "ILSVRC2012_validation_ground_truth.txt", "meta.mat"


def read_truth(path: Path) -> dict[str, str] | list[str]:
    """Synsets of the validation images: by file name without ending, or in the order of the images' names.

    Args:
        path: the development kit (ILSVRC2012_devkit_t12.tar.gz), LOC_val_solution.csv, or a text file with a synset
            a line.

    Raises:
        ValueError: nothing of the kind.
    """
    if path.name.endswith((".tar.gz", ".tgz", ".tar")):
        return _devkit(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not readable ({error}); --truth is the devkit, a .csv or a text file") from None
    if path.suffix == ".csv":
        rows = csv.DictReader(lines)
        if not {"ImageId", "PredictionString"} <= set(rows.fieldnames or ()):
            raise ValueError(f"{path}: has no columns ImageId and PredictionString, as LOC_val_solution.csv does")
        return {row["ImageId"]: row["PredictionString"].split()[0] for row in rows}
    synsets = [line.strip() for line in lines if line.strip()]
    odd = next((line for line in synsets if len(line.split()) != 1), None)
    if odd is not None or not synsets:
        raise ValueError(f"{path}: {odd or 'nothing'!r} stands where a line has one synset, as n01440764")
    return synsets


def _devkit(path: Path) -> list[str]:
    """Class numbers in the images' order, and the synsets of the numbers out of a MATLAB file."""
    try:
        from scipy.io import loadmat  # type: ignore[import-untyped]
    except ImportError:
        raise ValueError(f"{path}: its meta.mat is read by scipy: pip install scipy") from None
    with opened(path) as archive:
        found = {Path(member.name).name: member for member in files_of(archive, path)}
        missing = [name for name in (NUMBERS, META) if name not in found]
        if missing:
            raise ValueError(f"{path}: holds no {missing[0]}, as ILSVRC2012_devkit_t12.tar.gz does")
        numbers = content_of(archive, found[NUMBERS], path).decode().split()
        meta = loadmat(io.BytesIO(content_of(archive, found[META], path)), squeeze_me=True)["synsets"]
    synsets = {str(row[0]): str(row[1]) for row in meta}
    unknown = [number for number in numbers if number not in synsets]
    if unknown:
        raise ValueError(f"{path}: class {unknown[0]} of the truth is not in {META}")
    return [synsets[number] for number in numbers]
