"""Download published files into the cache: surveyed first, in parallel, verified, each resumed where it stopped."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any
from urllib.parse import urlsplit

from tsmcli.data.archive import check_space, unpack
from tsmcli.engine import fetch as fetching
from tsmcli.engine.fetch import Fetched, FetchEvent, Remote, Waiting, is_whole
from tsmcli.errors import EnvironmentProblem, UsageError, WeightsError
from tsmcli.files import cache_home
from tsmcli.recipes.events import Stage
from tsmcli.zoo import Extra, Model, superseded_by


@dataclass(frozen=True)
class Supply:
    """Published files are kept at `<cache>/<id>/<name>`; `mirrors` are asked before the publisher.

    `offline`: never use the network.
    """

    cache: Path
    mirrors: tuple[str, ...] = ()
    offline: bool = False

    @classmethod
    def of_environment(cls, mirrors: Sequence[str] = (), *, offline: bool = False) -> Supply:
        """These mirrors, then what TSM_ZOO, TSM_ZOO_MIRROR (several, separated by spaces) and TSM_OFFLINE say."""
        words = (*mirrors, *os.environ.get("TSM_ZOO_MIRROR", "").split())
        offline = offline or os.environ.get("TSM_OFFLINE", "") not in ("", "0")
        return cls(cache_folder(), tuple(map(mirror_url, words)), offline)


def cache_folder() -> Path:
    """$TSM_ZOO, else `zoo` in `cache_home()`."""
    if told := os.environ.get("TSM_ZOO"):
        return Path(told).expanduser()
    return cache_home() / "zoo"


def mirror_url(word: str) -> str:
    """The address of a mirror: a web address, a `file://` address, or a folder; UsageError for the rest."""
    if Path(word).is_dir():
        return Path(word).resolve().as_uri()
    if re.match(r"https?://.*\w|file://", word):
        return word.rstrip("/")
    raise UsageError(f"mirror {word}: neither a web address nor a folder", "http://, https://, file:// or a path")


def remote_of(entry: Model | Extra, supply: Supply, kind: str = "ckpt") -> Remote:
    """What to fetch for an entry of the zoo: its checkpoint, `log` or `json` log, or the one file of an extra.

    A mirror may be laid out as our cache, as the publisher's server, or flat.

    Raises:
        UsageError: the entry is a page for a browser.
    """
    file = entry.files[kind] if isinstance(entry, Model) else entry.file
    if file is None:
        raise UsageError(f"{entry.id} is a page for a browser, not a file", hint=f"tsm zoo show {entry.id}")
    below = (f"{entry.id}/{file.name}", urlsplit(file.url).path.lstrip("/"), file.name)
    urls = (*(f"{mirror}/{path}" for mirror in supply.mirrors for path in below), file.url)
    name = entry.id if kind == "ckpt" else f"{entry.id} {kind}"
    later = superseded_by(entry) if isinstance(entry, Model) else []
    hint = f"it is not listed any more; {' and '.join(later)} took its place" if later else ""
    return Remote(name, urls, supply.cache / entry.id / file.name, file.sha256_prefix, hint)


@dataclass(frozen=True)
class Standing:
    """What of a file is in the cache; `size` is that of all of it, in bytes, where known.

    `state` is verified or no published hash, which are `whole`, or damaged, incomplete or missing.
    """

    remote: Remote
    state: str
    whole: bool
    size: int | None


@dataclass(frozen=True)
class Failed:
    """A file could not be fetched; the others go on."""

    name: str
    error: Exception


@dataclass(frozen=True)
class Downloaded:
    """The end: every file asked for, whole, and the folders that archives were unpacked to."""

    files: tuple[Fetched, ...]
    unpacked: tuple[Path, ...]


def plan(remotes: Sequence[Remote], supply: Supply, jobs: int = 4) -> list[Standing]:
    """What of each file is there, and how large it is: what a download would do."""
    with fetching.open_client() as client:
        return survey(remotes, None if supply.offline else client, jobs)


def download(
    remotes: Sequence[Remote], supply: Supply, *, jobs: int = 4
) -> Generator[Stage | FetchEvent | Failed, None, Downloaded]:
    """Make every file whole.

    A file that cannot be fetched does not stop the others; the error at the end names them all.

    Raises:
        WeightsError: files cannot be fetched, or are not in the cache and `supply.offline` is set.
        EnvironmentProblem: the disk is too small, a file cannot be written, or an archive cannot be unpacked.
    """
    with fetching.open_client() as client:
        files = survey(remotes, None if supply.offline else client, jobs)
        whole = [Fetched(file.remote, cached=True) for file in files if file.whole]
        wanted = [file.remote for file in files if not file.whole]
        yield from whole
        if wanted and supply.offline:
            names = ", ".join(remote.name for remote in wanted)
            hint = "download them without --offline, and without TSM_OFFLINE in the environment"
            raise WeightsError(f"offline, and not whole in {supply.cache}: {names}", hint)
        if wanted:
            check_space("the download", missing_bytes(files), supply.cache)
            amount = f"{missing_bytes(files) / 1e6:.1f} MB" if all(f.size for f in files) else "sizes not all known"
            yield Stage(f"fetching {len(wanted)} of {len(remotes)} files ({amount}) to {supply.cache}")
        errors = []
        for event in in_threads(lambda remote: fetching.fetch(remote, client), wanted, jobs):
            yield event
            if isinstance(event, Fetched):
                whole.append(event)
            elif isinstance(event, Failed):
                errors.append(event.error)
    if len(errors) > 1:
        kind = WeightsError if any(isinstance(error, WeightsError) for error in errors) else EnvironmentProblem
        message = "\n".join([f"{len(errors)} of {len(remotes)} files could not be fetched", *map(str, errors)])
        raise kind(message, hint=getattr(errors[0], "hint", "")) from errors[0]
    if errors:
        raise errors[0]
    whole.sort(key=lambda file: remotes.index(file.remote))
    paths = [file.remote.path for file in whole]
    return Downloaded(tuple(whole), tuple(unpack(p, p.with_suffix("")) for p in paths if p.suffix == ".rar"))


def survey(remotes: Sequence[Remote], client: fetching.Client | None = None, jobs: int = 4) -> list[Standing]:
    """Hash what is in the cache; with a client, ask how large the rest is."""

    def look(remote: Remote) -> Iterator[Standing]:
        if is_whole(remote):
            state = "verified" if remote.sha256_prefix else "no published hash"
            yield Standing(remote, state, True, remote.path.stat().st_size)
        else:
            state = "damaged" if remote.path.exists() else "incomplete" if remote.part.exists() else "missing"
            yield Standing(remote, state, False, fetching.size_of(remote, client) if client else None)

    files = []
    for file in in_threads(look, remotes, jobs):
        if isinstance(file, Failed):
            raise file.error
        files.append(file)
    return sorted(files, key=lambda file: remotes.index(file.remote))


def missing_bytes(files: Sequence[Standing]) -> int:
    """Bytes to fetch, as far as sizes are known."""
    return sum(file.size - file.remote.have for file in files if file.size and not file.whole)


def in_threads(work: Callable[[Remote], Iterator[Any]], remotes: Sequence[Remote], jobs: int) -> Iterator[Any]:
    """The events of some work on every file, `jobs` files at a time; leaving this generator stops them.

    An error ends the work on its file as `Failed`. The threads are daemons: nobody who presses Ctrl-C waits for a
    server that is silent.
    """
    events: SimpleQueue[Any] = SimpleQueue()
    slots, stop = threading.Semaphore(jobs), threading.Event()

    def run(remote: Remote) -> None:
        try:
            with slots:
                for event in () if stop.is_set() else work(remote):
                    events.put(event)
                    if stop.wait(event.seconds if isinstance(event, Waiting) else 0):
                        return
        except OSError as error:
            problem = EnvironmentProblem(f"{error.filename or remote.path}: {error.strerror or error}")
            events.put(Failed(remote.name, problem))
        except Exception as error:
            events.put(Failed(remote.name, error))
        finally:
            events.put(None)

    for remote in remotes:
        threading.Thread(target=run, args=(remote,), daemon=True).start()
    try:
        for _ in remotes:
            while (event := events.get()) is not None:
                yield event
    finally:
        stop.set()
