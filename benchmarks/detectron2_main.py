"""The test suite against Detectron2's main branch: its Python files, with those of our fixes that it still needs.

python -m benchmarks.detectron2_main CHECKOUT --commit ID      # a git checkout of Detectron2, which is not changed
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.record import make_entry
from benchmarks.record import record as put
from resnet_backbone.install.patches import CLARIFICATIONS, FIXES, STAND_IN, PatchError, apply_fix


def mended(checkout: Path, folder: Path) -> list[str]:
    """Copies the package into `folder`; returns the names of the fixes that it took."""
    package = folder / "detectron2"
    shutil.copytree(checkout / "detectron2", package)
    shutil.copytree(checkout / "configs", package / "model_zoo" / "configs")
    taken = []
    for fix in (*FIXES, *CLARIFICATIONS):
        if fix.name == "caffe2":
            continue  # main guards that import itself
        try:
            apply_fix(package, fix)
        except PatchError:
            continue  # main has mended it, or changed the place
        taken.append(fix.name)
    (package / "_C.py").write_text(STAND_IN, encoding="utf-8")
    return taken


def main() -> None:
    """Runs pytest with main's files in front of the installed Detectron2, and records the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--commit", required=True, help="of the checkout, for the record")
    arguments, rest = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder:
        taken = mended(arguments.checkout, Path(folder))
        environment = {**os.environ, "PYTHONPATH": folder}
        words = [sys.executable, "-m", "pytest", "-q", *rest]
        process = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
        process.wait()
    counts = {what: int(n) for n, what in re.findall(r"(\d+) (passed|failed|skipped|error)", lines[-1])}
    run = {"commit": arguments.commit, **{what: counts.get(what, 0) for what in ("passed", "failed", "skipped")}}
    put(make_entry(
        "detectron2-main", "The test suite with Detectron2's main branch in place of v0.6",
        f"python -m benchmarks.detectron2_main CHECKOUT --commit {arguments.commit} {' '.join(rest)}".strip(), [run],
        settings={"fixes": taken}, note=f"Python files without compiled operators; of our fixes for v0.6 it still "
        f"needs or takes {', '.join(taken) or 'none'}.",
    ))  # fmt: skip


if __name__ == "__main__":
    main()
