"""A trained detector, found by its run's folder, built from its own config and record, and strictly loaded."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import detectron2.data.transforms as T
import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from torch import nn

from resnet_backbone.detection.build import build_detector
from resnet_backbone.detection.device import choose_device
from resnet_backbone.detection.prediction.results import Classes
from resnet_backbone.detection.prepare import prepare
from resnet_backbone.detection.training.checkpoint import FINAL
from resnet_backbone.detection.training.config import read_config
from resnet_backbone.detection.training.sets import category_ids
from resnet_backbone.engine.loop import LAST
from resnet_backbone.evaluation.pictures import Picture
from resnet_backbone.weights.load import load_weights, read_source

logger = logging.getLogger(__name__)


class Predictor:
    """A detector for one image at a time, with the input that its config says; the same as DefaultPredictor.

    Args:
        model: in eval mode, on its device.

    Raises:
        ValueError: INPUT.FORMAT is neither "RGB" nor "BGR", or the model finds no objects by its nature.
    """

    def __init__(self, cfg: CfgNode, model: nn.Module) -> None:
        if cfg.INPUT.FORMAT not in ("RGB", "BGR"):
            raise ValueError(f"INPUT.FORMAT: {cfg.INPUT.FORMAT!r} is neither 'RGB' nor 'BGR'; set what was trained on")
        if cfg.MODEL.META_ARCHITECTURE in ("SemanticSegmentor", "ProposalNetwork"):
            raise ValueError(f"MODEL.META_ARCHITECTURE: {cfg.MODEL.META_ARCHITECTURE} finds no objects; use a detector")
        self.cfg, self.model = cfg, model
        size = cfg.INPUT.MIN_SIZE_TEST
        self._resize = T.ResizeShortestEdge([size, size], cfg.INPUT.MAX_SIZE_TEST)

    @torch.no_grad()
    def __call__(self, image: Picture) -> Any:
        """Detectron2's Instances, on the CPU.

        Args:
            image: RGB, H,W,3, 0..255.

        Raises:
            ValueError: an image so thin that nothing is left of it at INPUT.MAX_SIZE_TEST.
        """
        height, width = image.shape[:2]
        pixels = image if self.cfg.INPUT.FORMAT == "RGB" else image[:, :, ::-1]
        pixels = self._resize.get_transform(pixels).apply_image(pixels)
        tensor = torch.as_tensor(pixels.astype("float32").transpose(2, 0, 1).copy())
        found = self.model([{"image": tensor, "height": height, "width": width}])[0]
        return found["instances"].to("cpu")


def locate(weights: Path, config: Path | None) -> tuple[Path, Path]:
    """The files of weights and config that a run's folder, or a file, stands for.

    Raises:
        ValueError: one of them is not there.
    """
    weights = weights.expanduser()
    if not weights.exists():
        raise ValueError(f"--weights {weights}: no such folder or file; give a run's folder, as runs/NAME")
    file = weights
    if weights.is_dir():
        file = next((weights / name for name in (FINAL, LAST) if (weights / name).is_file()), weights)
        if file == weights:
            raise ValueError(f"--weights {weights}: holds neither {FINAL} nor {LAST}; give a run's folder, or a file")
        if file.name == LAST:
            logger.info("%s: the run is not finished; its last checkpoint, %s, is used", weights, LAST)
    beside = config or file.with_name("config.yaml")
    if not beside.is_file():
        raise ValueError(
            f"{beside}: no such config file; "
            + ("correct --config" if config else "name the run's settled config: --config FILE")
        )
    return file, beside


def load(file: Path, config: Path, overrides: Sequence[str] = ()) -> tuple[Predictor, Classes]:
    """The detector of a settled config with all of its weights, and its classes.

    Args:
        file: weights, the record in which settles the input; or the state of a run, which `config` is of.
        overrides: KEY VALUE KEY VALUE ..., which win over the config.

    Raises:
        ValueError: a key, a device or classes that cannot be used.
        WeightsError: weights that are not all of this model's.
    """
    read = read_config(config, overrides)
    cfg = read.cfg
    if "MODEL.WEIGHTS" in read.given:
        raise ValueError(f"MODEL.WEIGHTS {cfg.MODEL.WEIGHTS}: give --weights instead")
    source = read_source(file, of_run=True)
    cfg.MODEL.WEIGHTS = "" if source.of_run else str(file)
    if "MODEL.RESIDUAL.COMPILE" not in read.given:
        cfg.MODEL.RESIDUAL.COMPILE = False  # pays off over a training, not over some images of many sizes
    if not source.of_run:
        prepare(cfg, explicit=read.given)
    classes = classes_of(cfg)
    notes = [choose_device(cfg, asked="MODEL.DEVICE" in read.given)]
    if not classes.names:
        notes.append("the config names no classes: numbers instead; DATA.CLASSES \"['cat', 'dog']\" names them")
    cfg.freeze()
    model = build_detector(cfg)
    logger.info("%s", load_weights(model, source))
    for note in notes:
        if note:
            logger.info("%s", note)
    return Predictor(cfg, model.eval()), classes


def classes_of(cfg: CfgNode) -> Classes:
    """Names and ids of what the model finds: the config's, else those that Detectron2 knows of its training set.

    Raises:
        ValueError: DATA.CLASSES or DATA.CATEGORY_IDS do not fit the model.
    """
    kind = "RETINANET" if cfg.MODEL.META_ARCHITECTURE in ("RetinaNet", "FCOS") else "ROI_HEADS"
    count = cfg.MODEL[kind].NUM_CLASSES
    for key in ("CLASSES", "CATEGORY_IDS"):
        if cfg.DATA[key] and len(cfg.DATA[key]) != count:
            raise ValueError(
                f"DATA.{key}: {len(cfg.DATA[key])} of them, but the model has {count} classes "
                f"(MODEL.{kind}.NUM_CLASSES); give all, in the order of training"
            )
    names, ids = tuple(cfg.DATA.CLASSES), tuple(cfg.DATA.CATEGORY_IDS)
    dataset = cfg.DATASETS.TRAIN[0] if cfg.DATASETS.TRAIN else ""
    if dataset in MetadataCatalog.list():
        known = tuple(MetadataCatalog.get(dataset).get("thing_classes") or ())
        if len(known) == count:
            names, ids = names or known, ids or tuple(category_ids(dataset, count))
    return Classes(names, ids or tuple(range(1, count + 1)))
