"""From ILSVRC2012's original tar files to class folders, once: images are copied bit for bit, or made smaller."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tarfile import TarFile, TarInfo
from typing import IO

from resnet_backbone.classification.data.archives import content_of, files_of, opened
from resnet_backbone.classification.prepare.shrinking import TOGETHER, Shrink
from resnet_backbone.engine.atomic import write_atomically
from resnet_backbone.engine.progress import Progress

SUFFIXES = (".jpeg", ".jpg")


@dataclass
class Done:
    """Counts of a split, and the images that do not decode (they are copied as they are)."""

    images: int = 0
    classes: int = 0
    unread: list[str] = field(default_factory=list)


def class_tars(archive: TarFile, where: Path) -> list[TarInfo]:
    """The tar files in the archive of the training images, one a class."""
    members = [member for member in files_of(archive, where) if member.name.endswith(".tar")]
    if not members:
        raise ValueError(f"{where}: holds no tar files, one a class, as ILSVRC2012_img_train.tar does")
    return members


def images_of(archive: TarFile, where: Path | str) -> list[TarInfo]:
    """The images in an archive."""
    members = [member for member in files_of(archive, where) if member.name.lower().endswith(SUFFIXES)]
    if not members:
        raise ValueError(f"{where} holds no images; get the archive again")
    return members


def synsets_of(names: Iterable[str], truth: Mapping[str, str] | list[str], where: Path) -> dict[str, str]:
    """The synset that the truth names for each validation image, in the order of the sorted file names."""
    ordered = sorted(names)
    if len(ordered) != len(truth):
        raise ValueError(f"{where}: {len(ordered):,} images, but the truth is of {len(truth):,}")
    if isinstance(truth, list):
        return dict(zip(ordered, truth))
    unknown = next((name for name in ordered if Path(name).stem not in truth), None)
    if unknown is not None:
        raise ValueError(f"{where}: {unknown} is not in the truth")
    return {name: truth[Path(name).stem] for name in ordered}


def extract_train(path: Path, output: Path, shrink: Shrink) -> Done:
    """One folder a class, each there whole or not at all."""
    done = Done()
    with opened(path) as outer:
        members = class_tars(outer, path)
        progress = Progress(len(members), "train, classes")
        for member in members:
            folder = output / Path(member.name).stem
            if not folder.is_dir():
                stream = outer.extractfile(member)
                assert stream is not None
                done.unread += _class(stream, f"{path}: {member.name}", folder, shrink)
            done.images += sum(1 for _ in folder.iterdir())
            done.classes += 1
            progress.step(images=f"{done.images}")
    return done


def _class(stream: IO[bytes], where: str, folder: Path, shrink: Shrink) -> list[str]:
    """Extracts one class's tar beside `folder`, which it then becomes; returns the images that do not decode."""
    half = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir(parents=True)
    unread = []
    with opened(where, stream) as inner:
        members = images_of(inner, where)
        contents = (content_of(inner, member, where) for member in members)
        for member, (content, read) in zip(members, shrink(contents), strict=True):
            name = Path(member.name).name  # only the name: an archive cannot say where a file goes
            (half / name).write_bytes(content)
            unread += [] if read else [name]
    half.rename(folder)
    return unread


def extract_val(path: Path, synsets: Mapping[str, str] | list[str], output: Path, shrink: Shrink) -> Done:
    """Validation images by the synset that the truth names."""
    done = Done()
    with opened(path) as archive:
        members = {Path(member.name).name: member for member in images_of(archive, path)}
        files = {name: output / synset / name for name, synset in synsets_of(members, synsets, path).items()}
        names = list(files)
        progress = Progress(len(names), "val, images")
        for start in range(0, len(names), TOGETHER):
            some = names[start : start + TOGETHER]
            missing = [name for name in some if not files[name].is_file()]
            contents = (content_of(archive, members[name], path) for name in missing)
            for name, (content, read) in zip(missing, shrink(contents), strict=True):
                write_atomically(files[name], lambda stream, content=content: stream.write(content))  # type: ignore[misc]
                done.unread += [] if read else [name]
            for _ in some:
                progress.step()
    done.images = len(names)
    done.classes = len({file.parent for file in files.values()})
    return done
