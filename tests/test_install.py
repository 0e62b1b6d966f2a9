"""The Detectron2 installer: its fixes one by one, its hash, and that it leaves an installation alone."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from resnet_backbone.install import detectron2 as installer
from resnet_backbone.install.patches import FIXES, PatchError, apply_fix

PACKAGE = Path(importlib.util.find_spec("detectron2").origin).parent
OURS = installer.installed().version == installer.VERSION
needs_ours = pytest.mark.skipif(not OURS, reason="another Detectron2 than the installer's own is installed")

# Which probe shows which fix; numpy.bool is back since numpy 2, so its fixes are seen in the text alone.
PROBES = {
    "pillow": ["pillow"],
    "numpy_build": ["numpy-build", "numpy-build-annotations"],
    "numpy_voc": ["numpy-voc"],
    "numpy_semantic": ["numpy-semantic-dtype", "numpy-semantic-float"],
    "resources": ["resources-import", "resources-use"],
    "caffe2": ["caffe2"],
    "fast_coco": ["fast-coco"],
}
TEXT_ONLY = {f.name for f in FIXES if "np.bool" in f.old} | {"numpy-semantic-int"}


def probe(parent: Path, name: str) -> subprocess.CompletedProcess:
    script = Path(__file__).with_name("detectron2_probes.py")
    return subprocess.run([sys.executable, str(script), str(parent), name], capture_output=True, text=True)


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    parent = tmp_path_factory.mktemp("site")
    shutil.copytree(PACKAGE, parent / "detectron2")
    return parent


def test_every_fix_has_a_probe():
    assert {name for names in PROBES.values() for name in names} | TEXT_ONLY == {fix.name for fix in FIXES}


@needs_ours
@pytest.mark.parametrize("name", PROBES)
def test_each_fix_is_needed_and_enough(copy, name):
    assert "as it should be" in probe(copy, name).stdout
    fix = next(f for f in FIXES if f.name == PROBES[name][0])
    path = copy / "detectron2" / fix.file
    fixed = path.read_text()
    for each in reversed([f for f in FIXES if f.name in PROBES[name]]):
        text = path.read_text()
        if each.new:
            assert each.new in text
            path.write_text(text.replace(each.new, each.old))
        else:
            path.write_text(each.old + text)
    try:
        done = probe(copy, name)
        assert done.returncode != 0 and "as it should be" not in done.stdout
    finally:
        path.write_text(fixed)


@needs_ours
def test_no_removed_alias_is_left():
    for fix in FIXES:
        if fix.name in TEXT_ONLY:
            text = (PACKAGE / fix.file).read_text()
            assert fix.old not in text and fix.new in text


@needs_ours
def test_compiled_operators_are_named_when_missed(copy):
    assert "as it should be" in probe(copy, "compiled").stdout


def test_a_changed_source_is_refused(tmp_path):
    fix = FIXES[0]
    path = tmp_path / fix.file
    path.parent.mkdir(parents=True)
    path.write_text("interp=Image.LINEAR, other=Image.LINEAR")
    with pytest.raises(PatchError, match="1 times and found it 2 times"):
        apply_fix(tmp_path, fix)
    assert path.read_text().count("Image.LINEAR") == 2


def test_a_tampered_download_is_refused(tmp_path):
    path = tmp_path / "pb1-detectron2-0.6.tar.gz"
    path.write_bytes(b"not the source")
    with pytest.raises(installer.InstallError, match="instead of 5d2e9e51"):
        installer.build_wheel(path, tmp_path)


def test_an_installation_is_left_alone(monkeypatch, capsys):
    monkeypatch.setattr(installer, "install_wheel", lambda _: pytest.fail("installed again"))
    monkeypatch.setattr(installer, "download_sdist", lambda _: pytest.fail("downloaded again"))
    assert installer.main([]) == 0
    assert installer.installed().version in capsys.readouterr().out


def test_empty_wheelhouse_is_one_sentence(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(installer, "installed", lambda: None)
    assert installer.main(["--wheelhouse", str(tmp_path)]) == 1
    assert "no detectron2-*.whl there" in capsys.readouterr().err


def test_runs_as_a_file_without_the_package():
    path = Path(installer.__file__)
    done = subprocess.run([sys.executable, str(path), "--check"], capture_output=True, text=True, cwd="/")
    assert done.returncode == 0 and "Detectron2 " in done.stdout
