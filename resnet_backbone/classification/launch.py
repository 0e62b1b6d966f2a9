"""Starts pretraining in one process or in many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from resnet_backbone.classification.config import TrainConfig
from resnet_backbone.classification.train import pretrain
from resnet_backbone.engine import launch
from resnet_backbone.engine.asked import Asked
from resnet_backbone.engine.launch import Job
from resnet_backbone.engine.yaml_config import read_config

REMEDY = "what was saved is kept, go on with --resume"


@dataclass(frozen=True)
class RunOptions:
    """What the command line says.

    Attributes:
        config: a recipe.
        overrides: KEY VALUE KEY VALUE ...
        output: the run's folder; None: runs/<folder of the config>/<name of the config>.
        resume: go on from the folder's last checkpoint.
        overwrite: begin anew in a folder that holds a run.
    """

    config: Path
    overrides: Sequence[str] = ()
    output: Path | None = None
    resume: bool = False
    overwrite: bool = False

    @property
    def folder(self) -> Path:
        """Where everything goes."""
        return self.output or Path("runs") / self.config.resolve().parent.name / self.config.stem

    def read(self) -> TrainConfig:
        """The recipe.

        Raises:
            ValueError: what is wrong with it.
        """
        return read_config(TrainConfig, self.config, self.overrides)


def start(options: RunOptions, asked: Asked) -> int:
    """Returns 0, 1 where something is wrong, 130 when stopped."""
    return launch.start(job(options), asked)


def job(options: RunOptions) -> Job:
    """What every process does."""
    return Job(
        action=partial(run, options),
        uses_gpu=partial(_uses_gpu, options),
        remedy=REMEDY,
        memory_remedy="a larger accumulate, or a smaller batch_size (the rate follows)",
        interrupted=f"interrupted; {REMEDY}",
    )


def run(options: RunOptions) -> None:
    """The whole run, in each process."""
    config = options.read()
    pretrain(config, config.data, options.folder, resume=options.resume, overwrite=options.overwrite)


def _uses_gpu(options: RunOptions) -> bool:
    return options.read().device != "cpu" and torch.cuda.device_count() > 0
