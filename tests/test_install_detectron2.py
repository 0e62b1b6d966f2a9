"""The installer: what it leaves alone, what it refuses, and that what it installs is a normal distribution."""

from __future__ import annotations

import csv
import io
import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from resnet_backbone.install import clients, detectron2, official, patched
from resnet_backbone.install.clients import InstallError

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _this_environment_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError(f"would change the environment of the tests: {arguments}")

    for name in ("install", "uninstall"):
        monkeypatch.setattr(clients, name, refuse)


@pytest.fixture(scope="session")
def wheel(pinned_sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return patched.build_wheel(pinned_sdist, tmp_path_factory.mktemp("wheel"))


def pretend(folder: Path, monkeypatch: pytest.MonkeyPatch, version: str | None, **files: str) -> None:
    """A `detectron2` of our making is the one that Python finds."""
    package = folder / "detectron2"
    package.mkdir()
    (package / "__init__.py").write_text("")
    if version is not None:
        info = folder / f"detectron2-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: detectron2\nVersion: {version}\n")
        for name, text in files.items():
            (info / name.replace("_json", ".json")).write_text(text)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "detectron2", raising=False)


def forbid_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError(f"nothing should be run: {arguments}")

    monkeypatch.setattr(clients, "run", refuse)
    monkeypatch.setattr(clients, "install", refuse)


@pytest.mark.parametrize(
    ("version", "files", "origin"),
    [
        ("0.6", {"INSTALLER": "conda\n"}, "from conda"),
        ("0.6", {"INSTALLER": "pip\n"}, "your own build of its v0.6"),
        ("0.6", {"direct_url_json": '{"vcs_info": {"commit_id": "0123456789"}}'}, "v0.6 at 0123456"),
        (official.VERSION, {}, "built from the official source at 02b5c4e"),
        (patched.VERSION, {}, "v0.6's Python files from the package registry"),
        (None, {}, "a folder on the path without installation"),
    ],
)
def test_what_is_there_is_left_alone_and_named(
    version: str | None,
    files: dict[str, str],
    origin: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pretend(tmp_path, monkeypatch, version, **files)
    forbid_clients(monkeypatch)
    assert detectron2.main([]) == 0
    line = capsys.readouterr().out
    assert origin in line and "(left as it is)" in line and "deformable convolution" in line


def test_compiled_operators_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(tmp_path, monkeypatch, "0.6")
    (tmp_path / "detectron2" / "_C.cpython-312-x86_64-linux-gnu.so").touch()
    present = detectron2.installed()
    assert present is not None and present.compiled and str(present).endswith("with compiled operators")


def test_the_main_branch_is_told_from_v06(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(tmp_path, monkeypatch, "0.6")
    (tmp_path / "detectron2" / "tracking").mkdir()
    present = detectron2.installed()
    assert present is not None and "main branch" in present.origin


def test_a_folder_of_that_name_is_no_installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "detectron2" / "configs").mkdir(parents=True)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "detectron2", raising=False)
    assert detectron2.installed() is None
    assert detectron2.main(["--check"]) == 1


def test_an_older_one_of_ours_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(tmp_path, monkeypatch, f"{patched.VERSION_PREFIX}0")
    present = detectron2.installed()
    assert present is not None and present.outdated
    asked: list[str] = []

    def download(folder: Path) -> Path:
        asked.append("download")
        raise InstallError("no network in this test")

    monkeypatch.setattr(detectron2, "download_sdist", download)
    with pytest.raises(InstallError, match="no network"):
        detectron2.install(source="registry")
    assert asked == ["download"]


def test_a_tampered_source_is_refused(pinned_sdist: Path, tmp_path: Path) -> None:
    tampered = tmp_path / pinned_sdist.name
    tampered.write_bytes(pinned_sdist.read_bytes()[:-1] + b"x")
    with pytest.raises(InstallError, match=rf"sha256 \w+ instead of {patched.SDIST_SHA256}.*Delete it"):
        patched.build_wheel(tampered, tmp_path)
    assert not list(tmp_path.glob("*.whl"))


def test_pip_is_told_the_hash_before_it_runs_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(clients, "run", lambda command, what: commands.append(command))
    with pytest.raises(StopIteration):  # nothing was downloaded
        patched.download_sdist(tmp_path)
    assert "--require-hashes" in commands[0]
    assert f"--hash=sha256:{patched.SDIST_SHA256}" in (tmp_path / "sdist.txt").read_text()


def test_the_wheel_is_complete_and_reproducible(wheel: Path, pinned_sdist: Path, tmp_path: Path) -> None:
    assert patched.build_wheel(pinned_sdist, tmp_path).read_bytes() == wheel.read_bytes()
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        info = f"detectron2-{patched.VERSION}.dist-info"
        record = {row[0]: row for row in csv.reader(io.StringIO(archive.read(f"{info}/RECORD").decode()))}
        assert set(record) == names
        for name, row in record.items():
            if not name.endswith("RECORD"):
                assert int(row[2]) == len(archive.read(name))
        metadata = archive.read(f"{info}/METADATA").decode()
    assert f"Version: {patched.VERSION}\n" in metadata and "Requires-Dist: fvcore" in metadata
    with tarfile.open(pinned_sdist) as source:
        zoo = {m.name.split("/", 1)[1] for m in source if "/model_zoo/configs/" in m.name and m.isfile()}
    assert len(zoo) > 100 and zoo <= names
    assert {"detectron2/_C.py", "detectron2/projects/point_rend/__init__.py", f"{info}/licenses/LICENSE"} <= names


def test_pip_lists_it_and_removes_it(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    own = clients.pip_command()
    command = [*(own[: own.index("--python")] if "--python" in own else own), "--python", str(python)]

    def run(*arguments: str) -> str:
        return subprocess.run([*command, *arguments], check=True, capture_output=True, text=True).stdout

    run("install", "-q", "--no-index", "--no-deps", str(wheel))
    assert f"detectron2 {patched.VERSION}" in " ".join(run("list").split())
    site = next((tmp_path / "venv").glob("lib/python*/site-packages"))
    assert (site / "detectron2" / "model_zoo" / "configs" / "Base-RCNN-FPN.yaml").is_file()
    run("uninstall", "-q", "-y", "detectron2")
    assert not (site / "detectron2").exists()


def test_it_runs_as_a_file_without_importing_the_package(tmp_path: Path) -> None:
    script = ROOT / "resnet_backbone" / "install" / "detectron2.py"
    trap = tmp_path / "torch"
    trap.mkdir()
    (trap / "__init__.py").write_text("raise SystemExit('torch was imported')")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    result = subprocess.run(
        [sys.executable, str(script), "--check"],
        env={**os.environ, "PYTHONPATH": path}, cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    there = detectron2.installed()
    expected = str(there) if there else "Detectron2 is not installed"
    assert result.stdout.startswith(expected), result.stderr
    assert result.returncode == (0 if there else 1)


def test_a_wheelhouse_without_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detectron2, "installed", lambda: None)
    with pytest.raises(InstallError, match=r"no detectron2-\*.whl there; make the folder with `make wheelhouse`"):
        detectron2.install(wheelhouse=tmp_path)


def test_a_wheelhouse_is_the_only_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []
    answers = iter([None, detectron2.Installed("0.6", "test", compiled=False)])
    monkeypatch.setattr(detectron2, "installed", lambda: next(answers))
    monkeypatch.setattr(clients, "run", lambda command, what: commands.append(command))
    (tmp_path / f"detectron2-{patched.VERSION}-py3-none-any.whl").touch()
    detectron2.install(wheelhouse=tmp_path)
    options = ["--no-index", "--find-links", str(tmp_path), "detectron2"]
    assert commands[0][-4:] == options and commands[1][-1] == detectron2.FIRST_STEPS


def test_an_unreachable_official_source_gives_way_to_the_registry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(official, "REPOSITORY", str(tmp_path / "nowhere"))
    monkeypatch.setattr(official, "check_tools", lambda: None)
    assert not detectron2._from_official(must=False)
    assert "nowhere cannot be reached); taking the registry's Python files" in capsys.readouterr().out
    with pytest.raises(InstallError, match="cannot be reached"):
        detectron2._from_official(must=True)


def test_a_build_that_does_not_import_is_removed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    removed: list[str] = []

    def run(command: list[str], what: str) -> None:
        raise InstallError(f"{what}: undefined symbol")

    monkeypatch.setattr(official, "build_and_install", lambda: None)
    monkeypatch.setattr(clients, "run", run)
    monkeypatch.setattr(clients, "uninstall", removed.append)
    assert not detectron2._from_official(must=False)
    assert removed == ["detectron2"]


def test_what_a_build_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(InstallError, match="it needs no-such-compiler"):
        official.check_tools()


def test_the_official_source_is_fetched_at_its_commit_and_mended(
    pinned_sdist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = patched.unpack(pinned_sdist, tmp_path)

    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
        command = ["git", "-C", str(root), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    git("add", "detectron2/model_zoo/model_zoo.py")
    git("commit", "-q", "-m", "first")
    monkeypatch.setattr(official, "REPOSITORY", str(root))
    monkeypatch.setattr(official, "COMMIT", git("rev-parse", "HEAD"))
    git("commit", "-q", "--allow-empty", "-m", "second")
    (tmp_path / "fetched").mkdir()
    source = official.fetch(tmp_path / "fetched")
    assert "pkg_resources" not in (source / "detectron2" / "model_zoo" / "model_zoo.py").read_text()


def test_a_client_that_fails_says_why_in_one_sentence() -> None:
    script = "import sys; sys.exit('noise\\nERROR: no such version\\nhint: more')"
    with pytest.raises(InstallError, match=r"^cannot do it: ERROR: no such version$"):
        clients.run([sys.executable, "-c", script], "cannot do it")
