"""Training steps of ResNet-50 and -101 beside torchvision's and timm's, and of CIFAR's networks: images a second.

python -m benchmarks.classifier_speed                          # on a GPU: both networks, four batch sizes
python -m benchmarks.classifier_speed --networks resnet50 --batches 256
python -m benchmarks.classifier_speed --seconds 300            # what matters most first, and nothing that would not end
python -m benchmarks.classifier_speed --cifar                  # ResNet-20, -56, -110: eager, compiled, captured
python -m benchmarks.classifier_speed --device cpu --side 64 --batches 8 --rounds 1 --no-record   # that it works

Everybody gets the same: the same images, which lie on the device, the same loss, fused SGD, memory layout, autocast and
torch.compile, in turns, the order turned round each round. `ours, checked` is our network under the tool's own step,
which looks at losses and gradients every 20 steps; nobody else looks. What the card can do is measured in the same run.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks import cifar_speed
from benchmarks.classification_tables import CIFAR_SPEED, CLASSIFIER_SPEED
from benchmarks.cost import cost_of
from benchmarks.machine import versions
from benchmarks.record import make_entry, record
from benchmarks.speed_rows import Switches, expected, ordered
from resnet_backbone.engine.step import TrainStep
from resnet_backbone.models.build import build_network

NETWORKS = ("resnet50", "resnet101")
BATCHES = (64, 128, 256, 512)
STEPS = {"cpu": 1, "cuda": 20}
ROUNDS = {"cpu": 3, "cuda": 9}
CHECKED = "ours, checked"
MAKERS = ("ours", CHECKED, "torchvision", "timm")
CLASSES = 1000


def build(maker: str, network: str) -> nn.Module | None:
    """A network with torchvision's stride (v1.5) and fresh weights; None where its library is not installed."""
    if maker == "torchvision":
        import torchvision

        made: nn.Module = torchvision.models.get_model(network)
        return made
    if maker == "timm":
        try:
            import timm
        except ImportError:
            return None
        return timm.create_model(network)  # type: ignore[no-any-return]
    return build_network(network, num_classes=CLASSES, stride_in_1x1=False)


class _WithLoss(nn.Module):
    """As `TrainStep` asks for it."""

    def __init__(self, network: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> None:
        super().__init__()
        self.network, self._images, self._labels = network, images, labels

    def forward(self, _: Sequence[int]) -> dict[str, torch.Tensor]:
        return {"loss": F.cross_entropy(self.network(self._images).float(), self._labels)}


def step_of(
    maker: str, network: nn.Module, images: torch.Tensor, labels: torch.Tensor, switches: Switches
) -> Callable[[], object]:
    """One training step on the same images."""
    device = images.device.type
    optimizer = torch.optim.SGD(
        network.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4, fused=device == "cuda" or None
    )
    if maker == CHECKED:
        dtype, model = torch.bfloat16 if switches.bf16 else None, _WithLoss(network, images, labels)
        step, count, batch = TrainStep(optimizer, dtype=dtype, device=device, check_every=20), itertools.count(), [0]
        return lambda: step(model, batch, next(count))

    def plain() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device, torch.bfloat16, enabled=switches.bf16):
            logits = network(images)
        F.cross_entropy(logits.float(), labels).backward()
        optimizer.step()

    return plain


def wait(device: torch.device) -> None:
    """Until the device has done all."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(step: Callable[[], object], count: int, device: torch.device) -> float:
    """Of one step, over so many."""
    wait(device)
    began = time.perf_counter()
    for _ in range(count):
        step()
    wait(device)
    return (time.perf_counter() - began) / count


def peak_mb(step: Callable[[], object], device: torch.device) -> float | None:
    """What a step needs above what lies there between two steps; None on a CPU."""
    if device.type != "cuda":
        return None
    wait(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    step()
    wait(device)
    return (torch.cuda.max_memory_allocated(device) - before) / 2**20


def limits(device: torch.device) -> dict[str, float]:
    """What the device reaches: TFLOP/s of a bf16 product of matrices, GB/s of a copy, read and written."""
    side, count = (8192, 2**28) if device.type == "cuda" else (512, 2**22)
    a = torch.randn(side, side, device=device, dtype=torch.bfloat16)
    product = min(seconds(lambda: a @ a, 10, device) for _ in range(5))
    source, target = torch.zeros(2, count, device=device)
    copy = min(seconds(lambda: target.copy_(source), 10, device) for _ in range(5))
    return {"tflops": 2 * side**3 / product / 1e12, "gb_s": 2 * 4 * count / copy / 1e9}


def measure(
    network: str, batch: int, side: int, switches: Switches, rounds: int, device: torch.device
) -> list[dict[str, Any]]:
    """A run for each maker; what does not fit into the memory has no speed."""
    torch._dynamo.reset()
    generator = torch.Generator().manual_seed(0)
    layout = torch.channels_last if switches.channels_last else torch.contiguous_format
    images = torch.randn(batch, 3, side, side, generator=generator).to(device, memory_format=layout)
    labels = torch.randint(CLASSES, (batch,), generator=generator).to(device)
    steps: dict[str, Callable[[], object]] = {}
    for maker in MAKERS:
        torch.manual_seed(0)
        made = build(maker, network)
        if made is None:
            continue
        made = made.to(device, memory_format=layout).train()  # type: ignore[call-overload]
        if switches.compile:
            made.compile()
        steps[maker] = step_of(maker, made, images, labels, switches)
    times: dict[str, list[float]] = {maker: [] for maker in steps}
    peaks: dict[str, float | None] = {}
    try:
        for number in range(-1, rounds):  # the first warms up, and measures the memory
            for maker in list(steps)[:: -1 if number % 2 else 1]:
                passed = seconds(steps[maker], 3 if number < 0 else STEPS[device.type], device)
                if number < 0:
                    peaks[maker] = peak_mb(steps[maker], device)
                else:
                    times[maker].append(passed)
    except torch.OutOfMemoryError:
        times, peaks = {maker: [] for maker in steps}, {}
    return [
        summary(maker, times.get(maker, []), times["ours"], peaks.get(maker), batch)
        | {"network": network, "batch": batch, "side": side, "switches": str(switches), "device": device.type}
        | {"installed": maker in steps}
        for maker in MAKERS
    ]


def summary(
    maker: str, times: Sequence[float], ours: Sequence[float], peak: float | None, batch: int
) -> dict[str, Any]:
    """Images a second, and how much faster ours are in the same rounds (above 1 ours are)."""
    if not times:
        return {"maker": maker, "images_s": None, "ratio": None, "ratio_q1": None, "ratio_q3": None, "peak_mb": None,
                "seconds_all": []}  # fmt: skip
    low, middle, high = quartiles([theirs / own for theirs, own in zip(times, ours, strict=True)])
    return {
        "maker": maker, "images_s": batch / statistics.median(times), "ratio": middle, "ratio_q1": low,
        "ratio_q3": high, "peak_mb": peak, "seconds_all": [round(one, 6) for one in times],
    }  # fmt: skip


def quartiles(values: Sequence[float]) -> list[float]:
    """First quartile, median, third quartile; one value is all three."""
    return statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3


def shares(run: dict[str, Any], reached: dict[str, float]) -> dict[str, float | None]:
    """Of what the card reaches, in percent: its arithmetic, and its memory by what such kernels must move."""
    if run["images_s"] is None:
        return {"arithmetic_percent": None, "memory_percent": None}
    cost = cost_of(run["network"], run["side"])
    moved = cost.moved_mb["compiled" if "compile" in run["switches"] else "eager"]
    size = 1 if "bf16" in run["switches"] else 2  # twice the bytes in float32
    return {
        "arithmetic_percent": 100 * run["images_s"] * cost.train_gflop / 1e3 / reached["tflops"],
        "memory_percent": 100 * run["images_s"] * size * moved / 1e3 / reached["gb_s"],
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0, or 1 after one sentence on what is wrong."""
    arguments = _parser().parse_args(argv)
    device = torch.device(arguments.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    versions()  # a checkout that changes during the run would name another commit
    rounds = arguments.rounds or ROUNDS[device.type]
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    command = f"python -m benchmarks.classifier_speed --device {device.type}"
    try:
        if arguments.cifar:
            what, settings = "The loop of tools/pretrain_imagenet.py on CIFAR's networks: images a second.", {}
            made, named, note = cifar_speed.measure_all(device, rounds), CIFAR_SPEED, cifar_speed.NOTE
        else:
            what, settings = (
                "Training steps of ours, torchvision's and timm's networks: images a second.",
                limits(device),
            )
            made, named, note = measure_all(arguments, rounds, device, settings), CLASSIFIER_SPEED, NOTE
        runs: list[dict[str, Any]] = []
        for more in made:  # recorded at once: what is cut off loses only what it was at
            runs += more
            if not arguments.no_record:
                all_settings = {"rounds": rounds, **settings}
                said = command + (" --cifar" if arguments.cifar else "")
                record(make_entry(named, what, said, runs, settings=all_settings, seeds=[0], note=note))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def measure_all(
    arguments: argparse.Namespace, rounds: int, device: torch.device, reached: dict[str, float]
) -> Iterator[list[dict[str, Any]]]:
    """A run for each maker, row by row, the most important first; rows that would outlast `--seconds` are left out."""
    deadline = time.monotonic() + (arguments.seconds or float("inf"))
    for row in ordered(arguments.networks, arguments.batches):
        network, batch, switches = row
        if time.monotonic() + expected(row) > deadline:
            continue
        try:
            found = measure(network, batch, arguments.side, switches, rounds, device)
        except RuntimeError as error:  # what one library or the compiler cannot do is not the other rows' end
            print(f"error: {network}, batch {batch}, {switches}: {error}", file=sys.stderr, flush=True)
            continue
        runs = [run | shares(run, reached) for run in found]
        for run in runs:
            print({k: v for k, v in run.items() if k != "seconds_all"}, flush=True)
        yield runs


NOTE = (
    "Images lie on the device: no reading. Medians of the rounds; ratios are medians of the rounds' ratios to ours, "
    "with their quartiles. Shares are of what the same card reached in the same run: a bf16 product of 8192 x 8192 "
    "matrices, and a copy of 1 GiB, against the bytes that eager or compiled kernels must move. Memory is what a step "
    "needs above weights, momentum and images."
)


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.classifier_speed", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    made.add_argument("--device", choices=tuple(STEPS), help="default: cuda where it is")
    made.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS)
    made.add_argument("--batches", nargs="+", type=int, default=BATCHES, metavar="N")
    made.add_argument("--side", type=int, default=224, metavar="PIXELS")
    made.add_argument("--rounds", type=int, metavar="N", help="default: 9 on a GPU, 3 on a CPU")
    made.add_argument("--seconds", type=float, metavar="N", help="start no row that would end later")
    made.add_argument("--cifar", action="store_true", help="CIFAR's networks by the tool's own loop instead")
    made.add_argument("--no-record", action="store_true", help="print only")
    return made


if __name__ == "__main__":
    sys.exit(main())
