"""What a run's folder holds: nothing of an earlier run goes unasked, nothing is written twice."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_data import TINY, write_config, write_rectangles

from resnet_backbone.detection.training.settle import RunOptions, settle


@pytest.fixture
def options(tmp_path) -> RunOptions:
    data = write_rectangles(tmp_path / "rectangles")
    return RunOptions(write_config(tmp_path, TINY), ("DATA.ROOT", str(data)), tmp_path / "run")


@pytest.mark.parametrize("name", ["last.pth", "model_final.pth", "model_best.pth"])
def test_what_a_new_run_would_delete_is_not_deleted_unasked(options, name):
    options.output.mkdir()
    Path(options.output / name).touch()
    with pytest.raises(ValueError, match="holds a run: go on with --resume, begin anew with --overwrite"):
        settle(options)
