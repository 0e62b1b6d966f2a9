"""What goes wrong between us and a server: what it is called, and whether another attempt may help."""

from __future__ import annotations

import http.client
from urllib.error import HTTPError, URLError

TROUBLE = (OSError, http.client.HTTPException)
"""What reading from a server raises. `urllib`'s errors are OSErrors."""


def in_words(error: Exception) -> str:
    """A part of a sentence."""
    if isinstance(error, HTTPError):
        return f"the server says {error.code} {error.reason}"
    if isinstance(error, URLError):
        return f"no connection ({error.reason})"
    return f"the connection dropped ({error})"


def may_pass(error: Exception) -> bool:
    """Whether it may be over soon: not what the server says of the request itself."""
    return not isinstance(error, HTTPError) or error.code >= 500 or error.code in (408, 429)
