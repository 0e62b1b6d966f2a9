"""Writes the generated tables of README.md and docs/*.md between their marks.

python -m benchmarks.report          # writes
python -m benchmarks.report --check  # exits 1 where a document is out of date
"""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import classification_tables, detection_tables, photos, recipe_tables, reproduction, tables
from benchmarks.record import RESULTS, read

ROOT = Path(__file__).parents[1]
TABLES = {
    name: table
    for module in (tables, classification_tables, detection_tables, recipe_tables, reproduction, photos)
    for name, table in module.TABLES.items()
}
BEGIN = re.compile(r"<!-- generated: (?P<name>\S+) -->")
END = "<!-- end -->"


def documents(root: Path) -> list[Path]:
    """README.md and docs/*.md."""
    return [path for path in (root / "README.md", *sorted((root / "docs").glob("*.md"))) if path.is_file()]


def render(text: str, entries: tables.Entries, where: str) -> str:
    """`text` with the content of every marked block made anew.

    Args:
        where: the document's name for messages.

    Raises:
        ValueError: a block without end, or of an unknown name.
    """
    lines: list[str] = []
    waiting: str | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        begin = BEGIN.fullmatch(line.strip())
        if begin and waiting:
            raise ValueError(f"{where}:{number}: block {waiting!r} has no {END!r} before the next one begins")
        if begin:
            waiting = begin["name"]
            lines += [line, *_table(waiting, entries, f"{where}:{number}")]
        elif line.strip() == END and waiting:
            waiting = None
        if not begin and not waiting:
            lines.append(line)
    if waiting:
        raise ValueError(f"{where}: block {waiting!r} has no {END!r}")
    return "\n".join(lines) + "\n"


def _table(name: str, entries: tables.Entries, where: str) -> list[str]:
    if name not in TABLES:
        near = difflib.get_close_matches(name, TABLES, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"use one of {', '.join(TABLES)}"
        raise ValueError(f"{where}: no table {name!r}; {hint}")
    try:
        return TABLES[name](entries)
    except KeyError as error:
        raise ValueError(f"{where}: table {name!r} misses {error} in a run; benchmarks/README.md says why") from None


def update(root: Path, results: Path, *, check: bool) -> list[Path]:
    """Documents that are out of date; written anew unless `check`.

    Raises:
        ValueError: a malformed document or results file.
    """
    entries = read(results)
    changed = []
    for path in documents(root):
        before = path.read_text(encoding="utf-8")
        if not BEGIN.search(before):
            continue
        after = render(before, entries, str(path.relative_to(root)))
        if after != before:
            changed.append(path)
            if not check:
                path.write_text(after, encoding="utf-8")
    return changed


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0; 1 where `--check` finds a document out of date, or after one sentence on what is wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 where something is out of date")
    parser.add_argument("--root", type=Path, default=ROOT, help="folder of README.md and docs/ (default: this one)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="default: benchmarks/results.json")
    arguments = parser.parse_args(argv)
    try:
        changed = update(arguments.root, arguments.results, check=arguments.check)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for path in changed:
        name = path.relative_to(arguments.root)
        print(f"{name} is out of date: run python -m benchmarks.report" if arguments.check else f"{name} written")
    return 1 if changed and arguments.check else 0


if __name__ == "__main__":
    sys.exit(main())
