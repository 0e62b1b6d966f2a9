"""The record of the weights settles a detector's input and stride; nobody types them."""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path
from typing import Any

from resnet_backbone.detection.config import default_config, residual_keys
from resnet_backbone.engine.addresses import without_secrets
from resnet_backbone.weights.errors import WeightsError
from resnet_backbone.weights.load import read_source
from resnet_backbone.weights.record import WeightRecord
from resnet_backbone.weights.sources import implied_record

# A child of Detectron2's logger, which is the one that users' scripts set up.
logger = logging.getLogger("detectron2.resnet_backbone")


def prepare(cfg: Any, *, explicit: Collection[str] = ()) -> WeightRecord | None:
    """Applies the record of MODEL.WEIGHTS to a Detectron2 config: pixel mean, deviation, channel order, network.

    Call it after merging files and options, and before building the model. A key that has another value than
    Detectron2's default counts as set by the user.

    Args:
        cfg: changed in place, frozen or not.
        explicit: further keys that the user did set, though to Detectron2's default.

    Returns:
        The record; None where MODEL.WEIGHTS is empty, or a whole detector without a record.

    Raises:
        WeightsError: a value that the user set contradicts the record; a frozen batch norm without weights; or
            weights that cannot be read.
    """
    if not cfg.MODEL.WEIGHTS:
        if cfg.MODEL.RESNETS.NORM == "FrozenBN" and cfg.MODEL.BACKBONE.NAME.startswith("build_residual"):
            raise WeightsError(
                "MODEL.WEIGHTS is empty and MODEL.RESNETS.NORM is FrozenBN: a random network with fixed norms does "
                'not learn. Name weights, or train from scratch with MODEL.RESNETS.NORM "GN" or "BN" and '
                "MODEL.BACKBONE.FREEZE_AT 0"
            )
        return None
    record = _record_of(cfg.MODEL.WEIGHTS)
    if record is None:
        return None
    frozen = cfg.is_frozen()
    cfg.defrost()
    try:
        defaults = default_config()
        for key, value in _settings(cfg, record).items():
            present = _get(cfg, key)
            user_set = key in explicit or not _equal(present, _get(defaults, key))
            if user_set and not _equal(present, value):
                raise WeightsError(_contradiction(key, present, value, record, cfg.MODEL.WEIGHTS))
            _set(cfg, key, value)
    finally:
        if frozen:
            cfg.freeze()
    logger.info("MODEL.WEIGHTS %s: %s", cfg.MODEL.WEIGHTS, record.describe())
    return record


def _settings(cfg: Any, record: WeightRecord) -> dict[str, Any]:
    """All keys that the record settles; adds MODEL.RESIDUAL to a stock config that needs it."""
    own: dict[str, Any] = {"MODEL.RESIDUAL.NORM_EPS": float(record.eps)}
    if record.shortcut is not None and cfg.MODEL.BACKBONE.NAME.startswith("build_residual"):
        own["MODEL.RESIDUAL.SHORTCUT"] = record.shortcut
    if "RESIDUAL" not in cfg.MODEL:
        defaults = residual_keys()
        own = {key: value for key, value in own.items() if defaults[key.rsplit(".", 1)[1]] != value}
        if own:
            cfg.MODEL.RESIDUAL = defaults
    return {**record.detectron2_settings(), **own}


def check_config(cfg: Any) -> None:
    """Refuses to build a backbone for another input or stride than its weights expect.

    What a stock script meets that changed MODEL.WEIGHTS but not the four keys that go with them.

    Raises:
        WeightsError: names the key, both values and the remedy.
    """
    source = cfg.MODEL.WEIGHTS
    local = "://" not in source
    if not source or (local and not Path(source).is_file()):
        return  # the checkpointer will say that there is no such file
    record = _record_of(source) if local else implied_record(source)
    if record is None or (record.assumed and record.variant is None):
        return
    for key, value in record.detectron2_settings().items():
        present = _get(cfg, key)
        if not _equal(present, value):
            raise WeightsError(
                f"{_contradiction(key, present, value, record, source)}, or call resnet_backbone.prepare(cfg) before "
                "building the model"
            )


def _record_of(source: str) -> WeightRecord | None:
    """The record of weights; None for a whole detector that has none: its own configuration settles its input."""
    record = implied_record(source)
    if record is None:
        read = read_source(source)
        record = None if read.detector and read.record.assumed else read.record
    if record is None or (record.assumed and record.variant is None):
        logger.info("MODEL.WEIGHTS %s: a detector without a record; its input is taken from the config", source)
        return None
    return record


def _contradiction(key: str, present: Any, value: Any, record: WeightRecord, weights: str) -> str:
    said = "are assumed to expect" if record.assumed else "expect"
    name = without_secrets(weights)
    return f"{key} is {present}, but the weights {name} {said} {value}: set {key} to {value} or leave it out"


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(abs(x - y) < 1e-3 for x, y in zip(a, b))
    return bool(a == b)


def _get(cfg: Any, key: str) -> Any:
    for part in key.split("."):
        cfg = cfg[part]
    return cfg


def _set(cfg: Any, key: str, value: Any) -> None:
    *path, last = key.split(".")
    node = _get(cfg, ".".join(path))
    node[last] = value
