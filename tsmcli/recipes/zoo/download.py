"""Download published files into the cache: planned first, in parallel, verified, each resumed where it stopped."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Literal
from urllib.parse import urlsplit

from tsmcli.engine.fetch import Fetched, FetchEvent, Waiting, fetch, size_of
from tsmcli.engine.fetch_remote import Remote, has_prefix, is_whole
from tsmcli.engine.fetch_web import Client, open_client
from tsmcli.errors import EnvironmentProblem, TsmError, UsageError, WeightsError
from tsmcli.recipes.events import Stage
from tsmcli.recipes.zoo.unpack import unpack
from tsmcli.zoo import Extra, File, Model


@dataclass(frozen=True)
class Supply:
    """Where published files are kept, and where they come from.

    Attributes:
        cache: folder; every file is in `<id>/<its published name>` below it.
        mirrors: addresses to try before the publisher's.
        offline: never use the network.
    """

    cache: Path
    mirrors: tuple[str, ...] = ()
    offline: bool = False

    @classmethod
    def of_environment(cls) -> Supply:
        """What TSM_ZOO, TSM_ZOO_MIRROR (several, separated by spaces) and TSM_OFFLINE say."""
        mirrors = tuple(mirror_url(word) for word in os.environ.get("TSM_ZOO_MIRROR", "").split())
        return cls(cache_folder(), mirrors, os.environ.get("TSM_OFFLINE", "") not in ("", "0"))


@dataclass(frozen=True)
class Planned:
    """A file before a download: `size` of all of it, where known; `have` of it is there; `cached` is whole."""

    name: str
    path: Path
    url: str
    size: int | None
    have: int
    cached: bool


@dataclass(frozen=True)
class DownloadPlan:
    """What a download would do; `free` bytes are left on the disk of the cache."""

    files: tuple[Planned, ...]
    free: int

    @property
    def missing(self) -> int:
        """Bytes to fetch, as far as sizes are known."""
        return sum((file.size or 0) - file.have for file in self.files if not file.cached and file.size)


@dataclass(frozen=True)
class Failed:
    """A file could not be fetched; the others go on."""

    name: str
    error: TsmError


@dataclass(frozen=True)
class Downloaded:
    """The end: every file asked for, whole, and the folders that archives were unpacked to."""

    files: tuple[Fetched, ...]
    unpacked: tuple[Path, ...]


def cache_folder() -> Path:
    """$TSM_ZOO, else `tsm/zoo` in $XDG_CACHE_HOME, else in `~/.cache`."""
    if told := os.environ.get("TSM_ZOO"):
        return Path(told).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "tsm" / "zoo"


def mirror_url(word: str) -> str:
    """The address of a mirror: a web address, a `file://` address, or a folder.

    Raises:
        UsageError: it is none of them.
    """
    if Path(word).is_dir():
        return Path(word).resolve().as_uri()
    try:
        parts = urlsplit(word)
        if parts.scheme == "file" or (parts.scheme in ("http", "https") and parts.hostname):
            return word.rstrip("/")
    except ValueError:  # brackets or a port that are none
        pass
    raise UsageError(
        f"mirror {word}: neither a web address nor a folder", hint="http://, https://, file:// or a path"
    )


def remote_of(entry: Model | Extra, supply: Supply, kind: str = "ckpt") -> Remote:
    """What to fetch for an entry of the zoo: its checkpoint, `log` or `json` log, or the one file of an extra.

    Raises:
        UsageError: the entry is a page for a browser.
    """
    if isinstance(entry, Extra) and entry.file is None:
        raise UsageError(f"{entry.id} is a page for a browser, not a file: {entry.page}")
    file = entry.files[kind] if isinstance(entry, Model) else entry.file
    assert file is not None
    name = entry.id if kind == "ckpt" or isinstance(entry, Extra) else f"{entry.id} {kind}"
    return Remote(name, addresses(entry.id, file, supply.mirrors), supply.cache / entry.id / file.name,
                  file.sha256_prefix)  # fmt: skip


def addresses(id: str, file: File, mirrors: Sequence[str]) -> tuple[str, ...]:
    """Where a file may be: on mirrors (laid out as our cache, as the publisher's server, or flat) and there."""
    below = (f"{id}/{file.name}", urlsplit(file.url).path.lstrip("/"), file.name)
    return (*(f"{mirror}/{path}" for mirror in mirrors for path in below), file.url)


def download(
    remotes: Sequence[Remote], supply: Supply, *, jobs: int = 4, dry_run: bool = False
) -> Iterator[Stage | FetchEvent | Failed | DownloadPlan | Downloaded]:
    """Make every file whole; with `dry_run`, yield the plan and stop.

    A file that cannot be fetched does not stop the others; the error at the end names them all.

    Raises:
        WeightsError: files cannot be fetched, or are not in the cache and `supply.offline` is set.
        EnvironmentProblem: the disk is too small, a file cannot be written, or an archive cannot be unpacked.
    """
    with open_client() as client:
        plan = plan_download(remotes, client, supply, jobs)
        if dry_run:
            yield plan
            return
        wanted = [remote for remote, file in zip(remotes, plan.files, strict=True) if not file.cached]
        fetched = [Fetched(remote.name, remote.path, remote.sha256_prefix is not None, cached=True)
                   for remote in remotes if remote not in wanted]  # fmt: skip
        yield from fetched
        if wanted and supply.offline:
            raise WeightsError(
                f"offline, and not whole in {supply.cache}: {', '.join(remote.name for remote in wanted)}",
                hint="download them without --offline, and without TSM_OFFLINE in the environment",
            )
        if plan.missing > plan.free:
            raise EnvironmentProblem(
                f"{plan.missing:,} bytes to fetch, and the disk of {supply.cache} has {plan.free:,} left",
                hint="free some space, or set TSM_ZOO to a folder on another disk",
            )
        if wanted:
            known = all(file.cached or file.size for file in plan.files)
            amount = f"{plan.missing / 1e6:.1f} MB" if known else "sizes not all known"
            yield Stage(f"fetching {len(wanted)} of {len(remotes)} files ({amount}) to {supply.cache}")
        failures = []
        for event in fetch_all(wanted, client, jobs):
            yield event
            if isinstance(event, Fetched):
                fetched.append(event)
            elif isinstance(event, Failed):
                failures.append(event)
    if failures:
        raise _together(failures, len(remotes))
    if len(fetched) != len(remotes):
        raise RuntimeError("a thread ended without a word")  # its traceback is above
    order = {remote.name: i for i, remote in enumerate(remotes)}
    fetched.sort(key=lambda file: order[file.name])
    unpacked = tuple(unpack(file.path, file.path.with_suffix("")) for file in fetched if file.path.suffix == ".rar")
    yield Downloaded(tuple(fetched), unpacked)


def plan_download(remotes: Sequence[Remote], client: Client, supply: Supply, jobs: int) -> DownloadPlan:
    """What is there, what is missing, and how much it is."""

    def look(remote: Remote) -> Planned:
        cached = is_whole(remote)
        size = remote.path.stat().st_size if cached else None if supply.offline else size_of(remote, client)
        return Planned(remote.name, remote.path, remote.urls[0], size, remote.have, cached)

    with ThreadPoolExecutor(jobs) as pool:
        files = tuple(pool.map(look, remotes))
    there = next(folder for folder in (supply.cache, *supply.cache.absolute().parents) if folder.exists())
    return DownloadPlan(files, shutil.disk_usage(there).free)


def fetch_all(remotes: Sequence[Remote], client: Client, jobs: int) -> Iterator[FetchEvent | Failed]:
    """Fetch files in parallel. Threads put their events into one queue; leaving this generator stops them.

    They are daemons: nobody who presses Ctrl-C waits for a server that is silent.
    """
    events: SimpleQueue[FetchEvent | Failed | None] = SimpleQueue()
    left: SimpleQueue[Remote | None] = SimpleQueue()
    stop = threading.Event()

    def work() -> None:
        try:
            for remote in iter(left.get, None):
                for event in _fetch_one(remote, client):
                    events.put(event)
                    if isinstance(event, Waiting):
                        stop.wait(event.seconds)
                    if stop.is_set():
                        return
        finally:
            events.put(None)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(jobs, len(remotes)))]
    for one in (*remotes, *(None for _ in threads)):
        left.put(one)
    for thread in threads:
        thread.start()
    try:
        for _ in threads:
            while (event := events.get()) is not None:
                yield event
    finally:
        stop.set()


def _fetch_one(remote: Remote, client: Client) -> Iterator[FetchEvent | Failed]:
    """`fetch`, with a failure as its last event."""
    try:
        yield from fetch(remote, client)
    except TsmError as error:
        yield Failed(remote.name, error)
    except OSError as error:
        problem = EnvironmentProblem(f"{error.filename or remote.path}: {error.strerror or error}")
        yield Failed(remote.name, problem)


def _together(failures: Sequence[Failed], total: int) -> TsmError:
    """One error for all that failed."""
    if len(failures) == 1:
        return failures[0].error
    kind = WeightsError if any(isinstance(f.error, WeightsError) for f in failures) else EnvironmentProblem
    reasons = "\n".join(str(failure.error) for failure in failures)
    return kind(f"{len(failures)} of {total} files could not be fetched\n{reasons}", hint=failures[0].error.hint)


State = Literal["verified", "no published hash", "damaged", "incomplete", "missing"]


@dataclass(frozen=True)
class Checked:
    """A file of the cache, or one that should be there; `bytes` are those on disk."""

    name: str
    path: Path
    state: State
    bytes: int


@dataclass(frozen=True)
class Verified:
    """The end: all that was looked at."""

    files: tuple[Checked, ...]

    @property
    def bad(self) -> list[Checked]:
        """What cannot be used as it is."""
        return [file for file in self.files if file.state in ("damaged", "incomplete", "missing")]


def verify(entries: Sequence[Model | Extra], supply: Supply, *, named: bool) -> Iterator[Checked | Verified]:
    """Hash every file of these entries that is in the cache.

    Args:
        named: the entries were asked for by name, so a checkpoint that is not there is worth a line.
    """
    files = []
    for entry in entries:
        for kind in entry.files if isinstance(entry, Model) else ("ckpt",):
            if isinstance(entry, Extra) and entry.file is None:
                continue
            remote = remote_of(entry, supply, kind)
            state: State = "verified" if remote.sha256_prefix else "no published hash"
            path = remote.path
            if not path.is_file():
                state, path = ("incomplete", remote.part) if remote.part.exists() else ("missing", path)
            elif not has_prefix(path, remote.sha256_prefix):
                state = "damaged"
            if state == "missing" and not (named and kind == "ckpt"):
                continue
            file = Checked(remote.name, path, state, path.stat().st_size if path.exists() else 0)
            files.append(file)
            yield file
    yield Verified(tuple(files))
