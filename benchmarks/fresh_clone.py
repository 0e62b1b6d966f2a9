"""The README's commands in a fresh clone without an environment: how long they take, the first time and the second.

python -m benchmarks.fresh_clone DIR      # DIR must not be there; the clone is left in it
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.machine import ROOT, data_folder, versions
from benchmarks.record import make_entry
from benchmarks.record import record as put

STEPS = (
    ("make demo", ["make", "demo"], "fresh clone, no environment"),
    ("make test", ["make", "test"], "environment there"),
    ("make demo, until its first words", ["make", "demo", "ARGS=--help"], "everything there"),
)


def main() -> None:
    """Clones, runs the steps in order, and records their times; stops at the first that fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    versions()  # of the commit that is cloned
    subprocess.run(["git", "clone", "-q", str(ROOT), str(folder)], check=True)
    environment = {**os.environ, "RESNET_BACKBONE_DATA": str(data_folder().resolve())}
    for name in ("VIRTUAL_ENV", "PYTHONPATH", "OMP_NUM_THREADS"):
        environment.pop(name, None)
    runs = []
    for step, words, state in STEPS:
        began = time.monotonic()
        code = subprocess.run(words, cwd=folder, env=environment).returncode
        runs.append({"step": step, "seconds": round(time.monotonic() - began, 1), "state": state})
        print(f"== {step}: {runs[-1]['seconds']} s, exit code {code}", flush=True)
        if code:
            sys.exit(code)
    put(make_entry(
        "setup", "The README's commands in a fresh clone.", "python -m benchmarks.fresh_clone DIR", runs, settings={},
        note="The package registry's files were in uv's cache: a first download of torch comes on top.",
    ))  # fmt: skip


if __name__ == "__main__":
    main()
