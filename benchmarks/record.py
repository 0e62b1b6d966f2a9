"""One entry a benchmark in `results.json`: what ran, on what, and every raw value; written atomically.

python -m benchmarks.record            # checks the file
python -m benchmarks.record OTHER.json # takes over the entries of a file written on another machine
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import fcntl
import json
import math
import os
import re
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RESULTS = Path(os.environ.get("RESNET_BACKBONE_RESULTS", Path(__file__).with_name("results.json")))
"""Of this project, unless a run on another machine writes a file of its own."""
Run = Mapping[str, Any]

# What belongs to one machine, or names a server, has no place in a public file.
_PRIVATE = (
    (re.compile(r"(?:^|[\s\"'=(:,])(/[A-Za-z_.][\w.-]*/[\w./-]*)"), "an absolute path; write it relative to "
     "$RESNET_BACKBONE_DATA or to the repository"),
    (re.compile(r"(https?://[^\s\"']+)"), "an address"),
)  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One benchmark.

    Attributes:
        name: what `report` asks for; recording the same name again replaces the entry.
        what: one sentence.
        command: what to type in the repository's root to run it again.
        date: ISO date of the last run in it.
        hardware: CPU model, cores of the machine, threads used, GPU or "none".
        versions: of Python, torch, torchvision, Detectron2 (with its origin), numpy, and our commit.
        settings: everything that was set and is the same for all runs.
        seeds: empty where nothing is drawn.
        runs: raw values, one object a run; see README.md for the keys of each benchmark.
        summary: `summarise(runs)`, never typed.
        note: what a reader must know to judge the numbers.
    """

    name: str
    what: str
    command: str
    date: str
    hardware: Mapping[str, Any]
    versions: Mapping[str, str]
    settings: Mapping[str, Any]
    seeds: Sequence[int]
    runs: Sequence[Run]
    summary: Sequence[Mapping[str, Any]]
    note: str = ""


def make_entry(
    name: str,
    what: str,
    command: str,
    runs: Sequence[Run],
    *,
    settings: Mapping[str, Any],
    seeds: Sequence[int] = (),
    note: str = "",
) -> Entry:
    """An entry of this machine, environment and day; the summary comes from `runs`."""
    from benchmarks.machine import hardware, versions

    runs = [{key: _finite(value) for key, value in run.items()} for run in runs]
    return Entry(
        name, what, command, datetime.date.today().isoformat(), hardware(), versions(), settings, list(seeds),
        runs, summarise(runs), note,
    )  # fmt: skip


def merged(before: Entry | None, new: Sequence[Run], keys: Sequence[str]) -> list[Run]:
    """The runs of an entry with new ones, in the order of `keys`; a run with the same values of them gives way."""
    known = {tuple(run[key] for key in keys): run for run in (*(before.runs if before else ()), *new)}
    return [known[key] for key in sorted(known)]


def _finite(value: Any) -> Any:
    """What a run could not measure is null in JSON, which has no nan."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def summarise(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Mean, min, max and standard deviation (n - 1) of every number that was measured twice or more, to seven digits.

    Runs that agree in all their texts and flags are one group; a single run is its own summary and has no line.
    Seeds are not averaged; lists, and what a run could not measure, are left out.
    """
    groups: dict[tuple[tuple[str, Any], ...], list[Run]] = {}
    for run in runs:
        groups.setdefault(tuple((k, v) for k, v in run.items() if isinstance(v, (str, bool))), []).append(run)
    summary = []
    for group, members in groups.items():
        if len(members) == 1:
            continue
        line: dict[str, Any] = {**dict(group), "n": len(members)}
        for key in members[0]:
            values = [run.get(key) for run in members]
            if key != "seed" and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values):
                line[key] = _statistics([float(v) for v in values])  # type: ignore[arg-type]
        summary.append(line)
    return summary


def _statistics(values: Sequence[float]) -> dict[str, float]:
    numbers = {
        "mean": statistics.fmean(values), "min": min(values), "max": max(values), "sd": statistics.stdev(values),
    }  # fmt: skip
    return {key: float(f"{value:.7g}") for key, value in numbers.items()}


def read(path: Path = RESULTS) -> dict[str, Entry]:
    """All entries by name; none where the file is not there yet.

    Raises:
        ValueError: no such file of ours, or an entry that `check` refuses.
    """
    if not path.is_file():
        return {}
    try:
        entries = [Entry(**values) for values in json.loads(path.read_text(encoding="utf-8"))["entries"]]
    except (json.JSONDecodeError, TypeError, KeyError) as error:
        raise ValueError(f"{path}: not a results file as benchmarks/README.md describes it ({error})") from None
    for entry in entries:
        check(entry)
    return {entry.name: entry for entry in entries}


def check(entry: Entry) -> None:
    """Refuses an entry that is incomplete, has a summary of other runs, or names paths or servers.

    Raises:
        ValueError: names entry, value and remedy.
    """
    for key in ("name", "what", "command", "date", "hardware", "versions", "runs"):
        if not getattr(entry, key):
            raise ValueError(f"results entry {entry.name!r}: {key} is empty; fill it or leave the entry out")
    if list(entry.summary) != summarise(entry.runs):
        raise ValueError(f"results entry {entry.name!r}: the summary is not that of its runs; use make_entry")
    for text in _texts(dataclasses.asdict(entry)):
        for pattern, remedy in _PRIVATE:
            if found := pattern.search(text):
                raise ValueError(f"results entry {entry.name!r}: {found[1]} is {remedy}")


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _texts(key)
            yield from _texts(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _texts(inner)


def record(*entries: Entry, path: Path = RESULTS) -> None:
    """Adds entries, each in the place of an older one of its name; all other entries stay.

    Raises:
        ValueError: an entry that `check` refuses; the file is as before.
    """
    from resnet_backbone.engine.atomic import write_atomically

    # Through JSON and back, so that tuples and lists do not differ between a new entry and a read one.
    new = [Entry(**json.loads(json.dumps(dataclasses.asdict(entry)))) for entry in entries]
    for entry in new:
        check(entry)
    with _locked(path.parent):
        together = {**read(path), **{entry.name: entry for entry in new}}
        content = {"entries": [dataclasses.asdict(together[name]) for name in sorted(together)]}
        text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        write_atomically(path, lambda file: file.write(text.encode()))


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Two benchmarks that end at once both get their entry in; locking the folder leaves no lock file behind."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def main(argv: list[str] | None = None) -> int:
    """Returns 0, or 1 after one sentence on what is wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.record", description=__doc__.split("\n")[0])
    parser.add_argument("other", nargs="*", type=Path, help="results files whose entries to take over")
    arguments = parser.parse_args(argv)
    try:
        for other in arguments.other:
            if not other.is_file():
                raise ValueError(f"{other}: no such file")
            record(*read(other).values())
        print(f"{RESULTS.name}: {', '.join(read()) or 'no entry yet'}")
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
