"""What the wheelhouse asks for; `make wheelhouse` itself needs the registry and is run by hand (docs)."""

from __future__ import annotations

from pathlib import Path

import pytest

from resnet_backbone.install import clients, patched, wheelhouse
from resnet_backbone.install.clients import InstallError


def test_it_asks_for_everything_but_torch() -> None:
    wanted = wheelhouse.requirements()
    names = {line.split(">")[0].split("=")[0] for line in wanted}
    assert {"fvcore", "iopath", "yacs", "omegaconf", "hydra-core", "pycocotools", "setuptools"} <= names
    assert not {"torch", "torchvision", "pytest"} & names
    assert any(line.startswith("pytest") for line in wheelhouse.requirements(["dev"]))


def test_uv_platform() -> None:
    assert wheelhouse.uv_platform("manylinux_2_28_x86_64") == "x86_64-manylinux_2_28"
    assert wheelhouse.uv_platform("manylinux2014_aarch64") == "aarch64-manylinux2014"
    with pytest.raises(InstallError, match=r"platform 'linux' is not known; write .* manylinux_2_28_x86_64"):
        wheelhouse.uv_platform("linux")


def test_older_wheels_fit_a_newer_platform() -> None:
    tags = wheelhouse.platform_tags("manylinux_2_28_x86_64")
    assert tags[0] == "manylinux_2_28_x86_64"
    assert {"manylinux_2_17_x86_64", "manylinux2014_x86_64", "manylinux1_x86_64"} <= set(tags)
    assert "manylinux_2_31_x86_64" not in tags
    assert wheelhouse.platform_tags("manylinux2014_aarch64")[0] == "manylinux_2_17_aarch64"


def test_python_is_checked_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for python in ("3.9", "three", "3.12.1"):
        assert wheelhouse.main(["--python", python, "--output", str(tmp_path / "w")]) == 1
        assert f"Python {python!r} is not supported" in capsys.readouterr().err
    assert not (tmp_path / "w").exists()


def test_source_only_packages_are_built_and_the_rest_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(wheelhouse, "resolve", lambda *arguments: ["fvcore==1", "numpy==2"])
    monkeypatch.setattr(clients, "run", lambda command, what: commands.append(command))
    monkeypatch.setattr(patched, "download_sdist", lambda folder: folder)
    monkeypatch.setattr(patched, "build_wheel", lambda sdist, folder: (folder / "detectron2.whl").touch())
    assert wheelhouse.collect("3.12", "manylinux_2_28_x86_64", tmp_path) == [tmp_path / "detectron2.whl"]
    builds = [command for command in commands if "wheel" in command]
    downloads = [command for command in commands if "download" in command]
    assert [command[-1] for command in builds] == ["fvcore==1", str(wheelhouse.ROOT)]
    assert [command[-1] for command in downloads] == ["numpy==2"]
    assert "--only-binary" in downloads[0] and "--no-deps" in downloads[0]
