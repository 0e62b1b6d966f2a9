"""The doctor on a whole machine, and with one thing at a time taken away."""

from __future__ import annotations

import importlib
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from resnet_backbone.install import detectron2, doctor
from resnet_backbone.install.doctor import Finding

NO_CUDA = SimpleNamespace(is_available=lambda: False)
OLD_TORCH = SimpleNamespace(__version__="2.9.1", version=SimpleNamespace(cuda=None), cuda=NO_CUDA)
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def healthy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """A machine on which everything is there; tests take things away from `healthy`."""
    torch = SimpleNamespace(
        __version__="2.11.0+cpu",
        version=SimpleNamespace(cuda=None),
        cuda=NO_CUDA,
        zeros=lambda *shape: shape,
    )
    modules: dict[str, Any] = {
        "torch": torch,
        "torchvision": SimpleNamespace(__version__="0.26.0"),
        "torchvision.ops": SimpleNamespace(nms=lambda *arguments: None),
    }

    def load(name: str) -> Any:
        module = modules.get(name, SimpleNamespace(__version__="1.0"))
        if isinstance(module, Exception):
            raise module
        return module

    monkeypatch.setattr(doctor, "load", load)
    monkeypatch.setattr(doctor, "_has_gpu", lambda: False)
    monkeypatch.setattr(detectron2, "installed", lambda: detectron2.Installed("0.6", "from conda", compiled=True))
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: Usage(100e9, 10e9, 90e9))
    monkeypatch.setattr(doctor, "SHARED_MEMORY", tmp_path)
    monkeypatch.delenv("DETECTRON2_DATASETS", raising=False)
    monkeypatch.delenv("RESNET_BACKBONE_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    return modules


def wrong(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.remedy]


def test_a_whole_machine_can_train(healthy: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.main() == 0
    printed = capsys.readouterr().out
    assert printed.endswith("Training can start.\n") and "remedy" not in printed


@pytest.mark.parametrize(
    ("module", "failure", "name", "remedy"),
    [
        ("torch", ImportError("No module named 'torch'"), "torch", "pip install 'torch>=2.11'"),
        ("torch", OLD_TORCH, "torch", "pip install 'torch>=2.11'"),
        ("torchvision", SimpleNamespace(__version__="0.20.0a0"), "torchvision", "torchvision of the same date"),
        ("torchvision.ops", RuntimeError("operator nms does not exist"), "torchvision", "in one go: pip install"),
        ("cv2", ImportError("libGL.so.1: cannot open"), "opencv-python", "opencv-python-headless"),
        ("pycocotools.mask", ImportError("gone"), "pycocotools", "pip install pycocotools"),
        ("detectron2.model_zoo", ImportError("No module named 'pkg_resources'"), "Detectron2", "setuptools<82"),
        ("detectron2.engine", ImportError("gone"), "Detectron2", "pip uninstall detectron2"),
    ],
)
def test_what_is_broken_stops_training_and_has_a_remedy(
    module: str, failure: Any, name: str, remedy: str, healthy: dict[str, Any]
) -> None:
    healthy[module] = failure
    stopping = [finding for finding in doctor.diagnose() if finding.stops]
    assert name in {finding.name for finding in stopping}
    assert any(remedy in finding.remedy for finding in stopping)
    assert doctor.main() == 1


def test_without_detectron2(healthy: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detectron2, "installed", lambda: None)
    (finding,) = wrong(doctor.diagnose())
    assert finding.stops and finding.remedy == "python -m resnet_backbone.install.detectron2"


def test_without_compiled_operators_training_starts_and_what_is_missing_is_said(
    healthy: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detectron2, "installed", lambda: detectron2.Installed("0.6", "ours", compiled=False))
    findings = doctor.diagnose()
    assert not wrong(findings)
    assert any("deformable convolution" in finding.value for finding in findings)


def test_a_gpu_that_torch_cannot_use(healthy: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_has_gpu", lambda: True)
    (finding,) = wrong(doctor.diagnose())
    assert "built without CUDA" in finding.value and not finding.stops
    healthy["torch"].version.cuda = "13.2"
    (finding,) = wrong(doctor.diagnose())
    assert "NVIDIA driver" in finding.remedy


def test_gpus_are_listed(healthy: dict[str, Any]) -> None:
    gpu = SimpleNamespace(name="Some GPU", total_memory=80e9)
    healthy["torch"].version.cuda = "13.2"
    healthy["torch"].cuda = SimpleNamespace(
        is_available=lambda: True, device_count=lambda: 2, get_device_properties=lambda index: gpu
    )
    assert any("2 GPU(s): Some GPU (80 GB), Some GPU (80 GB)" in f.value for f in doctor.diagnose())


@pytest.mark.parametrize(
    ("free", "stops", "remedies"), [(0.5e9, True, ["make room", "--shm-size=8g"]), (5e9, False, ["OUTPUT_DIR"])]
)
def test_little_room(
    free: float, stops: bool, remedies: list[str], healthy: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: Usage(100e9, 100e9 - free, free))
    found = wrong(doctor.diagnose())
    assert len(found) == len(remedies)
    assert all(remedy in finding.remedy for remedy, finding in zip(remedies, found))
    assert any(finding.stops for finding in found) == stops


def test_data_roots(healthy: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "data" / "coco").mkdir(parents=True)
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "data"))
    monkeypatch.setenv("RESNET_BACKBONE_DATA", str(tmp_path / "nowhere"))
    findings = doctor.diagnose()
    assert any(finding.name == "Data" and finding.value.endswith("data: coco") for finding in findings)
    (finding,) = wrong(findings)
    assert finding.remedy == "correct or unset RESNET_BACKBONE_DATA" and not finding.stops


def test_lines_are_aligned() -> None:
    text = doctor.report([Finding("a", "1"), Finding("longer", "2", "do it", stops=True)])
    assert text.splitlines() == [
        "ok     a       1",
        "wrong  longer  2",
        "               remedy: do it",
        "",
        "Training cannot start: longer.",
    ]


def test_the_real_machine_is_described() -> None:
    names = [finding.name for finding in doctor.diagnose()]
    assert names[:3] == ["Python", "Machine", "torch"] and "Disk" in names
    assert importlib.import_module("torch").__version__ in doctor.report(doctor.diagnose())
