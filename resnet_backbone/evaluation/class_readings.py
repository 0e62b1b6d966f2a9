"""Readings of detected classes under which right boxes get the right class: one further on, or another order."""

from __future__ import annotations

import numpy as np

from resnet_backbone.engine.text import some
from resnet_backbone.evaluation.case import LOW, TIMES, Case, mean_of
from resnet_backbone.evaluation.voc import Floats, Ints

MAJORITY = 0.6
"""Share of a class's matched detections that must be on objects of one other class for it to be taken for that."""


def class_findings(case: Case, values: Floats) -> list[str]:
    """One line where boxes are right and classes are not; none for single classes that are merely hard.

    Args:
        case: truth and detections.
        values: AP50 of every class as it is.
    """
    if len(case.names) == 1 or not (values < LOW).any():
        return []
    found = _shifted(case, values) or _reordered(case, values) or _at_random(case, values)
    return [found] if found else []


def _shifted(case: Case, values: Floats) -> str:
    now, count = mean_of(values), len(case.names)
    for shift in (1, -1):
        table = np.arange(count) + shift
        table[(table < 0) | (table >= count)] = -1
        read = case.with_classes(table)
        then = read.mean()
        if then >= max(LOW, TIMES * now) and case.explained_by(read):
            first = next(n for n in range(count) if table[n] >= 0 and (case.classes == n).any())
            return (
                f"the boxes are right and the classes shifted by one: with every class index one "
                f"{'higher' if shift > 0 else 'lower'} (what is called {case.names[first]!r} is "
                f"{case.names[table[first]]!r}) AP50 is {then:.1f} instead of {now:.1f}; {REMEDY}"
            )
    return ""


REMEDY = "write the category ids that the annotations give their names, and train and test with classes in one order"


def _reordered(case: Case, values: Floats) -> str:
    """Two classes or more that stand for one another."""
    table, covered = _majorities(case)
    changed = np.flatnonzero((table != np.arange(len(table))) & (table >= 0))
    targets = table[changed]
    # A weak detector takes cows for horses, but horses for cows at the same time only where names are exchanged.
    closed = np.isin(targets, changed) | ~np.isin(targets, case.classes)
    if len(changed) < 2 or not (closed.all() or covered > 0.5):
        return ""
    read = case.with_classes(table)
    now, then = mean_of(values[targets]), mean_of(read.ap50()[targets])
    if then < max(2 * LOW, TIMES * now) or not case.explained_by(read):
        return ""
    pairs = [f"{case.names[a]!r} is {case.names[b]!r}" for a, b in zip(changed, targets)]
    return (
        f"the boxes are right and {len(pairs)} classes in another order: what is called {some(pairs, 4)}; "
        f"read so, AP50 of these is {then:.1f} instead of {now:.1f}; {REMEDY}"
    )


def _majorities(case: Case) -> tuple[Ints, float]:
    """For every class the one on whose objects its detections are, and the share of matches that change so.

    No two classes become one: the class with the fewer matches keeps its own, or is taken out (-1) where another
    is that one.
    """
    count = len(case.names)
    detections, objects = case.matches()
    on = np.zeros((count, count), np.int64)
    np.add.at(on, (case.classes[detections], case.truth_classes[objects]), 1)
    target, most = on.argmax(axis=1), on.max(axis=1)
    clear = (most >= 3) & (most >= MAJORITY * on.sum(axis=1))
    clear &= most == np.array([most[clear & (target == t)].max(initial=0) for t in target])
    table = np.where(clear, target, np.arange(count))
    table[~clear & np.isin(table, target[clear])] = -1
    changed = clear & (target != np.arange(count))
    return table, float(most[changed].sum() / max(on.sum(), 1))


def _at_random(case: Case, values: Floats) -> str:
    """Right boxes whose classes tell no more than chance."""
    now, together = mean_of(values), case.of_one_class().mean()
    detections, objects = case.matches()
    said, true = case.classes[detections], case.truth_classes[objects]
    if now >= LOW / 2 or together < max(2 * LOW, TIMES * now) or len(said) < 20:
        return ""
    shares = [np.bincount(c, minlength=len(case.names)) / len(c) for c in (said, true)]
    right, chance = (said == true).mean(), (shares[0] * shares[1]).sum()
    if right > 1.5 * chance or shares[0].max() > 0.8:
        return ""
    return (
        f"the boxes are right (AP50 {together:.1f} if all objects were of one class), but their classes no better than "
        f"chance ({100 * right:.0f} % of the objects' are right): an untrained classifier, or classes of other data"
    )
