"""A run's detector over images and videos: what it finds as pictures, and as results for COCO's tools."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from resnet_backbone.detection.config import default_config
from resnet_backbone.detection.evaluator import RESULTS_FILE
from resnet_backbone.detection.prediction.inputs import (
    IMAGES,
    VIDEOS,
    Input,
    Unreadable,
    Video,
    find_inputs,
    read_pixels,
)
from resnet_backbone.detection.prediction.predictor import Predictor, load, locate
from resnet_backbone.detection.prediction.results import IMAGES_FILE, Film, Predictions
from resnet_backbone.engine.guard import guarded
from resnet_backbone.engine.interrupt import GracefulStop
from resnet_backbone.engine.logs import set_up_logs
from resnet_backbone.engine.progress import Progress
from resnet_backbone.evaluation.pictures import Picture

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PredictOptions:
    """What the command line says.

    Attributes:
        weights: a run's folder, or a file of weights.
        words: images, folders, videos, patterns, and among them KEY VALUE pairs.
        config: a YAML file; None: config.yaml beside the weights.
        output: None: the folder predictions beside the weights.
        threshold: score from which on objects are drawn and counted; None: TEST.PICTURE_THRESH.
        every: of videos, every how-many-th frame is looked at.
        pictures: draw pictures and videos.
    """

    weights: Path
    words: Sequence[str]
    config: Path | None = None
    output: Path | None = None
    threshold: float | None = None
    every: int = 1
    pictures: bool = True


@dataclass(frozen=True)
class Outcome:
    """How many images and videos were left out or broke off, and whether the user stopped the rest."""

    unreadable: int
    stopped: bool


def start(options: PredictOptions) -> int:
    """Predicts; returns 0, 1 where something is wrong or was left out, 130 when stopped. Errors are one sentence."""
    return guarded(
        lambda: _exit_code(predict(options)),
        memory_remedy="a smaller INPUT.MIN_SIZE_TEST and INPUT.MAX_SIZE_TEST, or MODEL.DEVICE cpu",
    )


def _exit_code(outcome: Outcome) -> int:
    return 130 if outcome.stopped else int(outcome.unreadable > 0)


def predict(options: PredictOptions) -> Outcome:
    """Everything from options to files; what was found is written also when something breaks on the way.

    Raises:
        ValueError: whatever a user can mend: paths, config, weights, device; one sentence each.
        OSError: nothing can be written.
    """
    set_up_logs(None)
    if options.threshold is not None and not 0 <= options.threshold <= 1:
        raise ValueError(f"--threshold {options.threshold:g}: scores lie between 0 and 1")
    if options.every < 1:
        raise ValueError(f"--every {options.every}: 1 looks at every frame, 2 at every second, ...")
    words, pairs = split_words(options.words)
    inputs, notes = find_inputs(words)
    for note in notes:
        logger.info("%s", note)
    file, config = locate(options.weights, options.config)
    predictor, classes = load(file, config, pairs)
    threshold = predictor.cfg.TEST.PICTURE_THRESH if options.threshold is None else options.threshold
    output = options.output or file.parent / "predictions"
    if (output / IMAGES_FILE).exists():
        logger.info("%s: the results of before are replaced, pictures of other images stay", output)
    output.mkdir(parents=True, exist_ok=True)
    info = {"description": "objects found by resnet_backbone", "weights": str(file), "config": str(config)}
    found = Predictions(output, classes, threshold, info)
    try:
        outcome = Pass(predictor, found, options).over(inputs)
    except BaseException:
        if found.seen:
            found.write()
        raise
    found.write()
    _say_where(found, outcome, len(inputs))
    return outcome


def split_words(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Paths, and KEY VALUE pairs: a word that is no path and begins as a config key does is one, the next its value."""
    paths: list[str] = []
    pairs: list[str] = []
    rest = iter(words)
    for word in rest:
        if not Path(word).exists() and _is_key(word):
            pairs += [word, *[value for value in [next(rest, None)] if value is not None]]
        else:
            paths.append(word)
    return paths, pairs


def _is_key(word: str) -> bool:
    """Whether it is meant as a key, misspelt ones included: the config's reader names the nearest."""
    groups = list(default_config())
    first, dot, _ = word.partition(".")
    if first in groups:
        return True
    named = dot and first.isupper() and not word.lower().endswith((*IMAGES, *VIDEOS))
    return bool(named and difflib.get_close_matches(first, groups, n=1, cutoff=0.7))


class Pass:
    """One pass over all inputs.

    Image ids count up from 0 through all inputs, and every frame of a video has its own: a video alone has its
    frame numbers as ids.
    """

    def __init__(self, predictor: Predictor, found: Predictions, options: PredictOptions) -> None:
        self._predictor, self._found, self._options = predictor, found, options
        self._next_id = 0
        self._progress = Progress(0, "predicting")
        self._stop = GracefulStop()

    def over(self, inputs: Sequence[Input]) -> Outcome:
        """Looks at all of them; what does not decode is told of and left out."""
        unreadable = 0
        steps = [_steps(one, self._options.every) for one in inputs]
        self._progress = Progress(sum(steps), "predicting")
        with self._stop:
            for one, expected in zip(inputs, steps, strict=True):
                if self._stop.asked:
                    break
                before = self._progress.done
                try:
                    if one.is_video:
                        self._video(one)
                    else:
                        self._image(one)
                except Unreadable as error:
                    unreadable += 1
                    self._progress.note(f"warning: {error}")
                self._progress.total += self._progress.done - before - expected
        self._progress.close()
        return Outcome(unreadable, self._stop.asked)

    def _image(self, one: Input) -> None:
        [image] = self._progress.waiting(map(read_pixels, [one.path]))
        try:
            instances = self._predictor(image)
        except ValueError as error:
            raise Unreadable(f"{one.path}: {image.shape[1]} x {image.shape[0]} pixels: {error}") from None
        more = {}
        if self._options.pictures:
            self._found.save_picture(one.name, image, instances)
            more = {"picture": f"pictures/{one.name}.jpg"}
        self._found.add(self._next_id, str(one.path), instances, **more)
        self._next_id += 1
        self._step()

    def _video(self, one: Input) -> None:
        first = self._next_id
        with (
            Video(one.path, self._options.every) as video,
            Film(self._found.pictures / f"{one.name}.mp4", video.rate) as film,
        ):
            for number, frame in self._progress.waiting(video.frames()):
                self._frame(one, first + number, number, frame, film)
                self._next_id = first + number + 1
                if self._stop.asked:
                    break

    def _frame(self, one: Input, image_id: int, number: int, frame: Picture, film: Film) -> None:
        instances = self._predictor(frame)
        if self._options.pictures:
            film.write(self._found.draw(frame, instances, enlarge=False))
        self._found.add(image_id, f"{one.path}#{number}", instances, frame=number)
        self._step()

    def _step(self) -> None:
        self._progress.step(objects=str(self._found.counts.total()))


def _steps(one: Input, every: int) -> int:
    """How many images it counts for, as far as can be known beforehand."""
    if not one.is_video:
        return 1
    try:
        with Video(one.path, every) as video:
            return max(video.steps, 1)
    except Unreadable:
        return 1


def _say_where(found: Predictions, outcome: Outcome, total: int) -> None:
    """The last lines: what was found, what was not looked at, and where everything is."""
    logger.info("%s", found.counted())
    if outcome.stopped:
        logger.info("stopped: what was looked at until then is written")
    if outcome.unreadable:
        logger.warning("%d of %d inputs do not decode, or not to their end: named above", outcome.unreadable, total)
    made = {
        "pictures": found.pictures,
        "all detections": found.folder / RESULTS_FILE,
        "images and classes by id": found.folder / IMAGES_FILE,
    }
    for what, place in made.items():
        if place.exists():
            logger.info("  %-26s %s", what, place)
