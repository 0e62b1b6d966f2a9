"""Our FPN backbone and a whole Faster R-CNN R50-FPN beside stock Detectron2: the same weights, photographs and passes.

python -m benchmarks.drop_in_speed          # some seven minutes on one CPU core; the GPU too where there is one
python -m benchmarks.drop_in_speed --trial  # one round, nothing compiled, nothing recorded

Stock has every switch that it can take: channels last, bf16 autocast, torch.compile of its backbone. A row's ratio
is stock with the row's switches by ours (above 1 ours is faster), `ratio_default` is stock as it comes by ours.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from detectron2.data import DatasetCatalog, DatasetMapper
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

from benchmarks.machine import data_folder, versions
from benchmarks.record import make_entry, record
from resnet_backbone.detection.prepare import prepare
from resnet_backbone.detection.training.config import read_config
from resnet_backbone.detection.training.sets import use_data
from resnet_backbone.weights.load import load_weights

CONFIG = "configs/faster_rcnn_R50_bccd.yaml"
WEIGHTS = "weights/resnet50_pqf_fp16.pth.xz"
SEED = 0
SIDE = {"cpu": 320, "cuda": 800}
ROUNDS = {
    "cpu": {("backbone", "eval"): 9, ("model", "eval"): 5, ("backbone", "train"): 5, ("model", "train"): 3},
    "cuda": dict.fromkeys(itertools.product(("backbone", "model"), ("eval", "train")), 30),
}
EQUAL = 1e-4
Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Variant:
    """One way to run a detector; `fold_norms` is ours alone, the others are stock's too."""

    fold_norms: bool = False
    channels_last: bool = False
    bf16: bool = False
    compile: bool = False

    def __str__(self) -> str:
        return " + ".join(name for name, on in dataclasses.asdict(self).items() if on) or "default"

    @property
    def of_stock(self) -> Variant:
        """The same without what stock cannot do."""
        return dataclasses.replace(self, fold_norms=False)


DEFAULT = Variant()
# Rows with the same partner stand side by side: they are timed side by side.
ROWS = (
    DEFAULT,
    Variant(fold_norms=True),
    Variant(channels_last=True),
    Variant(fold_norms=True, channels_last=True),
    Variant(bf16=True),
    Variant(fold_norms=True, channels_last=True, bf16=True),
)
COMPILED = Variant(fold_norms=True, channels_last=True, compile=True)
COMPILED_BF16 = dataclasses.replace(COMPILED, bf16=True)


def config(device: str) -> Any:
    """The detector of CONFIG on `device`, its input settled by the record of real ResNet-50 weights."""
    cfg = read_config(Path(__file__).parents[1] / CONFIG).cfg
    cfg.DATA.ROOT = str(data_folder() / "bccd")
    cfg.MODEL.WEIGHTS, cfg.MODEL.DEVICE = str(data_folder() / WEIGHTS), device
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.RANDOM_FLIP = (SIDE[device],), "none"
    use_data(cfg, explicit=())
    prepare(cfg)
    return cfg


def photographs(cfg: Any, count: int) -> list[dict[str, Any]]:
    """The first of the data set with their boxes, in the sorted order of its files."""
    records = sorted(DatasetCatalog.get(cfg.DATASETS.TRAIN[0]), key=lambda one: one["file_name"])
    mapper = DatasetMapper(cfg, True)
    return [mapper(one) for one in records[:count]]


def detector(cfg: Any, ours: bool, variant: Variant, state: Tensors | None = None) -> torch.nn.Module:
    """A detector under a variant; without `state` ours with the real backbone and seeded heads."""
    cfg = cfg.clone()
    cfg.MODEL.BACKBONE.NAME = "build_residual_fpn_backbone" if ours else "build_resnet_fpn_backbone"
    if ours:
        cfg.MODEL.RESIDUAL.FOLD_NORMS, cfg.MODEL.RESIDUAL.CHANNELS_LAST = variant.fold_norms, variant.channels_last
        cfg.MODEL.RESIDUAL.COMPILE = variant.compile
    torch.manual_seed(SEED)
    model = build_model(cfg)
    if state is None:
        load_weights(model, cfg.MODEL.WEIGHTS, fine_tune=True)
    else:
        model.load_state_dict(state, strict=True)
    if not ours and variant.channels_last:
        model.to(memory_format=torch.channels_last)
    if not ours and variant.compile:
        model.backbone.compile()
    return model


class Bench:
    """All detectors on one device, and the photographs that they see."""

    def __init__(self, device: str, rows: Sequence[Variant]) -> None:
        cfg = config(device)
        self.device, self.rows = device, rows
        # One image keeps a core in its cache's company; a GPU wants some to be busy.
        self.inputs = photographs(cfg, 1 if device == "cpu" else 4)
        state = detector(cfg, True, DEFAULT).state_dict()
        self.models: dict[tuple[bool, Variant], Any] = {
            (ours, variant): detector(cfg, ours, variant, state)
            for row in rows
            for ours, variant in ((False, row.of_stock), (True, row))
        }
        self.proposals: list[Any] = []

    def run(self, key: tuple[bool, Variant], part: str, mode: str) -> Any:
        """One pass; in training forward and backward."""
        model, variant = self.models[key], key[1]
        torch.manual_seed(SEED)
        autocast = torch.autocast(self.device, torch.bfloat16, enabled=variant.bf16)
        with EventStorage(), torch.set_grad_enabled(mode == "train"):
            with autocast:
                if part == "model":
                    out = model(self.inputs)
                else:
                    out = model.backbone(model.preprocess_image(self.inputs).tensor)
            if mode == "train":
                sum(value.float().square().mean() if part == "backbone" else value for value in out.values()).backward()
        return out

    def seconds(self, key: tuple[bool, Variant], part: str, mode: str) -> float:
        """Of one pass, with everything that it started on the device."""
        self.models[key].zero_grad(set_to_none=True)
        self._wait()
        began = time.perf_counter()
        self.run(key, part, mode)
        self._wait()
        return time.perf_counter() - began

    def _wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()

    def answers(self, key: tuple[bool, Variant], part: str, mode: str) -> Tensors:
        """What detectors must agree in: features, gradients, the loss, or raw outputs before any choice of boxes."""
        model = self.models[key]
        model.zero_grad(set_to_none=True)
        # Convolutions in TF32 would hide what is compared behind their own rounding.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            if (part, mode) == ("model", "eval"):
                return self._raw_outputs(model, key[1])
            out = self.run(key, part, mode)
        if part == "model":
            return {"loss": sum(out.values()).detach()}
        if mode == "eval":
            return dict(out)
        return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}

    @torch.no_grad()
    def _raw_outputs(self, model: Any, variant: Variant) -> Tensors:
        with torch.autocast(self.device, torch.bfloat16, enabled=variant.bf16):
            images = model.preprocess_image(self.inputs)
            features = model.backbone(images.tensor)
            rpn, heads = model.proposal_generator, model.roi_heads
            logits, deltas = rpn.rpn_head([features[f] for f in rpn.in_features])
            # Everyone's heads look at the boxes that stock found.
            self.proposals = self.proposals or [p.proposal_boxes for p in rpn(images, features)[0]]
            pooled = heads.box_pooler([features[f] for f in heads.box_in_features], self.proposals)
            scores, boxes = heads.box_predictor(heads.box_head(pooled))
        levels = {f"rpn{i}": t for i, t in enumerate((*logits, *deltas))}
        return {**levels, "scores": scores, "boxes": boxes}


def difference(got: Tensors, expected: Tensors) -> float:
    """The largest relative difference (of norms) of any tensor."""
    assert got.keys() == expected.keys()
    return max(float((got[k].float() - expected[k].float()).norm() / expected[k].float().norm()) for k in expected)


def measure(bench: Bench, part: str, mode: str, rounds: int) -> list[dict[str, Any]]:
    """Every detector once a round, partners next to each other, every second round the other way round."""
    keys = list(bench.models)
    for model in bench.models.values():
        model.train(mode == "train")
    truth = bench.answers((False, DEFAULT), part, mode)
    apart = {key: difference(bench.answers(key, part, mode), truth) for key in keys}
    times: dict[tuple[bool, Variant], list[float]] = {key: [] for key in keys}
    for i in range(-1, rounds):  # the first warms up
        for key in keys if i % 2 else reversed(keys):
            passed = bench.seconds(key, part, mode)
            if i >= 0:
                times[key].append(round(1000 * passed, 3))
    runs = []
    for row in bench.rows:
        stock, ours, plain = times[False, row.of_stock], times[True, row], times[False, DEFAULT]
        ratios = [a / b for a, b in zip(stock, ours)]
        low, middle, high = quartiles(ratios)
        run = {
            "device": bench.device, "part": part, "mode": mode, "variant": str(row),
            "stock_ms": statistics.median(stock), "ours_ms": statistics.median(ours),
            "ratio": middle, "ratio_q1": low, "ratio_q3": high,
            "ratio_default": quartiles([a / b for a, b in zip(plain, ours)])[1],
            "max_rel_diff": float(f"{apart[True, row]:.3g}"), "rounds": rounds,
            "stock_max_rel_diff": float(f"{apart[False, row.of_stock]:.3g}"),
            "stock_ms_all": stock, "ours_ms_all": ours, "stock_default_ms_all": plain,
        }  # fmt: skip
        print({k: v for k, v in run.items() if not k.endswith("_all")}, flush=True)
        runs.append(run)
    return runs


def quartiles(values: Sequence[float]) -> list[float]:
    """First quartile, median, third quartile, to four digits; one value is all three."""
    cuts = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
    return [round(value, 4) for value in cuts]


def measure_device(device: str, trial: bool) -> Iterator[list[dict[str, Any]]]:
    """All rows of one device, part by part. On a CPU compiling takes a minute a graph: float32 and evaluation alone."""
    for mode in ("eval", "train"):
        compiled = () if trial or (device, mode) == ("cpu", "train") else (COMPILED,)
        bench = Bench(device, (*ROWS, *compiled, *((COMPILED_BF16,) if compiled and device == "cuda" else ())))
        for part in ("backbone", "model"):
            yield measure(bench, part, mode, 1 if trial else ROUNDS[device][part, mode])


def check(runs: Sequence[dict[str, Any]]) -> None:
    """Refuses float32 outputs other than stock's; gradients of fast settings may differ where a rectifier switches.

    Raises:
        ValueError: names the row.
    """
    for run in runs:
        exact = "bf16" not in run["variant"] and (run["mode"] == "eval" or run["variant"] == "default")
        if exact and not run["max_rel_diff"] <= EQUAL:
            row = ", ".join(run[key] for key in ("device", "part", "mode", "variant"))
            raise ValueError(f"{row}: differs from stock by {run['max_rel_diff']:.2g}, more than {EQUAL:g}")


def enter(runs: Sequence[dict[str, Any]], device: str) -> None:
    """Writes the device's entry; what is wrong stands in it too."""
    settings = {
        "config": CONFIG, "weights": f"$RESNET_BACKBONE_DATA/{WEIGHTS}", "data": "$RESNET_BACKBONE_DATA/bccd",
        "side": SIDE[device], "images": {"cpu": 1, "cuda": 4}[device], "freeze_at": 2,
        "timing": "every variant once a round, order turned round each round, after one round to warm up",
    }  # fmt: skip
    record(make_entry(
        "speed-drop-in" if device == "cpu" else "speed-drop-in-gpu",
        "The FPN backbone, and the Faster R-CNN R50-FPN around it, beside stock Detectron2 under the same switches.",
        f"python -m benchmarks.drop_in_speed --devices {device}", runs, settings=settings, seeds=[SEED],
        note="Milliseconds are medians of the rounds, ratios are medians of the rounds' ratios with their quartiles. "
        "Stock runs with the row's switches, except folding, which it has not. The difference is ours against stock's "
        "default in float32: features, gradients, raw outputs of all heads on the same boxes, or the loss.",
    ))  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0, or 1 after one sentence on what is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.drop_in_speed", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--trial", action="store_true", help="see that it works: one round, nothing recorded")
    parser.add_argument("--devices", nargs="+", choices=tuple(SIDE), help="default: cpu, and cuda where it is")
    arguments = parser.parse_args(argv)
    devices = arguments.devices or ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    versions()  # a checkout that changes during the run would name another commit
    try:
        for device in devices:
            runs: list[dict[str, Any]] = []
            for more in measure_device(device, arguments.trial):
                runs += more
                if not arguments.trial:
                    enter(runs, device)
            check(runs)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
