"""Shards of made-up samples, written without our writer, and a web server that fails as told."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

from made_ilsvrc import tar_of

CLASSES = ("ant", "bee", "cat")
COUNTS = (5, 9, 1, 7, 8, 11, 6)


def sample(number: int) -> tuple[str, bytes, int]:
    """Name, image and label; nothing decodes these images."""
    return f"s{number:04}", b"image %d " % number * (number % 40 + 1), number % len(CLASSES)


def write_shards(folder: Path, counts: tuple[int, ...] = COUNTS) -> dict[str, tuple[bytes, int]]:
    """Shards of so many samples each with an index; returns what is in them by name."""
    folder.mkdir(parents=True, exist_ok=True)
    index, number, samples = [], 0, {}
    for k, count in enumerate(counts):
        files = {}
        for _ in range(count):
            name, data, label = sample(number)
            files |= {f"{name}.cls": str(label).encode(), f"{name}.jpg": data}
            samples[name] = (data, label)
            number += 1
        path = folder / f"{k:06}.tar"
        path.write_bytes(tar_of(files))
        index.append({"url": path.name, "nsamples": count, "filesize": path.stat().st_size})
    write_index(folder, index)
    return samples


def write_index(folder: Path, shards: list[dict[str, object]], **more: object) -> None:
    """WebDataset's own index with the classes."""
    made = {"__kind__": "wids-shard-index-v1", "wids_version": 1, "shardlist": shards, "classes": CLASSES, **more}
    (folder / "index.json").write_text(json.dumps(made))


@dataclass
class Server:
    """What a server does, and what it was asked for: paths with the range.

    Attributes:
        drops: answers yet to be broken off in their middle.
        ranges: whether it knows ranges.
        errors: codes of the next answers.
        stated: whether it says the length and a version of a file.
        changing: whether the version is another one with each answer.
    """

    folder: Path
    url: str = ""
    drops: int = 0
    ranges: bool = True
    errors: list[int] = field(default_factory=list)
    stated: bool = True
    changing: bool = False
    asked: list[tuple[str, str | None]] = field(default_factory=list)


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """A web server of a folder on this machine."""
    server = Server(folder)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            wanted = self.headers.get("Range")
            server.asked.append((self.path, wanted))
            path = server.folder / unquote(self.path[1:])
            if server.errors or not path.is_file():
                self.send_error(server.errors.pop(0) if server.errors else 404)
                return
            start = int(wanted[6:-1]) if wanted and server.ranges else 0
            body = path.read_bytes()[start:]
            self.send_response(206 if start else 200)
            if server.stated:
                self.send_header("Content-Length", str(len(body)))
                self.send_header("ETag", f'"{len(server.asked) if server.changing else 0}"')
            self.end_headers()
            if server.drops:
                server.drops -= 1
                body = body[: len(body) // 2]
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        server.url = f"http://127.0.0.1:{httpd.server_port}"
        yield server
        httpd.shutdown()
