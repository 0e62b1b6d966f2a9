"""Downloads into the cache: resumed after a drop, verified before they are used, once for all processes."""

from __future__ import annotations

import fcntl
import hashlib
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from tqdm import tqdm

from resnet_backbone.cache import cache_folder
from resnet_backbone.engine.addresses import without_secrets
from resnet_backbone.engine.http_errors import TROUBLE, in_words, may_pass
from resnet_backbone.weights.errors import WeightsError

ATTEMPTS = 4
CHUNK = 1 << 20
ELSEWHERE = "or download it elsewhere and give its path"
WEB_PAGE = "this is a web page, not weights: the download wants a login or another address"


def fetch(
    url: str, *, sha256_prefix: str | None = None, md5: str | None = None, name: str | None = None, pause: float = 1.0
) -> Path:
    """The file behind `url`, from the cache where it is there already.

    Args:
        sha256_prefix: first digits of the hash that the file must have; `url#sha256=...` says it too.
        md5: the whole one, where its publisher states no other hash.
        name: of the file in the cache; default is `cached_name`.
        pause: seconds before the second attempt, doubled for each further one.

    Raises:
        WeightsError: no such address, no connection, too often interrupted, a web page, or another hash.
    """
    url, _, fragment = url.partition("#sha256=")
    algorithm, wanted = ("md5", md5) if md5 else ("sha256", fragment or sha256_prefix)
    target = cache_folder() / (name or cached_name(url))
    target.parent.mkdir(parents=True, exist_ok=True)
    with (target.parent / f".{target.name}.lock").open("w") as lock:
        # Eight processes of one machine start at once: one downloads, the others wait.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if target.is_file() and _hash_fits(target, algorithm, wanted):
            return target
        part = target.with_name(f"{target.name}.part")
        expected = _download(url, part, pause)
        with part.open("rb") as file:
            page = is_web_page(file.read(512))
        if page:
            part.unlink()
            raise WeightsError(f"{without_secrets(url)}: {WEB_PAGE}; check it in a browser, {ELSEWHERE}")
        if expected is not None and wanted is None and len(expected) == 64:
            wanted = expected
        if not _hash_fits(part, algorithm, wanted):
            found = _hash(part, algorithm)
            part.unlink()
            raise WeightsError(
                f"{without_secrets(url)}: the file has {algorithm} {found[:16]}..., not {wanted}; it was deleted. "
                f"Try again, {ELSEWHERE}"
            )
        os.replace(part, target)
    return target


def cached_name(url: str) -> str:
    """The last part of an address with a digest of all of it: files of one name on two servers are two files."""
    url = url.partition("#sha256=")[0]
    last = Path(urllib.parse.unquote(urllib.parse.urlsplit(url).path)).name[-100:]  # systems take 255 bytes
    digest = hashlib.sha256(url.encode()).hexdigest()[:12]
    return f"{Path(last).stem}-{digest}{Path(last).suffix}"


def is_web_page(data: bytes) -> bool:
    """Whether a file that begins so is one."""
    return data[:512].lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml"))


def _hash(path: Path, algorithm: str) -> str:
    digest = hashlib.new(algorithm, usedforsecurity=False)  # where md5 is forbidden for security
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _hash_fits(path: Path, algorithm: str, prefix: str | None) -> bool:
    return prefix is None or _hash(path, algorithm).startswith(prefix)


def _download(url: str, part: Path, pause: float) -> str | None:
    """Downloads to `part`, going on where an attempt broke off; returns the hash that the server states, if any."""
    problem = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(pause * 2 ** (attempt - 1))
        try:
            return _attempt(url, part)
        except TROUBLE as error:
            problem = in_words(error)
            if isinstance(error, urllib.error.HTTPError) and error.code == 416:
                part.unlink(missing_ok=True)  # it is longer than the file: another version
            elif not may_pass(error):
                raise WeightsError(f"{without_secrets(url)}: {problem}; check the name, {ELSEWHERE}") from None
            elif isinstance(error, OSError) and error.errno == 28:
                raise WeightsError(f"{part}: no space left on the device; free some and run again") from None
    raise WeightsError(f"{without_secrets(url)}: {problem}, {ATTEMPTS} times; check the network, {ELSEWHERE}")


def _attempt(url: str, part: Path) -> str | None:
    start = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "resnet_backbone"})
    if start:
        request.add_header("Range", f"bytes={start}-")
    with urllib.request.urlopen(request, timeout=30) as response:
        resumed = response.status == 206
        length = response.headers.get("Content-Length")
        total = None if length is None else int(length) + (start if resumed else 0)
        with part.open("ab" if resumed else "wb") as file:
            _copy(response, file, part.name.removesuffix(".part"), start if resumed else 0, total)
        done = part.stat().st_size
        if total is not None and done != total:
            raise ConnectionError(f"{done} of {total} bytes")
        etag = response.headers.get("X-Linked-ETag") or ""
        return etag.strip('"') or None


def _copy(response: Any, file: Any, name: str, start: int, total: int | None) -> None:
    terminal = sys.stderr.isatty()
    if not terminal:
        size = f"{total / 2**20:.1f} MiB" if total else "unknown size"
        print(f"downloading {name} ({size}) to {cache_folder()}", file=sys.stderr)
    with tqdm(total=total, initial=start, unit="B", unit_scale=True, desc=name, disable=not terminal) as bar:
        while chunk := response.read(CHUNK):
            file.write(chunk)
            bar.update(len(chunk))
