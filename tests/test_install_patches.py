"""Each fix of Detectron2 v0.6, one by one: what it is for works with it and fails without it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from resnet_backbone.install import patched, patches

# How today's libraries fail without the fix.
FAILS = {
    "pillow": "AttributeError: .*LINEAR",
    "numpy-build": "AttributeError: .*'int'",
    "numpy-build-annotations": "AttributeError: .*'int'",
    "numpy-voc": "AttributeError: .*'str'",
    "numpy-voc-evaluation": "AttributeError: .*'bool'",
    "numpy-semantic-int": "AttributeError: .*'int'",
    "numpy-semantic-dtype": "AttributeError: .*'float'",
    "numpy-semantic-float": "AttributeError: .*'float'",
    "numpy-masks": "AttributeError: .*'bool'",
    "numpy-masks-keep": "AttributeError: .*'bool'",
    "numpy-visualizer": "AttributeError: .*'bool'",
    "numpy-video": "AttributeError: .*'bool'",
    "resources-import": "ModuleNotFoundError: .*pkg_resources",
    "resources-use": "NameError: .*pkg_resources",
    "caffe2": "ModuleNotFoundError: .*caffe2",
    "fast-coco": "RuntimeError: detectron2._C.InstanceAnnotation needs Detectron2's compiled operators",
    "fast-coco-log": "AssertionError: would call",
    "rotated-nms": "AttributeError: .*nms_rotated",
}


@pytest.fixture(scope="session")
def pristine(pinned_sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked `detectron2` package of v0.6 as it came."""
    return patched.unpack(pinned_sdist, tmp_path_factory.mktemp("pristine")) / "detectron2"


@pytest.fixture(scope="session")
def probed(pristine: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """All probes in one process of its own, which has its own Detectron2."""
    mended = tmp_path_factory.mktemp("mended") / "packages" / "detectron2"
    shutil.copytree(pristine, mended)
    patches.apply_all(mended)
    script = Path(__file__).with_name("install_probes.py")
    result = subprocess.run(
        [sys.executable, str(script), str(mended), str(pristine)],
        env={**os.environ, "PYTHONPATH": str(Path(patches.__file__).parents[2]), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    answers: dict[str, dict[str, str]] = json.loads(result.stdout.splitlines()[-1])
    return answers


@pytest.mark.parametrize("name", [fix.name for fix in (*patches.FIXES, *patches.CLARIFICATIONS)])
def test_the_fix_is_needed_and_enough(name: str, probed: dict[str, dict[str, str]]) -> None:
    assert probed[name]["with"] == "ok"
    assert re.match(FAILS[name], probed[name]["without"])


def test_without_the_stand_in_the_layers_do_not_import(probed: dict[str, dict[str, str]]) -> None:
    assert probed["stand-in"]["with"] == "ok"
    assert probed["stand-in"]["without"].startswith("ImportError")


def test_the_stand_in_names_what_was_used_and_the_remedy(probed: dict[str, dict[str, str]]) -> None:
    assert probed["stand-in"]["use"].startswith("detectron2._C.box_iou_rotated needs")
    assert "--source official" in probed["stand-in"]["use"]


def test_a_file_that_is_not_the_expected_one_is_refused(tmp_path: Path) -> None:
    fix = patches.FIXES[0]
    file = tmp_path / fix.file
    file.parent.mkdir(parents=True)
    file.write_text(2 * f"{fix.old}\n")
    with pytest.raises(patches.PatchError, match=r"transform.py: fix 'pillow' expects .* 1 times and found it 2"):
        patches.apply_fix(tmp_path, fix)
    assert file.read_text() == 2 * f"{fix.old}\n"


def test_fixing_twice_is_refused(pristine: Path, tmp_path: Path) -> None:
    package = tmp_path / "detectron2"
    shutil.copytree(pristine, package)
    patches.apply_all(package)
    with pytest.raises(patches.PatchError, match="found it 0 times"):
        patches.apply_all(package)
