"""Two processes, of which one's image makes losses or gradients no numbers: the run's last words name it."""

from __future__ import annotations

import itertools
import math
import re
import sys

import pytest
import torch
from detectron2.modeling import GeneralizedRCNN
from made_data import TINY, write_config, write_rectangles
from made_processes import PATIENT, codes_of
from torch import multiprocessing

from resnet_backbone.detection.training.launch import job
from resnet_backbone.detection.training.settle import RunOptions
from resnet_backbone.engine import processes
from resnet_backbone.engine.launch import bound
from resnet_backbone.engine.processes import Place, free_port


def spoiled(rank: int, port: int, options: RunOptions, what: str) -> None:
    """A process whose third batch is written down, and in the second process spoiled."""
    torch.set_num_threads(1)
    place = Place(rank, 2, rank, 2, 0, "localhost", port, "Slurm")
    processes.join(place, "gloo", PATIENT)
    forward, calls = GeneralizedRCNN.forward, itertools.count()

    def other(self, inputs):
        losses = forward(self, inputs)
        if next(calls) == 2:
            (options.output / f"seen{rank}").write_text(inputs[0]["file_name"])
            if rank == 1 and what == "loss":
                losses["loss_cls"] = losses["loss_cls"] * math.nan
            if rank == 1 and what == "gradients":  # the root's at 0 is infinite
                losses["loss_cls"] = losses["loss_cls"] + (self.roi_heads.box_predictor.cls_score.bias * 0).sum().sqrt()
        return losses

    GeneralizedRCNN.forward = other
    sys.stderr = (options.output.parent / f"said{rank}").open("w")
    sys.exit(bound(job(options), "localhost"))


@pytest.mark.parametrize("what", ["loss", "gradients"])
def test_the_image_is_named_whichever_process_had_it(tmp_path, what):
    words = ("DATA.ROOT", str(write_rectangles(tmp_path / "rectangles", images=8)))
    options = RunOptions(write_config(tmp_path, TINY), words, tmp_path / "run", gpus=2)
    context, port = multiprocessing.get_context("spawn"), free_port()
    codes = codes_of([context.Process(target=spoiled, args=(rank, port, options, what)) for rank in (0, 1)])
    said = "".join((tmp_path / f"said{rank}").read_text() for rank in (0, 1))
    [line] = re.findall(r"error: .*", said)
    assert codes == [1, 1] and f"the loss{'es are finite' * (what != 'loss')}" in line
    seen = [(options.output / f"seen{rank}").read_text() for rank in (0, 1)]
    assert seen[0] != seen[1] and seen[1] in line and (seen[0] in line) == (what == "gradients")
