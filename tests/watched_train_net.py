"""tools/train_net.py with hooks, for tests that start it in several processes; the environment says which.

WATCH_FOLDER: gets losses<rank>.jsonl, a line a step, and seen<rank>.jsonl, a line an evaluated batch.
WATCH_DIE: "<rank> training" or "<rank> evaluation": that process kills itself there, once; in training after three
    iterations, which are saved.
WATCH_GPUS: --num-gpus finds so many GPUs, which are the CPU, and takes gloo for nccl.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import warnings
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import torch
from detectron2.utils import comm
from torch import distributed

from resnet_backbone.detection.evaluator import DetectionEvaluator
from resnet_backbone.detection.training import launch, loop, testing

FOLDER = Path(os.environ["WATCH_FOLDER"])


def write(name: str, value: object) -> None:
    with open(FOLDER / f"{name}{comm.get_rank()}.jsonl", "a") as file:
        print(json.dumps(value), file=file)


def die(where: str) -> None:
    asked = f"{comm.get_rank()} {where}" == os.environ.get("WATCH_DIE")
    if asked and not (FOLDER / "died").exists():
        (FOLDER / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)


def wait_for_checkpoint(path: Path, iteration: int) -> None:
    """The first process may still be writing it, and would be ended in the middle."""
    while torch.load(path, weights_only=True)["iteration"] < iteration:
        time.sleep(0.05)


def watch() -> None:
    """Puts the hooks in."""
    step, process, detect = loop.Loop._step, DetectionEvaluator.process, testing._detect

    def watched_step(self, trained, batch):
        if self.iteration == 3 and os.environ.get("WATCH_DIE", "").endswith("training"):
            wait_for_checkpoint(self.output / "last.pth", 3)
            die("training")
        losses = step(self, trained, batch)
        write("losses", {"iteration": self.iteration, **losses})
        return losses

    def watched_process(self, inputs, outputs):
        write("seen", [one["image_id"] for one in inputs])
        process(self, inputs, outputs)

    def watched_detect(model, inputs):
        die("evaluation")
        return detect(model, inputs)

    loop.Loop._step, DetectionEvaluator.process, testing._detect = watched_step, watched_process, watched_detect


def pretend_gpus(count: int) -> None:
    """What --num-gpus asks of CUDA and nccl, as far as a CPU can give it."""
    join = distributed.init_process_group
    distributed.init_process_group = lambda backend, **more: join("gloo", **more)
    torch.cuda.device_count, torch.cuda.set_device = lambda: count, lambda device: None
    launch._uses_gpu = on_gpu


def on_gpu(options):
    """Whatever MODEL.DEVICE says, which is cpu."""
    return True


# In the processes that --num-gpus starts, this file is imported as "__mp_main__".
torch.set_num_threads(1)
watch()
if "WATCH_GPUS" in os.environ:
    pretend_gpus(int(os.environ["WATCH_GPUS"]))
if __name__ == "__main__":
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch")
    tool = spec_from_file_location("train_net", Path(__file__).parents[1] / "tools" / "train_net.py")
    module = module_from_spec(tool)
    tool.loader.exec_module(module)
    sys.exit(module.main())
