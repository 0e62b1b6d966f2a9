"""How many processes a command line asks for, held against the machine and against torchrun and Slurm."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from datetime import timedelta

import torch

from resnet_backbone.engine.processes import Place, find_place, free_port

TIMEOUT = timedelta(minutes=30)
"""Of one exchange between the processes: one of them evaluates while the others wait."""
_URL = re.compile(r"tcp://(?P<host>[^/:]+|\[[^\]]+\]):(?P<port>\d+)/?")


@dataclass(frozen=True)
class Asked:
    """The flags --num-gpus, --num-machines, --machine-rank, --dist-url and --dist-timeout.

    Attributes:
        gpus: processes on this machine, one GPU each; 1 also without a GPU.
        machines: how many machines work together.
        machine_rank: 0 .. machines - 1.
        dist_url: tcp://HOST:PORT of the first machine; "auto" finds a port where there is only one.
        timeout: of one exchange between the processes.
    """

    gpus: int = 1
    machines: int = 1
    machine_rank: int = 0
    dist_url: str = "auto"
    timeout: timedelta = TIMEOUT

    def found(self) -> Place | None:
        """What torchrun or Slurm says; machines counted by hand are started by hand, once on each of them.

        Raises:
            ValueError: the environment contradicts itself.
        """
        place = find_place(os.environ)
        by_hand = place is not None and place.starter == "Slurm" and self.machines > 1
        return None if by_hand else place

    def refuse(self, place: Place | None) -> None:
        """Whether so many processes can be, under torchrun or Slurm or without.

        Raises:
            ValueError: they cannot.
        """
        wrong = self._refusal() if place is None else self._contradiction(place)
        if self.timeout <= timedelta(0):
            wrong = f"--dist-timeout {self.timeout.total_seconds() / 60:g}: minutes, more than 0"
        if wrong:
            raise ValueError(wrong)

    def _contradiction(self, place: Place) -> str:
        """How --num-gpus and --num-machines contradict torchrun or Slurm, or nothing."""
        if self.machines != 1:
            return f"--num-machines {self.machines}: {place.starter} counts the machines; leave it out"
        if self.gpus not in (1, place.local_world):
            return (
                f"--num-gpus {self.gpus}: {place.starter} started {place.local_world} processes here, one GPU each; "
                "leave it out"
            )
        return ""

    def _refusal(self) -> str:
        """What is wrong with the number of processes, or nothing."""
        count = torch.cuda.device_count()
        if self.gpus < 1:
            return f"--num-gpus {self.gpus}: at least 1, which is also one process without a GPU"
        if self.machines < 1 or not 0 <= self.machine_rank < self.machines:
            return (
                f"--machine-rank {self.machine_rank} of --num-machines {self.machines}: ranks go from 0 to machines - 1"
            )
        if self.gpus * self.machines == 1:
            return ""
        if self.gpus > count:
            return (
                f"--num-gpus {self.gpus}: this machine has {count} CUDA GPUs; ask for as many as there are "
                "(several processes on the CPU: torchrun)"
            )
        if self.dist_url == "auto" and self.machines > 1:
            return "--num-machines needs --dist-url tcp://HOST:PORT of machine 0, the same on all machines"
        if self.dist_url != "auto" and not _URL.fullmatch(self.dist_url):
            return f"--dist-url {self.dist_url}: write tcp://HOST:PORT of machine 0"
        return ""

    def places(self) -> list[Place]:
        """Of this machine's processes, where neither torchrun nor Slurm starts them."""
        url = _URL.fullmatch(self.dist_url)
        host, port = (url["host"].strip("[]"), int(url["port"])) if url else ("localhost", free_port())
        first, world = self.machine_rank * self.gpus, self.machines * self.gpus
        return [
            Place(first + local, world, local, self.gpus, self.machine_rank, host, port, "--num-gpus")
            for local in range(self.gpus)
        ]
