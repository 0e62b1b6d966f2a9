"""Pretraining in several processes on the CPU (gloo): what one process does, each image once, and the same end."""

from __future__ import annotations

import json
import math
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from made_pretraining import SMALL, TOOL, forked, metrics, options, tool, write_stripes
from test_launch import ends
from test_launch import job as job_of
from test_training_run import assert_same
from torch.distributed import run as torchrun

from resnet_backbone.classification.data.batches import evaluation_batches
from resnet_backbone.classification.data.order import Order
from resnet_backbone.classification.data.splits import open_data
from resnet_backbone.classification.launch import job
from resnet_backbone.classification.testing.evaluate import evaluate
from resnet_backbone.classification.training.classifier import Inputs, build_classifier
from resnet_backbone.classification.training.final import exact_norms
from resnet_backbone.classification.training.loop import Loop
from resnet_backbone.engine import group
from resnet_backbone.weights.files import read_weights

CPU = torch.device("cpu")
SIX = replace(SMALL, epochs=None, iterations=6, rate_per_256=0.5)


@pytest.fixture(autouse=True)
def _one_thread(one_thread):
    """Processes that were forked have no other, and sums have other last bits on two."""


@pytest.fixture
def losses(tmp_path, monkeypatch):
    """What every process of a run lost at every iteration: losses(run) gives a list for each process."""
    step = Loop._step

    def watched(self, *arguments):
        found = step(self, *arguments)
        with open(self.output / f"losses{group.rank()}", "a") as file:
            print(json.dumps(found["loss"]), file=file)
        return found

    monkeypatch.setattr(Loop, "_step", watched)
    return lambda run: [list(map(json.loads, file.read_text().split())) for file in sorted(run.glob("losses*"))]


def state(run: Path, name: str = "model.safetensors") -> dict[str, torch.Tensor]:
    return read_weights(run / name).state


def together(capfd, folder: Path, config, data, **more) -> tuple[list[int | None], list[str], str]:
    return ends(capfd, job(options(folder, config, data, **more)))


def assert_equal_runs(one: Path, two: Path, losses) -> None:
    """Losses within 1e-5, weights and statistics within 1e-5 or 1e-6, and what was tested."""
    [alone], shared = losses(one), losses(two)
    assert shared[0] != shared[1], "both trained, on other images"
    assert [sum(pair) / 2 for pair in zip(*shared, strict=True)] == pytest.approx(alone, rel=1e-5)
    for name in sorted(file.name for file in one.glob("*.safetensors")):
        first, second = state(one, name), state(two, name)
        for key in (key for key in first if "num_batches" not in key):  # two parts in one process are two
            torch.testing.assert_close(second[key], first[key], rtol=1e-5, atol=1e-6)
    for line, other in zip(*(metrics(run)[-2:] for run in (one, two)), strict=True):
        assert line == pytest.approx(other, rel=1e-5)


def test_two_processes_are_one_that_accumulates_over_the_same_halves(folders, tmp_path, losses, capfd):
    """With batch norm; its statistics, which are exact in the end, come from the images of both."""
    config = replace(SIX, mixup=0.2, drop_path=0.3, ema=0.9, label_smoothing=0.1, clip=1.0, batch_sides=(24, 32))
    assert together(capfd, tmp_path / "two", config, folders)[0] == [0, 0]
    assert tool(options(tmp_path / "one", replace(config, accumulate=2), folders)) == 0
    assert_equal_runs(tmp_path / "one", tmp_path / "two", losses)


def test_two_processes_are_one_with_group_norm(folders, tmp_path, losses, capfd):
    """Held-out images choose the same weights, and the plateau rule sets the same rate."""
    # Of so few values, group norm makes signs of the last bits without a large epsilon.
    config = replace(SIX, norm="GN", norm_eps=0.1, holdout=7, test_every=2.0, schedule="plateau", patience=1)
    assert together(capfd, tmp_path / "two", config, folders)[0] == [0, 0]
    assert tool(options(tmp_path / "one", config, folders)) == 0
    assert_equal_runs(tmp_path / "one", tmp_path / "two", losses)
    assert (tmp_path / "one" / "model_best.safetensors").exists()
    lines = ([line for line in metrics(tmp_path / run) if "holdout/top1" in line] for run in ("one", "two"))
    for line, other in zip(*lines, strict=True):
        assert line == pytest.approx(other, rel=1e-5)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_every_validation_image_counts_once(tmp_path, capfd, world):
    val = open_data(str(write_stripes(tmp_path / "data", train=4, val=5))).val  # ten: no multiple of three
    config = replace(SMALL, batch_size=6, epochs=3.0)

    class Right(torch.nn.Module):
        """Says the second class, which every second image is of."""

        def forward(self, images):
            return torch.tensor([0.0, 1.0]).expand(len(images), 2)

    def action() -> None:
        seen = [index for batch in evaluation_batches(val, config) for index in batch.indices.tolist()]
        found = evaluate(Right(), ((b.images, b.labels) for b in evaluation_batches(val, config)), lambda x: x, CPU)
        assert (found.images, found.top1, found.top5) == (10, 5, None)
        assert found.loss == pytest.approx((math.log(1 + math.e) + math.log(1 + 1 / math.e)) / 2)
        (tmp_path / str(group.rank())).write_text(json.dumps(seen))

    assert ends(capfd, job_of(action), world=world)[:2] == ([0] * world, [])
    seen = [json.loads((tmp_path / str(rank)).read_text()) for rank in range(world)]
    assert sorted(index for own in seen for index in own) == list(range(10))
    assert max(map(len, seen)) - min(map(len, seen)) <= 1


@pytest.mark.parametrize(("batch", "parts"), [(8, 1), (12, 1), (28, 7)])
def test_exact_statistics_are_of_all_processes_images_and_the_same_in_all(folders, tmp_path, capfd, batch, parts):
    """Also where 32 are no whole number of batches; the norms count as many parts in both, and SyncBN meets in each."""
    data, config = open_data(str(folders)), replace(SMALL, batch_size=batch, accumulate=parts)

    def computed(config, file: str) -> None:
        torch.manual_seed(1)
        network = build_classifier(config, 2)
        assert exact_norms(network, config, data, Inputs(config, CPU), CPU) == 32
        torch.save(network.state_dict(), tmp_path / file)

    codes, said, _ = ends(capfd, job_of(lambda: computed(config, str(group.rank()))))
    assert (codes, said) == ([0, 0], [])
    computed(replace(config, accumulate=2 * parts), "alone")
    first, second, alone = (torch.load(tmp_path / name, weights_only=True) for name in ("0", "1", "alone"))
    assert_same(first, second)
    for key in (name for name in alone if "running" in name):
        torch.testing.assert_close(first[key], alone[key], rtol=1e-5, atol=1e-6)


def test_exact_statistics_are_at_the_side_that_the_run_ends_with(folders):
    data, found = open_data(str(folders)), []
    config = replace(SMALL, start_size=16)
    network = build_classifier(config, 2)
    network.stem.register_forward_pre_hook(lambda _, arguments: found.append(arguments[0].shape[-1]))
    exact_norms(network, config, data, Inputs(config, CPU), CPU)
    assert found == [32] * 4


def test_synchronised_norms_need_gpus_in_many_processes_alone(folders, tmp_path, capfd):
    config = replace(SIX, norm="SyncBN", iterations=2)
    codes, said, _ = together(capfd, tmp_path / "two", config, folders)
    assert (codes, said) == ([1, 1], ["error: norm: SyncBN exchanges statistics between GPUs alone; on the CPU use BN "
                                      "or GN"])  # fmt: skip
    for norm in ("SyncBN", "BN"):
        assert tool(options(tmp_path / norm, replace(config, norm=norm), folders)) == 0
    assert_same(state(tmp_path / "SyncBN"), state(tmp_path / "BN"))


def test_they_stop_together_and_go_on_together(folders, tmp_path, monkeypatch, capfd):
    """What only the second process was asked, and what only it found broken."""
    broken = open_data(str(folders)).train.name(int(Order(32, 0).indices(0, 32)[1]))
    Path(broken).write_bytes(b"no image")
    config = replace(SIX, ema=0.9, broken_images=1)
    step = Loop._step

    def stopped(self, *arguments):
        if (self.iteration, group.rank()) == (2, 1):
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_step", stopped)
        codes, said, _ = together(capfd, tmp_path / "run", config, folders)
    assert codes == [130, 130] and sum("stopped after iteration 3 of 6" in line for line in said) == 1, said
    assert (tmp_path / "run" / "broken_images.txt").read_text() == f"{broken}\n"
    assert torch.load(tmp_path / "run" / "last.pth", weights_only=True)["broken"] == {"names": [broken]}
    assert together(capfd, tmp_path / "run", config, folders, resume=True)[0] == [0, 0]
    assert together(capfd, tmp_path / "whole", config, folders)[0] == [0, 0]
    assert_same(*(torch.load(tmp_path / run / "last.pth", weights_only=True) for run in ("whole", "run")))
    assert_same(state(tmp_path / "whole"), state(tmp_path / "run"))


def test_torchrun_starts_them_again(folders, tmp_path, monkeypatch, losses, capfd):
    """One is killed as often as there are restarts and once more; the same command goes on, to the same bits."""
    config, dying = replace(SIX, iterations=8, save_every=2.0, test_every=4.0, ema=0.9, drop_path=0.3), [3, 5]
    run, step = options(tmp_path / "run", config, folders), Loop._step

    def killed(self, *arguments):
        done = tmp_path / f"killed{self.iteration}"
        if group.rank() == 1 and self.iteration in dying and not done.exists():
            done.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return step(self, *arguments)

    def start() -> int | None:
        """Its workers are forks of this process, which need not import everything."""
        flags = ["--nproc-per-node", "2", "--max-restarts", "1", "--run-path", "--start-method", "fork"]
        flags += ["--log-dir", str(tmp_path / "logs")]
        words = [str(TOOL), "--config", str(run.config), "--output", str(run.folder), "--resume"]
        return forked(lambda: torchrun.main([*flags, *words]))[0]

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_step", killed)
        assert start() == 1
        said = capfd.readouterr()
        assert said.err.count("error: process 1 of 2 (host") == 2
        assert "nothing to resume" in said.out and "after 2 iterations" in said.out
        assert start() == 0 and "resumed from" in capfd.readouterr().out
    assert together(capfd, tmp_path / "whole", config, folders)[0] == [0, 0]
    whole = losses(tmp_path / "whole")
    assert losses(run.folder)[1] == whole[1][:3] + whole[1][2:5] + whole[1][4:]
    assert_same(state(tmp_path / "whole"), state(run.folder))
