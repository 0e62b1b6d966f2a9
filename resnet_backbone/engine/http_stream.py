"""A file behind an address, read from front to back without storing it; a dropped connection is taken up again."""

from __future__ import annotations

import io
import string
import time
import urllib.parse
import urllib.request
from typing import Any

from resnet_backbone.engine.http_errors import TROUBLE, in_words, may_pass

ATTEMPTS = 5
TIMEOUT = 30.0
"""Seconds without a byte after which a connection counts as dropped."""
RENEWED = 1 << 20
"""Bytes after which the attempts count from one again."""
CHUNK = 1 << 16


class HttpStream(io.RawIOBase):
    """Bytes of a file at an address. No connection is made before the first are read.

    Where the server knows ranges, a new connection goes on at the byte at which the old one broke; where it does not,
    what was read is read again and dropped.

    Args:
        size: bytes that the file must have, where they are known.
        pause: seconds before the second attempt, doubled for each further one.

    Raises:
        ValueError: a name or password in the address, which is not repeated; when reading, no
            such address, another size, a file that changed, or too often interrupted.
    """

    def __init__(self, url: str, *, size: int | None = None, pause: float = 1.0) -> None:
        super().__init__()
        if "@" in urllib.parse.urlsplit(url).netloc:
            host = urllib.parse.urlsplit(url).netloc.rpartition("@")[2]
            raise ValueError(f"address on {host}: takes no user name and password in it; give one without, or copy it")
        self.url, self._size, self._pause = url, size, pause
        self._position = 0
        self._version: str | None = None
        self._response: Any = None
        self._failures, self._failed_at = 0, 0

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Reads what is there, as `io.RawIOBase` does; 0 at the end of the file."""
        while True:
            try:
                if self._response is None:
                    self._response = self._connect()
                count: int = self._response.readinto(buffer)
                if not count and self._size is not None and self._position < self._size:
                    raise ConnectionError(f"{self._position:,} of {self._size:,} bytes")
                self._position += count
                return count
            except TROUBLE as error:
                self._after(error)

    def close(self) -> None:
        """Ends the connection."""
        self._disconnect()
        super().close()

    def _disconnect(self) -> None:
        if self._response is not None:
            self._response.close()
            self._response = None

    def _connect(self) -> Any:
        """A response of which the next byte is the one at the position."""
        # Blanks and letters of all languages; what is quoted already stays.
        quoted = urllib.parse.quote(self.url, safe=string.punctuation)
        request = urllib.request.Request(quoted, headers={"User-Agent": "resnet_backbone"})
        if self._position:
            request.add_header("Range", f"bytes={self._position}-")
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
        try:
            start = self._position if response.status == 206 else 0
            self._check(response, start)
            while start < self._position:  # a server without ranges
                dropped = len(response.read(min(self._position - start, CHUNK)))
                if not dropped:
                    raise ConnectionError(f"{start:,} bytes, fewer than before")
                start += dropped
        except BaseException:
            response.close()
            raise
        return response

    def _check(self, response: Any, start: int) -> None:
        """That it is the file that was expected and, after a break, still the same one."""
        length = response.headers.get("Content-Length")
        size = self._size if length is None else int(length) + start
        if self._size is not None and size != self._size:
            raise ValueError(f"{self.url}: has {size:,} bytes, but must have {self._size:,}; put the right file there")
        version = response.headers.get("ETag") or response.headers.get("Last-Modified")
        if self._position and version != self._version:
            raise ValueError(f"{self.url}: was changed while it was read, at byte {self._position:,}; start again")
        self._size, self._version = size, version

    def _after(self, error: Exception) -> None:
        """Waits for another attempt.

        Raises:
            ValueError: there were enough, or another is of no use.
        """
        self._disconnect()
        if self._position - self._failed_at >= RENEWED:
            self._failures = 0
        self._failures, self._failed_at = self._failures + 1, self._position
        said = f"{self.url}: at byte {self._position:,} {in_words(error)}"
        if not may_pass(error):
            raise ValueError(f"{said}; check the address and the rights to it") from None
        if self._failures == ATTEMPTS:
            raise ValueError(f"{said}, {ATTEMPTS} times; check the network and the server, then go on") from None
        time.sleep(self._pause * 2 ** (self._failures - 1))
