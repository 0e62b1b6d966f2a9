"""Where tests find real data, and what happens when they do not."""

from __future__ import annotations

import logging
import os
import random
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

DATA = Path(os.environ.get("RESNET_BACKBONE_DATA", Path(__file__).parents[2] / "shared" / "data"))
NOT_FOUND = f"real data not found: no folder {DATA} (set RESNET_BACKBONE_DATA)"


@pytest.fixture
def real_data() -> Path:
    """The folder of real images and weights; skips, with the reason, where it is not."""
    if not DATA.is_dir():
        pytest.skip(NOT_FOUND)
    return DATA


@pytest.fixture(scope="session")
def pinned_sdist() -> Path:
    """Detectron2 v0.6's source out of the package registry, fetched once; skips where there is no registry."""
    # Imported here: torch and Detectron2 take seconds, in which the tests would not say that they have begun.
    from resnet_backbone.install import patched
    from resnet_backbone.install.clients import InstallError

    folder = Path(__file__).parents[1] / ".cache" / "detectron2"
    folder.mkdir(parents=True, exist_ok=True)
    found = next(folder.glob("*.tar.gz"), None)
    if found:
        return found
    with tempfile.TemporaryDirectory(dir=folder) as unfinished:  # what was cut off would be taken for whole
        try:
            fetched = patched.download_sdist(Path(unfinished))
        except InstallError as error:
            pytest.skip(str(error))
        return fetched.replace(folder / fetched.name)


@pytest.fixture(scope="session")
def built_decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder with the decoder of parts of JPEGs; skips without a compiler and headers."""
    from resnet_backbone.images.build_region import build

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RESNET_BACKBONE_CACHE", str(tmp_path_factory.mktemp("decoder")))
        try:
            return build().parent
        except ValueError as error:
            if "wrong pixels" in str(error):  # nothing that a test may skip over
                raise
            pytest.skip(f"the decoder is not built here: {error}")


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """A folder in VOC's layout, of ten images of a cat each, without split files."""
    from made_pets import write_voc

    return write_voc(tmp_path / "pets")


@pytest.fixture
def coco(tmp_path: Path) -> Callable[..., Path]:
    """Writes a COCO data set of four images, changed as asked for, and returns its folder."""
    from made_pets import write_coco

    return partial(write_coco, tmp_path)


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Class folders of two classes of 16 images to train on and 6 to validate on."""
    from made_pretraining import write_stripes

    return write_stripes(tmp_path / "data")


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a tiny detector with random weights."""
    from made_predictions import write_run

    return write_run(tmp_path_factory.mktemp("runs") / "tiny")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Photographs of several kinds, one broken."""
    from made_predictions import write_photos

    return write_photos(tmp_path / "photos")


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As torchrun sets it: sums have other last bits on two."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def archives(tmp_path: Path) -> Path:
    """A folder with ILSVRC2012's archives in miniature."""
    from made_ilsvrc import write_archives

    return write_archives(tmp_path)


@pytest.fixture(autouse=True)
def _seed() -> None:
    import torch

    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RESNET_BACKBONE_CACHE", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    """What `set_up_logs` and Detectron2's `setup_logger` change is the whole process's."""
    yield
    logging.captureWarnings(False)
    for name in ("resnet_backbone", "detectron2", "fvcore", "py.warnings"):
        logger = logging.getLogger(name)
        for handler in list(logger.handlers):
            logger.removeHandler(handler)
            handler.close()
        logger.propagate = True
