"""The house's arrows: who may import whom, read from the source, functions included."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import resnet_backbone

ROOT = Path(resnet_backbone.__file__).parent

ROOMS = {
    "models": set(),
    "images": set(),
    "engine": set(),
    "weights": {"models", "images", "engine"},
    "evaluation": {"images", "engine"},
    "classification": {"models", "images", "weights", "evaluation", "engine"},
    "detection": {"models", "images", "weights", "evaluation", "engine"},
    "install": set(),
    "demo": {"models", "images", "weights", "evaluation", "engine", "classification", "detection"},
}
DETECTRON2 = {"detection"}
STANDARD_LIBRARY_ONLY = {"install"}
TORCH_ALONE = {"models": {"torch"}, "engine": {"torch", "yaml", "tqdm", "numpy", "wandb"}}


def imports(path: Path) -> set[str]:
    """Full dotted names of everything a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return names


FILES = [p for p in sorted(ROOT.rglob("*.py")) if p.parent != ROOT]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_room_imports_only_from_rooms_above_it(path):
    room = path.relative_to(ROOT).parts[0]
    names = imports(path)
    inside = {n.split(".")[1] for n in names if n.startswith("resnet_backbone.")} & set(ROOMS)
    assert inside <= ROOMS[room] | {room}, f"{path} imports {inside - ROOMS[room] - {room}}"
    outside = {n.split(".")[0] for n in names} - {"resnet_backbone"}
    if room not in DETECTRON2:
        assert not outside & {"detectron2", "fvcore", "iopath"}, path
    assert "argparse" not in outside or room == "install"
    if room in STANDARD_LIBRARY_ONLY:
        assert outside <= set(__import__("sys").stdlib_module_names), path
    if room in TORCH_ALONE:
        assert outside <= set(__import__("sys").stdlib_module_names) | TORCH_ALONE[room], path


def test_every_folder_is_a_known_room():
    folders = {p.name for p in ROOT.iterdir() if p.is_dir() and p.name != "__pycache__"}
    assert folders <= set(ROOMS)
