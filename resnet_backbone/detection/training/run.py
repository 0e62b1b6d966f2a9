"""One run, from a config file to a trained, evaluated and illustrated detector."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.utils import comm
from torch import nn

from resnet_backbone.detection.device import choose_device
from resnet_backbone.detection.prepare import prepare
from resnet_backbone.detection.training.batches import training_records
from resnet_backbone.detection.training.checkpoint import FINAL, LAST, write_final
from resnet_backbone.detection.training.config import ReadConfig, read_config
from resnet_backbone.detection.training.journal import Journal
from resnet_backbone.detection.training.loop import Loop
from resnet_backbone.detection.training.schedule import check_batch, scale_schedule
from resnet_backbone.detection.training.sets import use_data
from resnet_backbone.detection.training.testing import Numbers, flat, test
from resnet_backbone.engine.atomic import write_atomically
from resnet_backbone.engine.logs import set_up_logs
from resnet_backbone.weights.load import load_weights
from resnet_backbone.weights.record import WeightRecord

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunOptions:
    """What the command line says.

    Attributes:
        config: a YAML file.
        overrides: KEY VALUE KEY VALUE ...
        output: the run's folder; None: OUTPUT_DIR where somebody set it, else runs/<name of the config>.
        resume: go on from the folder's last checkpoint.
        overwrite: begin anew in a folder that holds a run.
        eval_only: only test MODEL.WEIGHTS, else the folder's trained weights.
        keep_schedule: rate and iterations as written, whatever the batch.
        gpus: processes on this machine, one GPU each; 1 also without a GPU.
        machines: how many machines train together.
    """

    config: Path
    overrides: Sequence[str] = ()
    output: Path | None = None
    resume: bool = False
    overwrite: bool = False
    eval_only: bool = False
    keep_schedule: bool = False
    gpus: int = 1
    machines: int = 1


@dataclass(frozen=True)
class Prepared:
    """A config that is settled and frozen, and what led to it."""

    cfg: CfgNode
    output: Path
    record: WeightRecord | None
    notes: list[str] = field(default_factory=list)


def run(options: RunOptions) -> dict[str, Numbers]:
    """Trains (unless `eval_only`) and tests; returns the numbers of every test set, in the first process.

    Raises:
        ValueError: whatever a user can mend: config, data, weights, device; one sentence each.
        WeightsError: weights that are not certainly right.
        Stopped: after Ctrl-C or SIGTERM, with the state saved.
        OSError: nothing can be written.
    """
    ready = settle(options)
    cfg, output = ready.cfg, ready.output
    logger.info("%s: everything goes to %s", options.config, output)
    for note in ready.notes:
        logger.info("%s", note)
    torch.manual_seed(cfg.SEED)  # of the heads' first weights
    model = build_model(cfg)
    if not cfg.MODEL.WEIGHTS:
        logger.info("MODEL.WEIGHTS is empty: everything starts random")
    elif not (options.resume and (output / LAST).exists()):
        logger.info("%s", load_weights(model, cfg.MODEL.WEIGHTS, fine_tune=not options.eval_only))
    if not options.eval_only:
        _train(cfg, model, output, options.resume)
        if comm.is_main_process():
            write_final(output / FINAL, model, cfg, ready.record, options.config.name)
    results = test(cfg, model, output)
    if comm.is_main_process():
        if not options.eval_only:
            with Journal(output, cfg.SOLVER.MAX_ITER) as journal:
                journal.evaluated(cfg.SOLVER.MAX_ITER, flat(results))
        _say_where(options, output, results)
    return results


def settle(options: RunOptions) -> Prepared:
    """Everything that can be refused, before a model is built: config, device, folder, data, weights, schedule."""
    read = read_config(options.config, options.overrides)
    cfg = read.cfg
    output = _output(options, read)
    set_up_logs(None, quiet=not comm.is_main_process())
    notes = _device(read, options)
    notes += use_data(cfg, read.explicit)
    if options.eval_only:
        _choose_trained(cfg, read, output)
    record = prepare(cfg, explicit=read.explicit)
    if options.keep_schedule:
        check_batch(cfg, options.gpus * options.machines)
    elif not options.eval_only:
        written = read_config(options.config).cfg.SOLVER.IMS_PER_BATCH
        notes += scale_schedule(cfg, written, read.given, options.gpus * options.machines)
    cores = os.cpu_count() or 1
    cfg.DATALOADER.NUM_WORKERS = min(cfg.DATALOADER.NUM_WORKERS, cores)
    if cfg.SEED < 0:
        cfg.SEED = _seed(options, output)
        notes.append(f"SEED {cfg.SEED} drawn")
    cfg.OUTPUT_DIR = str(output)
    cfg.freeze()
    _open_folder(cfg, options, output)
    return Prepared(cfg, output, record, notes)


def _output(options: RunOptions, read: ReadConfig) -> Path:
    written = Path(read.cfg.OUTPUT_DIR) if "OUTPUT_DIR" in read.explicit else Path("runs") / options.config.stem
    return options.output or written


def _device(read: ReadConfig, options: RunOptions) -> list[str]:
    count = torch.cuda.device_count()
    if options.gpus > 1 and options.gpus > count:
        raise ValueError(f"--num-gpus {options.gpus}: this machine has {count} CUDA GPUs; ask for as many as there are")
    note = choose_device(read.cfg, asked="MODEL.DEVICE" in read.explicit)
    return [note] if note else []


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
    """A drawn seed; a resumed run goes on with its own."""
    if options.resume and (output / "config.yaml").exists():
        return int(read_config(output / "config.yaml").cfg.SEED)
    return int.from_bytes(os.urandom(3), "little") if comm.get_world_size() == 1 else comm.shared_random_seed() % 2**24


def _open_folder(cfg: CfgNode, options: RunOptions, output: Path) -> None:
    """The run's folder with its log and settled config; a folder that holds a run is not begun anew unasked."""
    there = [output / name for name in (LAST, FINAL) if (output / name).exists()]
    if comm.is_main_process() and not options.eval_only and not options.resume and there:
        if not options.overwrite:
            raise ValueError(
                f"{output} holds a run: go on with --resume, begin anew with --overwrite, or choose --output"
            )
        for path in there:
            path.unlink()
    output.mkdir(parents=True, exist_ok=True)
    main = comm.is_main_process()
    set_up_logs(output / "log.txt" if main else None, quiet=not main)
    if main and not options.eval_only:
        write_atomically(output / "config.yaml", lambda file: file.write(cfg.dump().encode()))


def _train(cfg: CfgNode, model: nn.Module, output: Path, resume: bool) -> None:
    records = training_records(cfg)
    loop = Loop(cfg, model, records, output)
    if resume:
        loop.resume()
    logger.info(
        "%d iterations of %d images, rate %g, %s; seed %d, on %s; %d training images",
        cfg.SOLVER.MAX_ITER, cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.BASE_LR, cfg.SOLVER.OPTIMIZER, cfg.SEED,
        cfg.MODEL.DEVICE, len(records),
    )  # fmt: skip
    loop.run(lambda: flat(test(cfg, model, output, pictures=False)))


def _say_where(options: RunOptions, output: Path, results: Mapping[str, Numbers]) -> None:
    """The last lines: the figure that matters, where everything is, and what to try next."""
    for name, tasks in results.items():
        for task, numbers in tasks.items():
            ap = {k: v for k, v in numbers.items() if not k.startswith(("AP-", "AP50-"))}
            logger.info("%s, %s: %s", name, task, ", ".join(f"{k} {v:.1f}" for k, v in ap.items()))
    made: dict[str, Any] = {
        "weights with their record": output / FINAL,
        "pictures": output / "pictures",
        "detections and numbers": output / "evaluation",
        "settled config": output / "config.yaml",
        "curves": f"{output / 'metrics.jsonl'}; tensorboard --logdir {output / 'tensorboard'}",
    }
    for what, place in made.items():
        if not isinstance(place, Path) or place.exists():
            logger.info("  %-26s %s", what, place)
    logger.info("next: python tools/predict.py --weights %s IMAGES", output)
