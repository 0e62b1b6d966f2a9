"""torchvision:// and timm:// for Detectron2's own checkpointer."""

from __future__ import annotations

import hashlib
from typing import Any

from detectron2.utils.file_io import PathManager
from iopath.common.file_io import PathHandler

from resnet_backbone.cache import cache_folder
from resnet_backbone.weights.files import write_weights
from resnet_backbone.weights.load import read_source


class WeightsHandler(PathHandler):  # type: ignore[misc]
    """Gives the stock checkpointer a file in Detectron2's names, converted once into the cache."""

    def _get_supported_prefixes(self) -> list[str]:
        return ["torchvision://", "timm://"]

    def _get_local_path(self, path: str, force: bool = False, **_: Any) -> str:
        source = read_source(path)
        key = hashlib.sha256(f"{path} {source.record.sha256}".encode()).hexdigest()[:12]
        target = cache_folder() / "converted" / f"{path.split('://')[1].replace('/', '-')}-{key}.pth"
        if not target.is_file():
            write_weights(target, {name: t.float() for name, t in source.state.items()}, source.record)
        return str(target)

    def _open(self, path: str, mode: str = "r", buffering: int = -1, **_: Any) -> Any:
        return open(self._get_local_path(path), mode, buffering)

    def _isfile(self, path: str, **_: Any) -> bool:
        return True

    def _exists(self, path: str, **_: Any) -> bool:
        return True


def register_handlers() -> None:
    """Registers the handler in Detectron2's PathManager; a second call changes nothing."""
    if not any(type(handler).__name__ == WeightsHandler.__name__ for handler in PathManager._path_handlers.values()):
        PathManager.register_handler(WeightsHandler(), allow_override=True)
