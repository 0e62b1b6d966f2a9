"""The table of the pretraining recipes: what their configs say, the paper's error, and ours where there are runs."""

from __future__ import annotations

from pathlib import Path

from benchmarks.reproduction import CIFAR, IMAGENET, TENCROP, Row, printed, runs_of
from benchmarks.tables import Entries, Table, spread
from resnet_backbone.classification.figures import paper
from resnet_backbone.classification.recipe.config import TrainConfig
from resnet_backbone.engine.text import markdown
from resnet_backbone.engine.yaml_config import read_config
from resnet_backbone.models.variants import find_variant, title

CONFIGS = Path(__file__).parents[1] / "configs"
MODERN = "1-crop, modern"
"""The experiment of a modern recipe's run."""
OTHER_DATA = ("_shapes", "_imagenette", "_photos")
"""Recipes that stand beside no error of the paper."""
PRINTED = {network: {"error": text} for network, text in paper.CIFAR_PRINTED.items()}
CIFAR_ROWS = [Row(CIFAR, name, {"error": error}, 2, PRINTED.get(name, {})) for name, error in paper.CIFAR.items()]
ROWS = {(row.experiment, row.network): row for row in (*IMAGENET, *CIFAR_ROWS)}


def recipes(entries: Entries) -> list[str]:
    """One line a config, from shallow to deep."""
    header = ("recipe", "network", "length", "batch", "rate", "schedule", "top-1 error, paper", "ours")
    lines = []
    for folder in ("imagenet", "cifar"):
        paths = [path for path in (CONFIGS / folder).glob("*.yaml") if not path.stem.endswith(OTHER_DATA)]
        read = [(path, read_config(TrainConfig, path)) for path in paths]
        lines += [_line(path, config, entries) for path, config in sorted(read, key=lambda pair: _place(*pair))]
    return markdown(header, lines)


def _place(path: Path, config: TrainConfig) -> tuple[str, bool, int, str]:
    variant = find_variant(config.network)
    return variant.family, variant.shortcut == "none", variant.depth, path.stem


def _line(path: Path, config: TrainConfig, entries: Entries) -> tuple[str, ...]:
    experiment = MODERN if path.stem.endswith("_modern") else TENCROP if path.parent.name == "imagenet" else CIFAR
    network = _network(config)
    key = "error" if experiment == CIFAR else "top1_error"
    row = ROWS.get((experiment, network)) or Row(experiment, network, {})
    ours = [run[key] for run in runs_of(entries, row) if key in run]
    base, *option = network.split(" ")
    return (
        f"`{path.parent.name}/{path.name}`", " ".join([title(base), *option]), f"{config.length:,g} {config.unit}",
        f"{config.batch_size:,}", f"{config.rate:g}", _schedule(config), printed(row, key), spread(ours, 2),
    )  # fmt: skip


def _network(config: TrainConfig) -> str:
    """As the paper's rows call it: with its option where several are compared."""
    variant = find_variant(config.network)
    option = config.shortcut or variant.shortcut
    return f"{config.network} {option}" if config.network in ("resnet18", "resnet34") else config.network


def _schedule(config: TrainConfig) -> str:
    return f"a tenth at {', '.join(f'{step:,g}' for step in config.steps)}" if config.steps else config.schedule


TABLES: dict[str, Table] = {"recipes": recipes}
