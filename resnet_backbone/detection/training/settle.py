"""What a command line means: config, device, folder, data, weights and schedule, settled before anything is built."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.utils import comm

from resnet_backbone.detection.device import choose_device
from resnet_backbone.detection.prepare import prepare
from resnet_backbone.detection.training.checkpoint import BEST, FINAL
from resnet_backbone.detection.training.config import ReadConfig, read_config, value_of
from resnet_backbone.detection.training.inputs import check_inputs
from resnet_backbone.detection.training.options import check_options
from resnet_backbone.detection.training.schedule import check_batch, check_schedule, scale_schedule
from resnet_backbone.detection.training.sets import use_data
from resnet_backbone.detection.training.smoke import shrink, use_few_images, use_generated
from resnet_backbone.detection.training.testing import check_test
from resnet_backbone.engine.logs import set_up_logs
from resnet_backbone.engine.loop import LAST
from resnet_backbone.engine.room import disk
from resnet_backbone.weights.record import WeightRecord

# Detectron2's keys that its own trainer obeys and this one does not: better refused than ignored.
NOT_OBEYED = {
    "TEST.AUG.ENABLED": False, "MODEL.LOAD_PROPOSALS": False, "VIS_PERIOD": 0,
}  # fmt: skip
SAMPLERS = ("TrainingSampler", "RepeatFactorTrainingSampler")


@dataclass(frozen=True)
class RunOptions:
    """What the command line says.

    Attributes:
        config: a YAML file.
        overrides: KEY VALUE KEY VALUE ...
        output: the run's folder; None: OUTPUT_DIR where somebody set it, else runs/<name of the config>.
        resume: go on from the folder's last checkpoint.
        new_schedule: with `resume`, follow another schedule from there on.
        overwrite: begin anew in a folder that holds a run.
        eval_only: only test MODEL.WEIGHTS, else the folder's trained weights.
        keep_schedule: rate and iterations as written, whatever the batch.
        gpus: processes on this machine, one GPU each; 1 also without a GPU.
        machines: how many machines train together.
        check: only look at everything, in one process.
        smoke: a short whole run of a shrunk config (`smoke.py`); its own folder, runs/<name of the config>-smoke, is
            overwritten unasked.
    """

    config: Path
    overrides: Sequence[str] = ()
    output: Path | None = None
    resume: bool = False
    new_schedule: bool = False
    overwrite: bool = False
    eval_only: bool = False
    keep_schedule: bool = False
    gpus: int = 1
    machines: int = 1
    check: bool = False
    smoke: bool = False

    @property
    def processes(self) -> int:
        """How many train together, whoever started them."""
        return max(self.gpus * self.machines, comm.get_world_size())


@dataclass(frozen=True)
class Prepared:
    """A config that is settled and frozen, and what led to it."""

    cfg: CfgNode
    output: Path
    record: WeightRecord | None
    notes: list[str] = field(default_factory=list)


def settle(options: RunOptions) -> Prepared:
    """Everything that can be refused, before a model is built: config, device, folder, data, weights, schedule."""
    read = read_config(options.config, options.overrides)
    cfg = read.cfg
    output = _output(options, read)
    set_up_logs(None, quiet=options.check or not comm.is_main_process())
    note = choose_device(cfg, asked="MODEL.DEVICE" in read.given)
    notes = [note] if note else []
    if options.smoke:
        notes += _shrink(options, read)
    _check_shared_device(cfg)
    check_inputs(cfg)
    _refuse_ignored(cfg)
    check_test(cfg)
    if options.check and options.eval_only:
        raise ValueError("--check: looks at what is needed for training; leave --eval-only out")
    if options.new_schedule and not options.resume:
        raise ValueError("--new-schedule: says how to go on with a run; give --resume too")
    if options.eval_only:
        _choose_trained(cfg, read, output)
    record = prepare(cfg, explicit=read.explicit)
    if options.keep_schedule or options.smoke:
        check_batch(cfg, options.processes)
    elif not options.eval_only:
        written = read_config(options.config).cfg.SOLVER.IMS_PER_BATCH
        notes += scale_schedule(cfg, written, read.given, options.processes)
    if not options.eval_only:
        check_schedule(cfg)
    held = _held(options, output)
    if held and not options.check:
        raise ValueError(held)
    notes += [held] if held else []
    notes += use_data(cfg, read.explicit, test_only=options.eval_only)  # last: it takes the longest
    if options.smoke:
        use_few_images(cfg)
    if not options.eval_only:
        check_options(cfg)
    cores = os.cpu_count() or 1
    cfg.DATALOADER.NUM_WORKERS = min(cfg.DATALOADER.NUM_WORKERS, cores)
    if cfg.SEED < 0:
        cfg.SEED = _seed(options, output)
        notes.append(f"SEED {cfg.SEED} drawn")
    cfg.OUTPUT_DIR = str(output)
    cfg.freeze()
    _open_folder(options, output)
    return Prepared(cfg, output, record, notes)


def _output(options: RunOptions, read: ReadConfig) -> Path:
    written = Path(read.cfg.OUTPUT_DIR) if "OUTPUT_DIR" in read.explicit else Path("runs") / options.config.stem
    if options.smoke and "OUTPUT_DIR" not in read.given:
        written = _smoke_folder(options)  # never over a real run
    output = options.output or written
    place = disk(output, 0)
    if place.level == "error":
        raise ValueError(place.text)
    return output


def _smoke_folder(options: RunOptions) -> Path:
    return Path("runs") / f"{options.config.stem}-smoke"


def _shrink(options: RunOptions, read: ReadConfig) -> list[str]:
    if options.resume or options.eval_only:
        raise ValueError("--smoke: trains and tests from the beginning; leave out --resume and --eval-only")
    lines = shrink(read.cfg, read.given, options.processes)
    generated = use_generated(read.cfg, read.explicit)
    return [*lines, generated] if generated else lines


def _choose_trained(cfg: CfgNode, read: ReadConfig, output: Path) -> None:
    if "MODEL.WEIGHTS" in read.given:
        return
    if not (output / FINAL).exists():
        raise ValueError(
            f"--eval-only: {output} holds no {FINAL}, and a backbone's weights alone have no heads to evaluate; "
            "name trained weights, MODEL.WEIGHTS FILE, or the run's folder, --output DIR"
        )
    cfg.MODEL.WEIGHTS = str(output / FINAL)


def _seed(options: RunOptions, output: Path) -> int:
    """A drawn seed, the first process's; a resumed run goes on with its own."""
    seed = int.from_bytes(os.urandom(3), "little")
    if options.resume and (output / "config.yaml").exists():
        seed = int(read_config(output / "config.yaml").cfg.SEED)
    return int(comm.all_gather(seed)[0])


def _check_shared_device(cfg: CfgNode) -> None:
    """Each of many processes has a GPU of its own, or all compute on the CPU."""
    if comm.get_world_size() == 1:
        return
    device = str(cfg.MODEL.DEVICE)
    if ":" in device:
        raise ValueError(f"MODEL.DEVICE: {device!r} is one GPU for all processes; use MODEL.DEVICE cuda")


def _refuse_ignored(cfg: CfgNode) -> None:
    for key, value in NOT_OBEYED.items():
        if value_of(cfg, key) != value:
            raise ValueError(f"{key}: {value_of(cfg, key)} is not supported by this trainer; leave it at {value}")
    if cfg.DATALOADER.NUM_WORKERS < 0:
        raise ValueError(f"DATALOADER.NUM_WORKERS: {cfg.DATALOADER.NUM_WORKERS}: 0 reads images in the process itself")
    sampler = cfg.DATALOADER.SAMPLER_TRAIN
    if sampler not in SAMPLERS:
        raise ValueError(f"DATALOADER.SAMPLER_TRAIN: {sampler!r}: use {' or '.join(SAMPLERS)}")


def _held(options: RunOptions, output: Path) -> str:
    """Why a run is not begun in its folder: one that holds a run is not begun anew unasked; else nothing."""
    own = options.smoke and output == _smoke_folder(options)
    unasked = not (options.eval_only or options.resume or options.overwrite or own)
    if unasked and any((output / name).exists() for name in (LAST, FINAL, BEST)):
        return f"{output} holds a run: go on with --resume, begin anew with --overwrite, or choose --output"
    return ""


def _open_folder(options: RunOptions, output: Path) -> None:
    """The run's folder with its log."""
    if options.check:
        return
    output.mkdir(parents=True, exist_ok=True)
    main = comm.is_main_process()
    set_up_logs(output / "log.txt" if main else None, quiet=not main)
