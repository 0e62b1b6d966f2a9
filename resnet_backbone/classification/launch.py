"""Starts pretraining in one process or in many."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from resnet_backbone.classification.data.splits import SYNTHETIC
from resnet_backbone.classification.preflight.check import Place, check
from resnet_backbone.classification.recipe.config import TrainConfig
from resnet_backbone.classification.training.next_step import next_step
from resnet_backbone.classification.training.smoke import few, shrunk, smoke_data
from resnet_backbone.classification.training.speed import measure_speed
from resnet_backbone.classification.training.train import pretrain
from resnet_backbone.engine import group, launch
from resnet_backbone.engine.asked import Asked
from resnet_backbone.engine.launch import Job
from resnet_backbone.engine.yaml_config import layers, read_config, with_values

logger = logging.getLogger(__name__)

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
        smoke: a short whole run of a shrunk recipe (`smoke.py`); its own folder, runs/<...>-smoke, is overwritten
            unasked.
        check: only look at everything, in one process.
    """

    config: Path
    overrides: Sequence[str] = ()
    output: Path | None = None
    resume: bool = False
    overwrite: bool = False
    smoke: bool = False
    check: bool = False

    @property
    def folder(self) -> Path:
        """Where everything goes."""
        name = f"{self.config.stem}-smoke" if self.smoke else self.config.stem
        return self.output or Path("runs") / self.config.resolve().parent.name / name

    def read(self) -> TrainConfig:
        """The recipe.

        Raises:
            ValueError: what is wrong with it.
        """
        if any(key.isupper() for _, content in layers(self.config) for key in content):
            raise ValueError(
                f"{self.config}: a detector's config, which tools/train_net.py takes; recipes are in configs/imagenet"
            )
        config = read_config(TrainConfig, self.config)
        return with_values(shrunk(config, group.world()) if self.smoke else config, self.overrides)


def start(options: RunOptions, asked: Asked) -> int:
    """Returns 0, 1 where something is wrong, 130 when stopped."""
    return launch.start(job(options), asked, partial(_check, options) if options.check else None)


def job(options: RunOptions) -> Job:
    """What every process does."""
    return Job(
        action=partial(run, options),
        uses_gpu=partial(_uses_gpu, options),
        remedy=REMEDY,
        memory_remedy="a larger accumulate, or a smaller batch_size (the rate follows)",
        interrupted="interrupted" if options.check else f"interrupted; {REMEDY}",
    )


def run(options: RunOptions) -> None:
    """The whole run, in each process."""
    config = options.read()
    if config.data == SYNTHETIC and not options.smoke:
        _measure(options, config)
        return
    if not options.smoke:
        outcome = pretrain(config, config.data, options.folder, resume=options.resume, overwrite=options.overwrite)
        logger.info("next: %s", next_step(config, outcome.weights))
        return
    if options.resume:
        raise ValueError("--smoke: trains and tests from the beginning; leave out --resume")
    overwrite = options.overwrite or options.output is None
    config, line = smoke_data(config, options.folder) if group.is_main() else (config, "")
    config = group.gather_all(config)[0]
    if group.is_main():
        print(f"--smoke: {line}", flush=True)
    choose = partial(few, batch_size=config.batch_size)
    pretrain(config, config.data, options.folder, overwrite=overwrite, choose=choose)


def _check(options: RunOptions, gpus: int, machines: int) -> int:
    if options.smoke:
        raise ValueError("--check: looks at the run that would be; leave --smoke out")
    return check(options.read, Place(options.folder, gpus, machines, options.resume, options.overwrite))


def _measure(options: RunOptions, config: TrainConfig) -> None:
    if options.resume:
        raise ValueError("--resume: runs with --data synthetic leave nothing to go on from; leave it out")
    output = options.output or options.folder.with_name(f"{options.folder.name}-speed")  # never over a real run
    given = set(options.overrides[::2])
    measure_speed(config, output, overwrite=options.overwrite, short=not given & {"epochs", "iterations"})


def _uses_gpu(options: RunOptions) -> bool:
    return options.read().device != "cpu" and torch.cuda.device_count() > 0
