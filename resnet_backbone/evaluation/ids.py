"""What is wrong with ids that the annotations do not have: said by looking at which there are."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from resnet_backbone.engine.text import some
from resnet_backbone.evaluation.json_files import kind_of
from resnet_backbone.evaluation.truth import GroundTruth


def image_remedy(ids: Collection[Any], truth: GroundTruth) -> str:
    """What to do about results whose image ids are not all among the annotations'."""
    images = truth.coco["images"]
    known = {image["id"] for image in images}
    if not known:
        return "the annotations have no images"
    example = min(known, key=str)
    unknown = [i for i in ids if i not in known]
    meant = _meant(unknown, known)
    if meant is not None:
        return f"the annotations' image ids are {kind_of(meant)}, as {meant!r}: write them so"
    names = {Path(str(image.get("file_name", ""))).stem: image["id"] for image in images}
    named = next((i for i in unknown if isinstance(i, str) and Path(i).stem in names), None)
    if named is not None:
        return f"these are file names: write the annotations' image ids ({named!r} is {names[Path(named).stem]!r})"
    if len(unknown) < len(ids):
        return "evaluate on the images that the detector saw, or take the other ones' detections out"
    places = all(isinstance(i, int) and 0 <= i <= len(images) for i in ids)
    if places:
        return f"they look like places in the list of images: write the annotations' image ids, as {example!r}"
    return f"results and annotations are of different data: the annotations' image ids are such as {example!r}"


def _meant(unknown: Iterable[Any], known: Iterable[Any]) -> Any:
    """The first known id that is an unknown one but for its kind or for zeros before it; None where there is none."""
    by_plain = {_plain(i): i for i in known}
    return next((by_plain[_plain(i)] for i in unknown if _plain(i) in by_plain), None)


def _plain(identity: Any) -> str:
    return str(identity).lstrip("0")


def category_remedy(ids: Collection[Any], truth: GroundTruth) -> str:
    """What to do about results whose category ids are not all among the annotations'."""
    known, count = truth.category_ids, len(truth.category_ids)
    if not known:
        return "the annotations have no categories"
    meant = _meant((i for i in ids if i not in known), known)
    if meant is not None:
        return f"the annotations' category ids are {kind_of(meant)}, as {meant!r}: write them so"
    whole = [i for i in ids if isinstance(i, int)]
    if len(whole) == len(ids) and 0 <= min(whole) <= max(whole) <= count:
        first = 0 if max(whole) < count and 0 not in known else 1
        if min(whole) >= first:
            return (
                f"they look like classes counted from {first} without gaps: write the annotations' category ids, "
                f"which are {_listed(truth)}"
            )
    return f"the annotations have {_listed(truth)}; are these results of other classes?"


def _listed(truth: GroundTruth) -> str:
    return some([f"{i} {name}" for i, name in zip(truth.category_ids, truth.classes)], 5)
