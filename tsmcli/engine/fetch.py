"""Fetch one file over HTTP or from a folder; an incomplete file is never taken for a complete one.

Bytes go to `<name>.part`; only a complete, verified file gets its name. An interrupted download goes on where it
stopped, by an HTTP range, in this process or in a later one. `fetch` never sleeps: it yields `Waiting`, and its
caller waits.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import httpx
from filelock import FileLock, Timeout

from tsmcli import __version__
from tsmcli.data.archive import check_space, free_bytes
from tsmcli.errors import EnvironmentProblem, WeightsError
from tsmcli.files import sha256

Client = httpx.Client
TRIES = 5  # attempts in a row, at one address, that bring the download no further
SILENCE_SEC = 20.0  # how long a server may be silent in the middle of a file
LARGEST, RESERVE = 8 << 30, 1 << 28  # a reply without a length: at most so many bytes, leaving so many on the disk
_PASSING = {408, 425, 429, 500, 502, 503, 504}


@dataclass(frozen=True)
class Remote:
    """A file to fetch: `urls` (http, https or file) are tried in this order; `path` is where it goes.

    `name` is for people. `sha256_prefix` is the start of its SHA-256, or None if it was not published. `hint`: what
    to do if no address has it.
    """

    name: str
    urls: tuple[str, ...]
    path: Path
    sha256_prefix: str | None = None
    hint: str = ""

    @property
    def part(self) -> Path:
        """Where its bytes are until it is whole."""
        return self.path.with_name(self.path.name + ".part")

    @property
    def there(self) -> Path:
        """The file, or its part if only that exists."""
        return self.part if self.part.exists() and not self.path.exists() else self.path

    @property
    def have(self) -> int:
        """Bytes to go on from; 0 without a known hash, which alone shows whether old and new bytes fit."""
        return self.part.stat().st_size if self.sha256_prefix and self.part.exists() else 0


def is_whole(remote: Remote) -> bool:
    """Whether the file is there, with the right hash if one is known."""
    prefix = remote.sha256_prefix
    return remote.path.is_file() and (prefix is None or sha256(remote.path).startswith(prefix))


@dataclass(frozen=True)
class Receiving:
    """`done` of `total` bytes are there; total is None where the server does not say."""

    name: str
    done: int
    total: int | None


@dataclass(frozen=True)
class Waiting:
    """Nothing will happen for `seconds`, because of `reason`."""

    name: str
    seconds: float
    reason: str


@dataclass(frozen=True)
class Fetched:
    """The file is whole; `cached` where nothing had to be fetched."""

    remote: Remote
    cached: bool


FetchEvent = Receiving | Waiting | Fetched


class _Failure(Exception):
    """An attempt failed. `final`: the address need not be tried again. `wait`: seconds the server asks to wait."""

    def __init__(self, reason: str, *, final: bool = False, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.final, self.wait = final, wait


def open_client() -> Client:
    """A client that follows redirects, asks for uncompressed files, and uses the proxies of the environment.

    Raises:
        EnvironmentProblem: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY or SSL_CERT_FILE cannot be used.
    """
    try:
        return Client(
            follow_redirects=True,
            timeout=httpx.Timeout(SILENCE_SEC, connect=10.0),
            headers={"Accept-Encoding": "identity", "User-Agent": f"tsmcli/{__version__}"},
        )
    except (ValueError, httpx.InvalidURL, OSError, ImportError) as error:
        hint = "see HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY and SSL_CERT_FILE"
        raise EnvironmentProblem(f"the proxy or certificate settings cannot be used: {error}", hint) from None


def size_of(remote: Remote, client: Client) -> int | None:
    """The size of a file in bytes, as the first address that knows it says; None where none does."""
    for url in remote.urls:
        try:
            if url.startswith("file:"):
                return _local(url).stat().st_size
            response = client.head(url, timeout=5.0)
            if response.is_success and "content-length" in response.headers:
                return int(response.headers["content-length"])
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError):
            continue  # the download itself will say what is wrong
    return None


def fetch(remote: Remote, client: Client) -> Iterator[FetchEvent]:
    """Take a file from the cache if it is whole there, else fetch the missing bytes.

    Only one process at a time fetches a file; the others wait and then find it whole.

    Raises:
        WeightsError: no address has it, or what they have is not the published file.
        EnvironmentProblem: the disk is too small.
        OSError: the file cannot be written.
    """
    remote.path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(remote.path.with_name(f".{remote.path.name}.lock"))
    while not lock.is_locked:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            yield Waiting(remote.name, 0.5, "another process is fetching it")
    try:
        cached = is_whole(remote)
        if not cached:
            yield from _fetch(remote, client)
        yield Fetched(remote, cached)
    finally:
        lock.release()


def _fetch(remote: Remote, client: Client) -> Iterator[FetchEvent]:
    """Try the addresses in turn, each again as long as that makes progress."""
    reasons = []
    for url in remote.urls:
        failures, furthest = 0, remote.have
        while True:
            begin = remote.have
            try:
                yield from _copy(url, remote) if url.startswith("file:") else _receive(url, remote, client)
                _put_in_place(remote, begin)
                return
            except _Failure as error:
                failures = 1 if remote.have > furthest else failures + 1
                furthest = max(furthest, remote.have)
                if error.final or failures == TRIES:
                    often = "" if error.final else f", {TRIES} times in a row"
                    reasons.append(f"\n  {re.sub(r'//[^/]*@', '//', url)}: {error}{often}")  # without a password
                    break
                yield Waiting(remote.name, error.wait or pause(failures), str(error))
    hint = f"the same command goes on from the {remote.have:,} bytes that are there\n" if remote.have else ""
    hint += f"{remote.hint}\n" if remote.hint else ""
    hint += "tsm zoo download --mirror URL takes it from another place, a web server or a folder"
    raise WeightsError(f"{remote.name} cannot be fetched:{''.join(reasons)}", hint)


def _put_in_place(remote: Remote, begin: int) -> None:
    """Give the file its name if it is the published one; what was there before byte `begin` may be of another."""
    digest = sha256(remote.part)
    if not digest.startswith(remote.sha256_prefix or ""):
        remote.part.unlink()
        reason = f"its SHA-256 begins with {digest[:8]}, not {remote.sha256_prefix}"
        raise _Failure(f"not the published file, or cut short: {reason}", final=begin == 0)
    with remote.part.open("rb+") as file:
        os.fsync(file.fileno())
    remote.part.replace(remote.path)


def pause(failures: int) -> float:
    """Seconds to wait after the n-th failure in a row: 0.5, 1, 2, ... up to 30, less up to a half by chance."""
    return min(30.0, 0.5 * 2.0 ** (failures - 1)) * random.uniform(0.5, 1.0)


def _receive(url: str, remote: Remote, client: Client) -> Iterator[Receiving]:
    """Append what the server sends to the `.part` file; returns once all of it is there."""
    begin = remote.have
    try:
        with client.stream("GET", url, headers={"Range": f"bytes={begin}-"} if begin else {}) as response:
            code, headers = response.status_code, response.headers
            if begin and code == 416:
                return  # nothing is missing, or the part is of another file: the hash will tell
            if not response.is_success:
                after = headers.get("retry-after", "")
                wait = int(after) if after.isdecimal() else 0
                reason = f"{code} {response.reason_phrase}" + (f"; it asks to wait {wait} s" if wait else "")
                raise _Failure(reason, final=code not in _PASSING or wait > 300, wait=wait)
            if code != 206:
                begin = 0
            elif not begin or not headers.get("content-range", "").startswith(f"bytes {begin}-"):
                raise _Failure("it answers with another range than was asked for", final=True)
            if headers.get("content-encoding", "identity") != "identity":
                raise _Failure("it sends the file compressed, although that was declined", final=True)
            length = headers.get("content-length")
            if length is None and not remote.sha256_prefix and "transfer-encoding" not in headers:
                raise _Failure("it does not say how long the file is: is it whole?", final=True)
            yield from _append(response.iter_raw(), remote, begin, begin + int(length) if length else None)
    except (httpx.UnsupportedProtocol, httpx.InvalidURL, httpx.TooManyRedirects) as error:
        raise _Failure(str(error), final=True) from None
    except httpx.TransportError as error:
        raise _Failure(str(error) or type(error).__name__) from None


def _copy(url: str, remote: Remote) -> Iterator[Receiving]:
    """The same from a folder."""
    source = _local(url)
    if not source.is_file():
        raise _Failure("no such file", final=True)
    size = source.stat().st_size
    begin = min(remote.have, size)
    with source.open("rb") as file:
        file.seek(begin)
        yield from _append(iter(lambda: file.read(1 << 20), b""), remote, begin, size)


def _append(chunks: Iterator[bytes], remote: Remote, begin: int, total: int | None) -> Iterator[Receiving]:
    """Write chunks from byte `begin` on, each at once, so that a process that is killed loses none."""
    folder = remote.path.parent
    check_space(remote.name, (total or begin) - begin, folder)
    done = begin
    with remote.part.open("ab") as file:
        file.truncate(begin)
        yield Receiving(remote.name, done, total)
        for chunk in chunks:
            if total is None and (done + len(chunk) > LARGEST or free_bytes(folder) < RESERVE):
                file.truncate(0)
                raise _Failure(f"it does not say how long the file is, and sent {done:,} bytes so far", final=True)
            file.write(chunk)
            file.flush()
            done += len(chunk)
            yield Receiving(remote.name, done, total)
    if total is not None and done != total:
        raise _Failure(f"{done:,} of {total:,} bytes came")


def _local(url: str) -> Path:
    return Path(url2pathname(urlsplit(url).path))
