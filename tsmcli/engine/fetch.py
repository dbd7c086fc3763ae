"""Fetch one file over HTTP or from a folder, so that nothing half-done is ever taken for whole.

Bytes go to `<name>.part`; only a complete, verified file gets its name. An interrupted download goes on where it
stopped, by an HTTP range, in this process or in a later one. `fetch` never sleeps: it yields `Waiting`, and whoever
drives it does the waiting.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import httpx
from filelock import FileLock, Timeout

from tsmcli.engine.fetch_remote import Remote, has_prefix, is_whole
from tsmcli.engine.fetch_web import TryAgain, Unusable, check_status, shown
from tsmcli.errors import EnvironmentProblem, WeightsError
from tsmcli.files import sha256

TRIES = 5
"""Attempts in a row, at one address, that bring the download no further."""
_BLOCK = 1 << 20
_ASK_SEC = 5.0


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
    """The file is whole; `verified` where it has a known hash, `cached` where nothing had to be fetched."""

    name: str
    path: Path
    verified: bool
    cached: bool


FetchEvent = Receiving | Waiting | Fetched


def fetch(remote: Remote, client: httpx.Client) -> Iterator[FetchEvent]:
    """Make a file whole: take it from the cache if it is, else fetch what is missing of it.

    Only one process at a time fetches a file; the others wait and then find it whole.

    Raises:
        WeightsError: no address has it, or what they have is not the published file.
        EnvironmentProblem: the disk is too small.
        OSError: the file cannot be written.
    """
    if is_whole(remote):
        yield Fetched(remote.name, remote.path, remote.sha256_prefix is not None, cached=True)
        return
    remote.path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(remote.path.with_name(f".{remote.path.name}.lock"))
    while not _acquired(lock):
        yield Waiting(remote.name, 0.5, "another process is fetching it")
    try:
        cached = is_whole(remote)
        if not cached:
            yield from _fetch(remote, client)
        yield Fetched(remote.name, remote.path, remote.sha256_prefix is not None, cached)
    finally:
        lock.release()


def size_of(remote: Remote, client: httpx.Client) -> int | None:
    """The size of a file in bytes, as the first address that knows it says; None where none does."""
    for url in remote.urls:
        try:
            if url.startswith("file:"):
                return _local(url).stat().st_size
            response = client.head(url, timeout=_ASK_SEC)
            if response.is_success and "content-length" in response.headers:
                return int(response.headers["content-length"])
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError):
            continue  # the download itself will say what is wrong
    return None


def _acquired(lock: FileLock) -> bool:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    return True


def _fetch(remote: Remote, client: httpx.Client) -> Iterator[FetchEvent]:
    """Try the addresses in turn; leave alone the other addresses of a host that does not answer."""
    reasons: list[str] = []
    silent: set[str] = set()
    for url in remote.urls:
        host = urlsplit(url).netloc
        if host in silent:
            continue
        try:
            yield from _fetch_from(url, remote, client)
        except Unusable as error:
            reasons.append(f"  {shown(url)}: {error}")
            silent |= {host} if error.silent else set()
        else:
            return
    kept = remote.have
    again = f"the same command goes on from the {kept:,} bytes that are there\n" if kept else ""
    raise WeightsError(
        f"{remote.name} cannot be fetched:\n" + "\n".join(reasons),
        hint=again + "--mirror URL names another place that has it, a web server or a folder",
    )


def _fetch_from(url: str, remote: Remote, client: httpx.Client) -> Iterator[FetchEvent]:
    """Fetch from one address, again and again as long as that gets further; verify, rename."""
    failures, furthest, afresh = 0, remote.have, False
    while True:
        begin = remote.have
        try:
            yield from _copy(url, remote) if url.startswith("file:") else _receive(url, remote, client)
        except TryAgain as error:
            failures = 1 if remote.have > furthest else failures + 1
            furthest = max(furthest, remote.have)
            if failures >= TRIES:
                raise Unusable(f"{error}, {failures} times in a row", silent=error.silent) from None
            yield Waiting(remote.name, error.after or pause(failures), str(error))
            continue
        if has_prefix(remote.part, remote.sha256_prefix):
            remote.put_in_place()
            return
        found = sha256(remote.part)[:8]
        remote.discard()
        if begin == 0 or afresh:
            raise Unusable(
                f"not the published file, or cut short: its SHA-256 begins with {found}, not {remote.sha256_prefix}"
            )
        afresh = True  # the part that was there may have been of another file


def pause(failures: int) -> float:
    """Seconds to wait after the n-th failure in a row: 0.5, 1, 2, ... up to 30, less up to a half by chance."""
    return min(30.0, 0.5 * 2.0 ** (failures - 1)) * random.uniform(0.5, 1.0)


def _receive(url: str, remote: Remote, client: httpx.Client) -> Iterator[Receiving]:
    """Append what the server sends to the `.part` file; returns once all of it is there."""
    have, headers = remote.have, {}
    tag = _read_tag(remote, url)
    if have and (remote.sha256_prefix or tag):
        headers = {"Range": f"bytes={have}-"} | ({} if remote.sha256_prefix else {"If-Range": tag})
    try:
        with client.stream("GET", url, headers=headers) as response:
            length = response.headers.get("content-length")
            if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                if response.headers.get("content-range") == f"bytes */{have}":
                    return  # it was complete, and only the rename is missing
                remote.discard()
                raise TryAgain("what was there does not fit the server's file")
            check_status(response)
            resumed = response.headers.get("content-range", "").startswith(f"bytes {have}-")
            begin = have if response.status_code == httpx.codes.PARTIAL_CONTENT and resumed else 0
            if response.status_code == httpx.codes.PARTIAL_CONTENT and not resumed:
                raise Unusable("it answers with another range than was asked for")
            if length is None and not remote.sha256_prefix and "transfer-encoding" not in response.headers:
                raise Unusable("it does not say how long the file is, so nobody could tell whether it is whole")
            total = begin + int(length) if length else None
            _write_tag(remote, url, response)
            yield from _append(response.iter_raw(), remote, begin, total)
    except httpx.UnsupportedProtocol as error:
        raise Unusable(str(error)) from None
    except httpx.InvalidURL as error:
        raise Unusable(f"not an address: {error}") from None
    except httpx.TooManyRedirects:
        raise Unusable("it redirects in a circle") from None
    except httpx.TransportError as error:
        unreachable = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
        raise TryAgain(str(error) or type(error).__name__, silent=unreachable) from None


def _copy(url: str, remote: Remote) -> Iterator[Receiving]:
    """The same from a folder."""
    source = _local(url)
    if not source.is_file():
        raise Unusable("no such file")
    begin = remote.have if remote.sha256_prefix else 0
    with source.open("rb") as file:
        file.seek(begin)
        yield from _append(iter(lambda: file.read(_BLOCK), b""), remote, begin, source.stat().st_size)


def _append(chunks: Iterator[bytes], remote: Remote, begin: int, total: int | None) -> Iterator[Receiving]:
    """Write chunks from byte `begin` on, unbuffered: what is received is on disk, whatever happens next."""
    free = shutil.disk_usage(remote.part.parent).free
    if total is not None and total - begin > free:
        raise EnvironmentProblem(
            f"{remote.name} needs {total - begin:,} bytes, and {remote.part.parent} has {free:,} left",
            hint="free some space, or set TSM_ZOO to a folder on another disk",
        )
    done = begin
    with remote.part.open("ab", buffering=0) as file:
        file.truncate(begin)
        yield Receiving(remote.name, done, total)
        for chunk in chunks:
            file.write(chunk)
            done += len(chunk)
            yield Receiving(remote.name, done, total)
    if total is not None and done != total:
        raise TryAgain(f"{done:,} of {total:,} bytes came")


def _write_tag(remote: Remote, url: str, response: httpx.Response) -> None:
    tag = response.headers.get("etag", "")
    tag = "" if tag.startswith("W/") else tag or response.headers.get("last-modified", "")
    if not remote.sha256_prefix:
        remote.tag.write_text(f"{url}\n{tag}", encoding="utf-8")


def _read_tag(remote: Remote, url: str) -> str:
    path = remote.tag
    origin, _, tag = path.read_text(encoding="utf-8").partition("\n") if path.is_file() else ("", "", "")
    return tag if origin == url else ""


def _local(url: str) -> Path:
    return Path(url2pathname(urlsplit(url).path))
