"""Which process of how many this is, as torchrun or Slurm says it, and how the processes meet."""

from __future__ import annotations

import errno
import re
import secrets
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from torch import distributed
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from resnet_backbone.engine import group

COUNTS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
PATIENCE = timedelta(minutes=5)
"""How long the first processes wait for the last one at the start, at most."""
PORTS = range(12_000, 32_000)
"""Below those that the system gives to whoever asks for any (from 32768): nobody else gets one before it is used."""


@dataclass(frozen=True)
class Place:
    """One process among those that train together.

    Attributes:
        rank: 0 .. world - 1.
        local_rank: 0 .. local_world - 1, among the processes of its machine.
        node: which machine, from 0.
        host: of rank 0, where all meet, at `port`.
        starter: "torchrun", "Slurm", or the flag "--num-gpus".
    """

    rank: int
    world: int
    local_rank: int
    local_world: int
    node: int
    host: str
    port: int
    starter: str


def find_place(environ: Mapping[str, str]) -> Place | None:
    """The place that the environment gives this process; None where it is the only one.

    torchrun's variables win inside Slurm, for srun may start one torchrun on every machine.

    Raises:
        ValueError: variables are missing, are no numbers, or contradict each other.
    """
    stated = {name: _number(environ, name) for name in COUNTS if environ.get(name)}
    slurm = None if "TORCHELASTIC_RUN_ID" in environ else _of_slurm(environ)
    if slurm is not None:
        values = (slurm.rank, slurm.world, slurm.local_rank, slurm.local_world)
        for name, value in zip(COUNTS, values, strict=True):
            if stated.get(name, value) != value:
                raise ValueError(
                    f"{name} is {stated[name]}, but Slurm started process {slurm.rank} of {slurm.world} here, for "
                    f"which it would be {value}; unset {name}"
                )
        return slurm
    if not stated or stated.get("WORLD_SIZE") == 1:
        return None
    return _of_torchrun(environ, stated)


def _of_torchrun(environ: Mapping[str, str], stated: Mapping[str, int]) -> Place:
    missing = [name for name in (*COUNTS, "MASTER_ADDR", "MASTER_PORT") if not environ.get(name)]
    if missing:
        raise ValueError(
            f"{', '.join(stated)} set in the environment, {', '.join(missing)} not: start with torchrun, which sets "
            f"all of them, or unset {' '.join(stated)} for one process"
        )
    rank, world, local_rank, local_world = (stated[name] for name in COUNTS)
    if not (0 <= local_rank <= rank < world and local_rank < local_world <= world):
        raise ValueError(
            f"RANK {rank} of WORLD_SIZE {world} and LOCAL_RANK {local_rank} of LOCAL_WORLD_SIZE {local_world} "
            "contradict each other: ranks go from 0 to size - 1; start with torchrun, which sets all of them"
        )
    node = _number(environ, "GROUP_RANK") if environ.get("GROUP_RANK") else rank // local_world
    port = _number(environ, "MASTER_PORT")
    return Place(rank, world, local_rank, local_world, node, environ["MASTER_ADDR"], port, "torchrun")


def _of_slurm(environ: Mapping[str, str]) -> Place | None:
    """The place among the tasks that one srun started.

    A batch script and an allocation's shell have SLURM_PROCID and SLURM_NTASKS too, though they run once;
    the variables of a step are there under srun alone.
    """
    if environ.get("SLURM_STEP_NUM_TASKS", "1") == "1":
        return None
    tasks = environ.get("SLURM_STEP_TASKS_PER_NODE", "")
    hosts = environ.get("SLURM_STEP_NODELIST", "")
    host = environ.get("MASTER_ADDR") or first_host(hosts)
    needed = {"SLURM_STEP_TASKS_PER_NODE": tasks, "SLURM_STEP_NODELIST": host}
    missing = [name for name, value in needed.items() if not value]
    if missing:
        raise ValueError(f"Slurm's {' and '.join(missing)} not set; start with srun, which sets all of them")
    node = _number(environ, "SLURM_NODEID")
    counts = tasks_per_node(tasks)
    world, rank = _number(environ, "SLURM_STEP_NUM_TASKS"), _number(environ, "SLURM_PROCID")
    local_rank = _number(environ, "SLURM_LOCALID")
    if node >= len(counts) or sum(counts) != world or not 0 <= rank < world or local_rank >= counts[node]:
        raise ValueError(
            f"SLURM_PROCID {rank} of SLURM_STEP_NUM_TASKS {world}, SLURM_LOCALID {local_rank} on SLURM_NODEID {node} "
            f"and SLURM_STEP_TASKS_PER_NODE {tasks} contradict each other; start with srun, which sets all of them"
        )
    port = _number(environ, "MASTER_PORT") if environ.get("MASTER_PORT") else _port_of_step(environ)
    return Place(rank, world, local_rank, counts[node], node, host, port, "Slurm")


def first_host(hosts: str) -> str:
    """The first of Slurm's host list: "gpu[07-09,12],big1" gives "gpu07"."""
    first = re.match(r"(?:[^,\[]|\[[^\]]*\])*", hosts)
    return re.sub(r"\[([^\],-]+)[^\]]*\]", r"\1", first.group() if first else "")


def tasks_per_node(text: str) -> list[int]:
    """Slurm's shorthand: "4(x2),1" gives [4, 4, 1].

    Raises:
        ValueError: it is written otherwise.
    """
    counts: list[int] = []
    for part in text.split(","):
        found = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part.strip())
        if not found:
            raise ValueError(f"SLURM_STEP_TASKS_PER_NODE: {text!r} is not as Slurm writes it, as 4(x2),1")
        counts += [int(found[1])] * int(found[2] or 1)
    return counts


def _port_of_step(environ: Mapping[str, str]) -> int:
    """Another port for every job and step of a machine."""
    return PORTS[(_number(environ, "SLURM_JOB_ID") * 8 + _number(environ, "SLURM_STEP_ID")) % len(PORTS)]


def free_port() -> int:
    """A port of `PORTS` at which nobody listens on this machine.

    Raises:
        OSError: this process may not listen at all.
    """
    while True:
        with socket.socket() as probe:
            try:
                probe.bind(("", secrets.choice(PORTS)))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
            else:
                return int(probe.getsockname()[1])


def _number(environ: Mapping[str, str], name: str) -> int:
    text = environ.get(name, "")
    if not text.isdecimal():
        raise ValueError(f"{name} is {text!r} in the environment, not a whole number; torchrun or srun sets it")
    return int(text)


def gpu_of(place: Place, count: int, key: str = "device") -> int:
    """The index of this process's GPU among the `count` that it sees.

    Args:
        key: what the setting of the device is called, for the sentence.

    Raises:
        ValueError: there are fewer GPUs than processes.
    """
    if place.starter == "Slurm" and count == 1:
        return 0  # srun --gpus-per-task=1 shows every task its own GPU alone
    if count < place.local_world:
        raise ValueError(
            f"{place.starter} started {place.local_world} processes here, but this machine has {count} CUDA GPUs; "
            f"start {count}, or train on the CPU: {key} cpu"
        )
    return place.local_rank


def join(place: Place, backend: str, timeout: timedelta) -> Any:
    """Meets the other processes; torch.distributed and `group` are ready after it.

    Args:
        backend: "nccl", the process's GPU already chosen, or "gloo".
        timeout: of one exchange between the processes.

    Returns:
        The group of the processes of this machine.

    Raises:
        ValueError: one or more did not come.
    """
    host = f"[{place.host}]" if ":" in place.host else place.host  # IPv6
    where, wait = f"{host}:{place.port}", min(timeout, PATIENCE)
    # torchrun's agent may hold the meeting point itself, which torch sees from the environment.
    url = "env://" if place.starter == "torchrun" else f"tcp://{where}"
    try:
        store, _, _ = next(rendezvous(url, place.rank, place.world, timeout=wait))
        store = agreed_store(store, place.rank, place.world, wait)
        store.set_timeout(timeout)
        distributed.init_process_group(backend, store=store, rank=place.rank, world_size=place.world, timeout=timeout)
        group.set_local(_local_group(place, timeout), timeout)
        return group.local()
    except (RuntimeError, TimeoutError) as error:  # RuntimeError: what torch.distributed raises of all kinds
        raise ValueError(
            f"process {place.rank} of {place.world} did not meet the others at {where} within "
            f"{wait.total_seconds():g} s: were all started, and may they connect there? ({first_line(error)})"
        ) from None


def part() -> None:
    """The end of what `join` began."""
    distributed.destroy_process_group()
    group.set_local(None)


def agreed_store(store: Store, rank: int, world: int, wait: timedelta) -> Store:
    """A part of the store that only this start's processes write to.

    torchrun keeps its store when it starts the processes again, and torch would take the addresses of the dead
    for theirs (pytorch issue 135712); its restart count differs between machines. So the first process names the
    part, and tells the name to those alone who answer.

    Raises:
        TimeoutError: names the processes that did not come.
    """
    store.set_timeout(wait)
    deadline = time.monotonic() + wait.total_seconds()
    if rank:
        ticket = secrets.token_hex(8)
        store.set(f"ticket/{rank}", ticket)
        while not store.check([f"name/{ticket}"]):  # no signal would end torch's own waiting
            _pause(deadline, [0])
        name = store.get(f"name/{ticket}").decode()
        store.set(f"here/{name}/{rank}", "")
        return PrefixStore(name, store)
    name, missing = secrets.token_hex(8), list(range(1, world))
    while missing:
        for other in missing:
            if store.check([f"ticket/{other}"]):  # perhaps one of the start before, whose answer nobody reads
                store.set(f"name/{store.get(f'ticket/{other}').decode()}", name)
        missing = [other for other in missing if not store.check([f"here/{name}/{other}"])]
        if missing:
            _pause(deadline, missing)
    return PrefixStore(name, store)


def _pause(deadline: float, missing: list[int]) -> None:
    if time.monotonic() > deadline:
        raise TimeoutError(f"missing: {', '.join(map(str, missing))}")
    time.sleep(0.05)


def _local_group(place: Place, timeout: timedelta) -> Any:
    nodes: list[int] = [0] * place.world
    distributed.all_gather_object(nodes, place.node)
    groups = {
        n: distributed.new_group([r for r, of in enumerate(nodes) if of == n], timeout) for n in sorted(set(nodes))
    }
    return groups[place.node]


def is_lost_connection(error: BaseException) -> bool:
    """Whether torch.distributed failed because another process is not there any more."""
    said = str(error)
    return isinstance(error, distributed.DistError) or "gloo" in said or "by peer" in said


def first_line(error: BaseException) -> str:
    """What an error says, without torch's backtrace."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
