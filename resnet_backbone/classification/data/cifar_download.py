"""CIFAR's archives from the addresses that torchvision knows: verified, into the cache, and nothing in them is run."""

from __future__ import annotations

from pathlib import Path

from resnet_backbone.weights.download import fetch

TORCHVISION = "torchvision://"
NAMES = "CIFAR10", "CIFAR100"
"""Of torchvision's data sets."""
SOURCES = " or ".join(TORCHVISION + name for name in NAMES)


def located(data: str) -> str:
    """`data` as it is, or the path of the archive that torchvision://CIFAR10 or torchvision://CIFAR100 stands for.

    Raises:
        ValueError: as `cifar_archive`.
    """
    return str(cifar_archive(data)) if data.startswith(TORCHVISION) else data


def cifar_archive(source: str) -> Path:
    """The archive of torchvision://CIFAR10 or torchvision://CIFAR100, from the cache where it is there already.

    Only addresses and hashes are torchvision's: its data sets unpickle what they have downloaded.

    Raises:
        ValueError: another name, no connection, too often interrupted, or another file.
    """
    name = source.removeprefix(TORCHVISION)
    if name not in NAMES:
        raise ValueError(f"{source}: --data takes {SOURCES}, or the path of other data")
    import torchvision.datasets

    published = getattr(torchvision.datasets, name)
    return fetch(published.url, md5=published.tgz_md5, name=published.filename)
