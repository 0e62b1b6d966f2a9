"""Schedules at the edge: scaled to very large batches, and those that cannot be."""

from __future__ import annotations

import pytest
from made_data import TINY, write_config, write_rectangles

from resnet_backbone.detection.config import default_config
from resnet_backbone.detection.training.schedule import scale_schedule
from resnet_backbone.detection.training.settle import RunOptions, settle


def test_what_is_on_stays_on_at_a_batch_of_32_times_the_size():
    cfg = default_config()
    solver = cfg.SOLVER
    solver.IMS_PER_BATCH, solver.MAX_ITER, solver.STEPS = 64, 15, (8,)
    solver.CHECKPOINT_PERIOD, solver.WARMUP_ITERS, cfg.TEST.EVAL_PERIOD = 10, 0, 12
    scale_schedule(cfg, 2, ("SOLVER.IMS_PER_BATCH",), 1)
    assert (solver.MAX_ITER, solver.STEPS, solver.CHECKPOINT_PERIOD, cfg.TEST.EVAL_PERIOD) == (1, (1,), 1, 1)
    assert solver.WARMUP_ITERS == 0, "off stays off"


@pytest.mark.parametrize(
    ("pairs", "sentence"),
    [
        (("SOLVER.MAX_ITER", "0"), "SOLVER.MAX_ITER: 0: at least 1"),
        (("SOLVER.STEPS", "(3, 2)"), r"SOLVER.STEPS: \[3, 2\]: give iterations, whole numbers from 1 on, each above"),
        (("SOLVER.STEPS", "(2, 2)"), r"SOLVER.STEPS: \[2, 2\]: give"),
        (("SOLVER.STEPS", "(0, 2)"), r"SOLVER.STEPS: \[0, 2\]: give"),
        (("SOLVER.STEPS", "(1.5,)"), r"SOLVER.STEPS: \[1.5\]: give"),
        (("SOLVER.STEPS", "(4,)"), "SOLVER.STEPS: 4 is SOLVER.MAX_ITER"),
    ],
)
def test_a_schedule_that_cannot_be_is_one_sentence(tmp_path, pairs, sentence):
    data = write_rectangles(tmp_path / "rectangles")
    given = ("DATA.ROOT", str(data), *pairs)
    with pytest.raises(ValueError, match=sentence):
        settle(RunOptions(write_config(tmp_path, TINY), given, tmp_path / "run"))


def test_nothing_is_scaled_from_a_batch_of_none(tmp_path):
    config = write_config(tmp_path, TINY.replace("IMS_PER_BATCH: 2", "IMS_PER_BATCH: 0"))
    given = ("DATA.ROOT", str(write_rectangles(tmp_path / "rectangles")), "SOLVER.IMS_PER_BATCH", "2")
    with pytest.raises(ValueError, match=r"SOLVER.IMS_PER_BATCH: 0 in the config.*--no-scaling"):
        settle(RunOptions(config, given, tmp_path / "run"))
    settle(RunOptions(config, given, tmp_path / "run", keep_schedule=True))
