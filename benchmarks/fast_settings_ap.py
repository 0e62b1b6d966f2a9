"""What the fast settings do to a trained detector's accuracy: AP on its test set under each, and the difference.

python -m benchmarks.fast_settings_ap --run runs/faster_rcnn_R50_bccd

RUN is the folder of a finished run of tools/train_net.py: config.yaml and the trained weights.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from detectron2.modeling import build_model

import resnet_backbone as rb
from benchmarks.drop_in_speed import COMPILED, DEFAULT, ROWS, Variant
from benchmarks.machine import data_folder, versions
from benchmarks.record import make_entry, record
from resnet_backbone.detection.training.config import read_config
from resnet_backbone.detection.training.sets import use_data
from resnet_backbone.detection.training.testing import Numbers, test

FINAL = ("model_final.safetensors", "model_final.pth")
METRICS = ("AP", "AP50", "AP75")


def trained(run: Path) -> tuple[Any, Path]:
    """The config of a run with its data registered, and its weights.

    Raises:
        ValueError: no run is there, or its data are not.
    """
    weights = next((run / name for name in FINAL if (run / name).is_file()), None)
    if weights is None or not (run / "config.yaml").is_file():
        raise ValueError(f"--run {run}: needs config.yaml and {' or '.join(FINAL)}; name the folder of a finished run")
    cfg = read_config(run / "config.yaml").cfg
    if cfg.DATA.ROOT and not Path(cfg.DATA.ROOT).is_dir():
        cfg.DATA.ROOT = str(data_folder() / Path(cfg.DATA.ROOT).name)
    use_data(cfg, explicit=())
    return cfg, weights


def evaluate(cfg: Any, weights: Path, variant: Variant) -> dict[str, Numbers]:
    """All numbers of the test sets under a variant."""
    cfg = cfg.clone()
    cfg.MODEL.RESIDUAL.FOLD_NORMS, cfg.MODEL.RESIDUAL.CHANNELS_LAST = variant.fold_norms, variant.channels_last
    cfg.MODEL.RESIDUAL.COMPILE = variant.compile
    model = build_model(cfg)
    rb.load_weights(model, weights)
    autocast = torch.autocast(torch.device(cfg.MODEL.DEVICE).type, torch.bfloat16, enabled=variant.bf16)
    with tempfile.TemporaryDirectory() as folder, autocast:
        return test(cfg, model, Path(folder), pictures=False)


def compare(cfg: Any, weights: Path, variants: Sequence[Variant]) -> list[dict[str, Any]]:
    """A run for every variant and test set; the default comes first."""
    runs: list[dict[str, Any]] = []
    plain: dict[str, Numbers] = {}
    for variant in (DEFAULT, *(v for v in variants if v != DEFAULT)):
        began = time.monotonic()
        found = evaluate(cfg, weights, variant)
        plain = plain or found
        for name, tasks in found.items():
            box, before = tasks["bbox"], plain[name]["bbox"]
            run = {
                "data": name, "variant": str(variant),
                **{key: box[key] for key in METRICS},
                **{f"{key}_difference": box[key] - before[key] for key in METRICS},
                "seconds": round(time.monotonic() - began, 1),
            }  # fmt: skip
            print(run, flush=True)
            runs.append(run)
    return runs


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0, or 1 after one sentence on what is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fast_settings_ap", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--run", required=True, type=Path, metavar="DIR", help="a finished run of tools/train_net.py")
    parser.add_argument("--compile", action="store_true", help="the compiled backbone too; minutes on a CPU")
    parser.add_argument("--no-record", action="store_true", help="print only")
    arguments = parser.parse_args(argv)
    versions()  # a checkout that changes during the run would name another commit
    try:
        cfg, weights = trained(arguments.run)
        runs = compare(cfg, weights, (*ROWS, *((COMPILED,) if arguments.compile else ())))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if not arguments.no_record:
        settings = {"run": arguments.run.name, "side": cfg.INPUT.MIN_SIZE_TEST, "device": cfg.MODEL.DEVICE}
        record(make_entry(
            "fast-settings-ap", "One trained detector on its test set under each fast setting.",
            f"python -m benchmarks.fast_settings_ap --run RUNS/{arguments.run.name}", runs, settings=settings,
            note="In percent; a difference is against the default settings, same weights and images.",
        ))  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
