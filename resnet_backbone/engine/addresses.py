"""What of an http address may be shown and kept."""

from __future__ import annotations

import urllib.parse


def without_secrets(source: str) -> str:
    """An http address without user, password and query, which may be keys to it; anything else as it is."""
    if not source.startswith(("http://", "https://")):
        return source
    parts = urllib.parse.urlsplit(source)
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
