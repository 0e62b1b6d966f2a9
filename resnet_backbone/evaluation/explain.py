"""Says why an AP is 0 or nan, by measuring again under the mistakes that people make.

Nothing is said without evidence: a mistake is named only where undoing it gives several times the AP. Detectors
that are merely weak, and good ones, are told nothing but what is counted.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from resnet_backbone.engine.text import some
from resnet_backbone.evaluation.box_readings import box_readings
from resnet_backbone.evaluation.case import LOW, OBJECTS, TIMES, Case, make_case, mean_of
from resnet_backbone.evaluation.class_readings import class_findings
from resnet_backbone.evaluation.truth import GroundTruth
from resnet_backbone.evaluation.voc import Floats, VocDetections


def explain(
    truth: GroundTruth, found: VocDetections, *, model_classes: Sequence[str] = (), threshold: str = ""
) -> list[str]:
    """One line, with the remedy, for each reason why numbers are 0 or nan; none where nothing is wrong.

    Args:
        truth: what was there.
        found: what was found, with class indices into `truth.classes`, all images in the truth.
        model_classes: the classes that the model was trained on, by class index, where they are known.
        threshold: what sets the score below which the detector gives no detections, where it is known.
    """
    case = make_case(truth, found)
    lines, asked = _without_objects(truth, case)
    if not asked:
        return lines
    if not len(case.scores):
        return [
            *lines,
            "AP 0: there are no detections at all; were trained weights loaded, and does the score threshold "
            f"{f'({threshold}) ' if threshold else ''}let anything pass?",
        ]
    values = case.ap50()
    if mean_of(values) < LOW and model_classes and tuple(model_classes) != truth.classes:
        lines.append(
            f"the model's classes are {some(model_classes)}, the data's {some(truth.classes)}: evaluate on data with "
            "the model's classes in the model's order (DATA.CLASSES names and orders them)"
        )
    about_classes = class_findings(case, values)
    if about_classes:
        return lines + about_classes
    if mean_of(values) < LOW:
        lines += _why_low(case, mean_of(values))
    return lines + _silent(case, values)


def _without_objects(truth: GroundTruth, case: Case) -> tuple[list[str], bool]:
    """Why AP is nan, and whether VOC's metric has anything to measure at all."""
    voc, annotations = truth.as_voc(), truth.coco.get("annotations") or ()
    labels, ignored = np.asarray(voc.classes, np.int64), np.asarray(voc.difficult, bool)
    if not len(labels) and annotations:
        return ["AP nan: no annotation is of an image and of a category that the annotations have"], False
    if not len(labels):
        return ["AP nan: the annotations have no objects, so there is nothing to measure; annotate some"], False
    asked = np.isin(np.arange(len(case.names)), labels[~ignored])
    # COCO's metric takes difficult objects for ordinary ones.
    images = {image["id"] for image in truth.coco["images"]}
    ordinary = {one["category_id"] for one in annotations if one["image_id"] in images and not one.get("iscrowd")}
    by_coco = np.array([category in ordinary for category in truth.category_ids])
    if not asked.any() and not by_coco.any():
        return [f"AP nan: all {len(labels)} objects are crowds, which are not asked for"], False
    if not asked.any():
        return [f"VOC's AP nan: all {len(labels)} objects are difficult ones or crowds, which it ignores"], False
    lines = []
    for whose, what, chosen in (
        ("AP", "no object to be found here", ~asked & ~by_coco),
        ("VOC's AP", "none but difficult objects, which it ignores", ~asked & by_coco),
    ):
        names = [name for name, one in zip(case.names, chosen) if one]
        if names:
            lines.append(
                f"{whose} nan: {len(names)} of the {len(asked)} classes have {what} ({some(names)}); they are no "
                "part of any mean"
            )
    return lines, True


def _silent(case: Case, values: Floats) -> list[str]:
    names = [name for n, name in enumerate(case.names) if values[n] == 0 and not (case.classes == n).any()]
    if not names:
        return []
    return [
        f"AP 0: there are no detections of {some(names)}; are they in the training data, in number and by this name?"
    ]


def _why_low(case: Case, now: float) -> list[str]:
    """The boxes' format and scale, the images' order, and what is left where none of them explains it."""
    enough = max(LOW, TIMES * now)
    for group in box_readings(case) if len(case.truth_images) >= OBJECTS else ():
        means = [one.mean() for _, one in group]
        if means and max(means) >= enough:
            at = next(n for n, mean in enumerate(means) if mean >= 0.9 * max(means))
            (what, read), best = group[at], means[at]
            if not case.explained_by(read):
                continue
            return [
                f"the boxes are {what}: read so, AP50 is {best:.1f} instead of {now:.1f}; write them as COCO's results "
                "(x, y, width, height) or VOC's (xmin, ymin, xmax, ymax) in pixels of the original image"
            ]
    for shift in (1, -1):
        moved = case.with_images(shift)
        best = moved.mean()
        if best >= enough and case.explained_by(moved):
            return [
                f"the detections are one image off: read as those of the {'next' if shift > 0 else 'previous'} image "
                f"AP50 is {best:.1f} instead of {now:.1f}; write the annotations' image ids, not places in a list"
            ]
    return _nothing_found(case, now)


def _nothing_found(case: Case, now: float) -> list[str]:
    """Where no mistake explains it: what the scores tell."""
    scores = case.scores[case.chosen[case.images]]
    if not len(scores):
        return [f"AP50 {now:.1f}: none of the {len(case.scores)} detections is in an image with objects"]
    low, middle, high = np.quantile(scores, (0.1, 0.5, 0.9))
    met = 100 * len(case.matches()[1]) / max(len(case.truth_images), 1)
    head = (
        f"AP50 {now:.1f}: {len(scores)} detections (scores {low:.2g} to {high:.2g}) meet {met:.0f} % of the objects; "
        "no other format, scale or order of boxes, classes and images would do better"
    )
    # Heads with first weights give every class of every box about the same score; trained ones never do.
    if now < LOW / 2 and high < 0.6 and high - low < 0.4 * middle:
        return [f"{head}; scores as even as these come from untrained heads: were all trained weights loaded?"]
    if now < 1 and case.of_one_class().mean() < LOW:
        return [f"{head}; look at the pictures, and whether the detector was trained on such data, and long enough"]
    return []
