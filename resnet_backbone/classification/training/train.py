"""One pretraining run: from a recipe and data to weights with their record, which a detector loads as they are."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import yaml
from torch import nn

from resnet_backbone.classification.data.batches import evaluation_batches
from resnet_backbone.classification.data.resident import mean_image
from resnet_backbone.classification.data.splits import Data, Files, Split, Streamed, Synthetic, open_data
from resnet_backbone.classification.recipe.config import TrainConfig
from resnet_backbone.classification.recipe.length import check_batch
from resnet_backbone.classification.testing.evaluate import Accuracy, evaluate
from resnet_backbone.classification.training.classifier import Inputs, build_classifier
from resnet_backbone.classification.training.final import exact_norms, norm_notes, write_final
from resnet_backbone.classification.training.initial import load_initial
from resnet_backbone.classification.training.loop import Loop
from resnet_backbone.classification.training.output import BEST, FINAL, begins, clear, refuse_held
from resnet_backbone.classification.training.room import room_findings
from resnet_backbone.engine import group
from resnet_backbone.engine.atomic import remove_unfinished, write_atomically
from resnet_backbone.engine.best import Best
from resnet_backbone.engine.device import find_device
from resnet_backbone.engine.journal import Journal
from resnet_backbone.engine.logs import set_up_logs
from resnet_backbone.engine.loop import LAST
from resnet_backbone.engine.progress import duration
from resnet_backbone.engine.resumed import check_resumed_together
from resnet_backbone.engine.room import refuse
from resnet_backbone.models.network import Network

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """Where the weights are and how well they classify the validation images."""

    weights: Path
    accuracy: Accuracy
    seconds: float


def pretrain(
    config: TrainConfig,
    data: str | Path,
    output: str | Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    choose: Callable[[Data], Data] = lambda data: data,
) -> Outcome:
    """Trains on `data` and writes into `output`.

    There will be: `config.yaml` (every key), `log.txt`, `metrics.jsonl` and TensorBoard's files, `last.pth` (to resume
    from), and `model.safetensors`, the weights with their record, which a detector loads as they are; with images
    held out `model_best.safetensors` too.

    Args:
        data: what `open_data` takes: class folders, tar shards, CIFAR in one of its layouts, "synthetic".
        resume: go on exactly where the run in `output` stopped, if there is one.
        overwrite: begin anew though `output` holds a run.
        choose: which of the data are used.

    Raises:
        ValueError: the data or the configuration cannot be used, or a checkpoint does not belong to it.
        Stopped: after Ctrl-C or SIGTERM, with the state saved.
        OSError: nothing can be written.
    """
    began, output = time.monotonic(), Path(output)
    config = dataclasses.replace(config, data=str(data))
    refuse_held(output, resume, overwrite)
    device = device_of(config)
    found = open_data(config.data, holdout=config.holdout, seed=config.seed)
    check_batch(config, len(found.train), group.world())
    opened = choose(found)
    output.mkdir(parents=True, exist_ok=True)
    set_up_logs(output / "log.txt" if group.is_main() else None, quiet=not group.is_main())
    loop = _started(config, opened, output, device, resume)

    def test(model: nn.Module) -> dict[str, float]:
        return {key: value for name, split in _tested(opened) for key, value in _numbers(name, model, split).items()}

    def _numbers(name: str, model: nn.Module, split: Split) -> dict[str, float]:
        accuracy = measure(model, split, config, loop.inputs, device)
        logger.info("iteration %d/%d: %s: %s", loop.iteration, loop.total, name, accuracy)
        return accuracy.numbers(name)

    loop.run(test)
    return _finish(config, opened, loop, began)


def _started(config: TrainConfig, data: Data, output: Path, device: torch.device, resume: bool) -> Loop:
    """Where the run stopped, or at its beginning, in a folder without another run's results."""
    network = make_network(config, data, device, load=begins(output, resume))
    refuse(room_findings(config, network, output, group.machines()))
    loop = Loop(config, data, network, output, device, lambda model, best: _keep(model, best, config, data, output))
    if resume:
        loop.resume()
        check_resumed_together(loop.iteration, loop.output / LAST)
    if loop.iteration == 0:
        clear(output)
    describe(config, data, loop, output)
    return loop


def measure(model: nn.Module, split: Split, config: TrainConfig, inputs: Inputs, device: torch.device) -> Accuracy:
    """Counts right answers on every image of a split exactly once, over all processes."""
    return evaluate(model, ((b.images, b.labels) for b in evaluation_batches(split, config)), inputs, device)


def _tested(data: Data) -> list[tuple[str, Split]]:
    return [("val", data.val)] + ([("holdout", data.holdout)] if data.holdout is not None else [])


def device_of(config: TrainConfig) -> torch.device:
    """The device of this process.

    Raises:
        ValueError: there is none, or not for many processes.
    """
    device = find_device(config.device)
    if group.world() > 1 and device.index is not None:
        raise ValueError(f"device: {config.device!r} is one GPU for all processes; use device cuda")
    if group.world() > 1 and config.norm == "SyncBN" and device.type == "cpu":
        raise ValueError("norm: SyncBN exchanges statistics between GPUs alone; on the CPU use BN or GN")
    return device


def make_network(config: TrainConfig, data: Data, device: torch.device, *, load: bool) -> Network:
    """A recipe's network for the data's classes, with weights drawn by the seed; sets what cuDNN may choose.

    Args:
        load: with the recipe's `weights`; what they would be replaced in at once needs none.

    Raises:
        ValueError: as `build_classifier` and `load_initial`.
    """
    torch.manual_seed(config.seed)
    torch.backends.cudnn.benchmark = not config.deterministic
    if config.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic with this alone
    if device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = config.tf32
        torch.set_float32_matmul_precision("high" if config.tf32 else "highest")
    torch.use_deterministic_algorithms(config.deterministic)
    network = build_classifier(config, len(data.classes))
    if config.mean_image:
        network.get_buffer("mean_image").copy_(mean_image(data.train))
    if load and config.weights:
        load_initial(network, config, data.classes if isinstance(data.val, (Files, Streamed)) else ())
    layout = torch.channels_last if config.channels_last else torch.contiguous_format
    network.to(device, memory_format=layout)  # type: ignore[call-overload]
    return network


def describe(config: TrainConfig, data: Data, loop: Loop, output: Path) -> None:
    """Says what is trained and writes `config.yaml`."""
    if not group.is_main():
        return
    for name in (LAST, FINAL, BEST):
        remove_unfinished(output / name)
    text = yaml.safe_dump(json.loads(json.dumps(dataclasses.asdict(config))), sort_keys=False)
    write_atomically(output / "config.yaml", lambda file: file.write(text.encode()))
    out = f", {len(data.holdout):,} held out" if data.holdout is not None else ""
    logger.info(
        "%s, %s parameters, on %s; %s training images%s and %s validation images of %d classes; everything goes to %s",
        config.network, f"{sum(p.numel() for p in loop.model.parameters()):,}", loop.device, f"{len(data.train):,}",
        out, f"{len(data.val):,}", len(data.classes), output,
    )  # fmt: skip
    logger.info(
        "%d iterations of %d images%s, %s; rate %g (%g per 256), %s; seed %d",
        loop.total, config.batch_size, f" in {config.accumulate} parts" if config.accumulate > 1 else "",
        config.precision, config.rate, config.rate_per_256, config.schedule, config.seed,
    )  # fmt: skip

    first = None if isinstance(data.train, (Streamed, Synthetic)) else data.train.read(0)
    if isinstance(first, np.ndarray) and min(first.shape[:2]) < config.size:  # all are of this size
        logger.warning(
            "images of %d x %d pixels are enlarged to size %d; recipes for small ones are in configs/cifar",
            *first.shape[:2], config.size,
        )  # fmt: skip
    behind = [step for step in config.steps if step >= config.length and config.schedule == "steps"]
    if behind:
        logger.warning(
            "steps %s lie behind the end, %g %s: the rate does not drop there; give other steps, or schedule cosine",
            list(behind), config.length, config.unit,
        )  # fmt: skip


def _keep(model: nn.Module, best: Best, config: TrainConfig, data: Data, output: Path) -> None:
    note = f"best {best.metric}, {best.value:.2f}, after {best.iteration} iterations"
    write_final(output / BEST, model, config, data, None, (note,))


def _finish(config: TrainConfig, data: Data, loop: Loop, began: float) -> Outcome:
    """Exact statistics, a last test, the weights with their record."""
    output = loop.output
    with loop.tested() as model:
        images = exact_norms(model, config, data, loop.inputs, loop.device) if config.exact_norm_images else 0
        accuracies = {name: measure(model, split, config, loop.inputs, loop.device) for name, split in _tested(data)}
        numbers: Mapping[str, float] = {k: v for name, one in accuracies.items() for k, v in one.numbers(name).items()}
        loop.judge(model, numbers)
        if group.is_main():
            write_final(output / FINAL, model, config, data, accuracies["val"], norm_notes(images, data))
    seconds = time.monotonic() - began
    with Journal(output, loop.iteration, str(loop.device), config.wandb) as journal:
        journal.evaluated(loop.iteration, numbers)
    for name, accuracy in accuracies.items():
        logger.info("%s: %s, after %s", name, accuracy, duration(seconds))
    logger.info("weights with their record: %s; curves: %s", output / FINAL, output / "metrics.jsonl")
    return Outcome(output / FINAL, accuracies["val"], seconds)
