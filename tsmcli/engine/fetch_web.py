"""The HTTP client, and what a server's refusal means for a download: wait and try again, or look elsewhere."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import httpx

from tsmcli import __version__
from tsmcli.errors import EnvironmentProblem

Client = httpx.Client

CONNECT_SEC = 10.0
SILENCE_SEC = 20.0
"""How long a connection may take, and how long a server may be silent in the middle of a file."""
_PASSING = {408, 425, 429, 500, 502, 503, 504}
_LONGEST_WAIT_SEC = 300.0


def open_client() -> httpx.Client:
    """A client that follows redirects, asks for files as they are, and uses the proxies of the environment.

    Raises:
        EnvironmentProblem: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY or SSL_CERT_FILE cannot be used.
    """
    try:
        return httpx.Client(
            follow_redirects=True,
            timeout=httpx.Timeout(SILENCE_SEC, connect=CONNECT_SEC),
            headers={"Accept-Encoding": "identity", "User-Agent": f"tsmcli/{__version__}"},
        )
    except (ValueError, httpx.InvalidURL, OSError, ImportError) as error:
        raise EnvironmentProblem(
            f"the proxy or certificate settings of the environment cannot be used: {error}",
            hint="see HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY and SSL_CERT_FILE",
        ) from None


class Unusable(Exception):
    """An address will not give the file; `silent` where its host does not even answer."""

    def __init__(self, reason: str, *, silent: bool = False) -> None:
        super().__init__(reason)
        self.silent = silent


class TryAgain(Exception):
    """An attempt failed for a reason that may pass; `after` is how long the server asks to wait, in seconds."""

    def __init__(self, reason: str, *, after: float | None = None, silent: bool = False) -> None:
        super().__init__(reason)
        self.after = after
        self.silent = silent


def check_status(response: httpx.Response) -> None:
    """Raise TryAgain or Unusable unless the response carries the file's own bytes."""
    if response.is_success:
        if response.headers.get("content-encoding", "identity") != "identity":
            raise Unusable("it sends the file compressed, although that was declined")
        return
    reason = f"{response.status_code} {response.reason_phrase}".strip()
    if response.status_code not in _PASSING:
        raise Unusable(reason)
    after = retry_after(response.headers.get("retry-after", ""))
    if after is not None and after > _LONGEST_WAIT_SEC:
        raise Unusable(f"{reason}; it asks to come back in {after:.0f} seconds")
    raise TryAgain(reason, after=after)


def retry_after(text: str) -> float | None:
    """Seconds that a Retry-After header asks for, whether it is a number or a date; None where it says nothing."""
    if text.isdigit():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None


def shown(url: str) -> str:
    """An address for messages, without the password it may hold."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
