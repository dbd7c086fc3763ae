"""Downloads against a server that cuts, lies, refuses and redirects: whole and verified, or resumable and explained."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from web_server import Fault, Server

from tsmcli.engine import fetch as fetching
from tsmcli.engine.fetch import (
    TRIES,
    Fetched,
    FetchEvent,
    Receiving,
    Remote,
    Waiting,
    fetch,
    open_client,
    pause,
    size_of,
)  # fmt: skip
from tsmcli.errors import EnvironmentProblem, WeightsError

BODY = random.Random(0).randbytes(200_000)
HASH = hashlib.sha256(BODY).hexdigest()[:8]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = Server({"/a.pth": BODY})
    yield server
    server.close()


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with open_client() as client:
        yield client


def remote(folder: Path, *urls: str, hash: str | None = HASH) -> Remote:
    return Remote("a", urls, folder / "cache" / "a.pth", hash)


def drive(remote: Remote, client: httpx.Client) -> list[FetchEvent]:
    """All events of a download, without any waiting."""
    events: list[FetchEvent] = []
    for event in fetch(remote, client):
        events.append(event)
        assert sum(isinstance(event, Waiting) for event in events[-100:]) < 100, "it waits for ever"
    return events


def is_clean(remote: Remote) -> bool:
    """The file is whole, and nothing else is left of the download."""
    others = {path.name for path in remote.path.parent.iterdir()} - {"a.pth", ".a.pth.lock"}
    return remote.path.read_bytes() == BODY and not others


def test_a_file_is_fetched_verified_and_not_fetched_again(
    server: Server, client: httpx.Client, tmp_path: Path
) -> None:
    wanted = remote(tmp_path, f"{server.url}/a.pth")
    events = drive(wanted, client)
    assert events[-1] == Fetched(wanted, cached=False)
    assert Receiving("a", len(BODY), len(BODY)) in events
    assert is_clean(wanted)
    assert drive(wanted, client) == [Fetched(wanted, cached=True)]
    assert server.gets == [""]


def test_a_connection_cut_at_twenty_random_points(server: Server, client: httpx.Client, tmp_path: Path) -> None:
    """Every attempt goes on where the last one ended; no byte is sent twice."""
    draw = random.Random(1)
    server.faults.extend(Fault(cut=draw.randrange(1, 9000)) for _ in range(20))
    wanted = remote(tmp_path, f"{server.url}/a.pth")
    events = drive(wanted, client)
    assert sum(isinstance(event, Waiting) for event in events) == 20
    assert server.sent == len(BODY)
    assert len(server.gets) == 21
    assert is_clean(wanted)


@pytest.mark.parametrize("seed", range(20))
def test_a_process_stopped_at_a_random_point(
    server: Server, client: httpx.Client, tmp_path: Path, seed: int
) -> None:
    """Whatever was received is kept, is never taken for the file, and is not fetched again."""
    draw = random.Random(seed)
    wanted = remote(tmp_path, f"{server.url}/a.pth")
    events = fetch(wanted, client)
    stop = draw.randrange(1, len(BODY))
    for event in events:
        if isinstance(event, Receiving) and event.done >= stop:
            break
    events.close()  # type: ignore[attr-defined]
    assert not wanted.path.exists()
    there = wanted.have
    assert wanted.part.read_bytes() == BODY[:there]
    drive(wanted, client)
    if there < len(BODY):
        assert server.gets[1:] == [f"bytes={there}-"]
    assert is_clean(wanted)


def test_a_server_without_ranges_starts_again(server: Server, client: httpx.Client, tmp_path: Path) -> None:
    server.ranges = False
    server.faults.extend([Fault(cut=150_000), Fault(cut=70_000)])
    wanted = remote(tmp_path, f"{server.url}/a.pth")
    drive(wanted, client)
    assert server.sent == 150_000 + 70_000 + len(BODY)
    assert is_clean(wanted)


def test_a_server_that_always_truncates(server: Server, client: httpx.Client, tmp_path: Path) -> None:
    """It gives up after some attempts that got no further, keeps what it has, and says so."""
    server.ranges = False
    server.faults.extend(Fault(cut=5000) for _ in range(TRIES + 9))
    wanted = remote(tmp_path, f"{server.url}/a.pth")
    with pytest.raises(WeightsError, match=f"{TRIES} times in a row") as caught:
        drive(wanted, client)
    assert "5,000 bytes" in caught.value.hint
    assert wanted.part.read_bytes() == BODY[:5000]
    server.faults.clear()
    server.ranges = True
    drive(wanted, client)
    assert server.gets[-1] == "bytes=5000-"
    assert is_clean(wanted)


def test_wrong_bytes_are_refused(server: Server, client: httpx.Client, tmp_path: Path) -> None:
    server.files["/a.pth"] = BODY[:-1] + b"x"
    wanted = remote(tmp_path, f"{server.url}/a.pth")
    with pytest.raises(WeightsError, match=f"not the published file, or cut short: .* not {HASH}"):
        drive(wanted, client)
    assert not wanted.path.exists()
    assert not wanted.part.exists()


def test_a_damaged_file_is_fetched_again(server: Server, client: httpx.Client, tmp_path: Path) -> None:
    wanted = remote(tmp_path, f"{server.url}/a.pth")
    wanted.path.parent.mkdir()
    wanted.path.write_bytes(BODY[:100])
    drive(wanted, client)
    assert is_clean(wanted)


@pytest.mark.parametrize(
    ("there", "sent"),
    [(b"?" * 1000, 2 * len(BODY) - 1000), (BODY[:1000], len(BODY) - 1000), (BODY, 0), (BODY + b"more", len(BODY))],
    ids=["of another file", "half", "only the rename is missing", "too long"],
)
def test_a_part_that_is_there(
    server: Server, client: httpx.Client, tmp_path: Path, there: bytes, sent: int
) -> None:
    """It is continued where it fits, and the file fetched afresh where not, from the web or from a folder."""
    (tmp_path / "my a.pth").write_bytes(BODY)
    for name, url in ("web", f"{server.url}/a.pth"), ("folder", (tmp_path / "my a.pth").as_uri()):
        wanted = remote(tmp_path / name, url)
        wanted.part.parent.mkdir(parents=True)
        wanted.part.write_bytes(there)
        drive(wanted, client)
        assert is_clean(wanted)
    assert server.sent == sent


def test_404_is_not_tried_again_and_the_next_address_is(
    server: Server, client: httpx.Client, tmp_path: Path
) -> None:
    with pytest.raises(WeightsError, match="404 Not Found") as caught:
        drive(remote(tmp_path, f"{server.url}/none.pth"), client)
    assert len(server.gets) == 1
    assert "--mirror" in caught.value.hint
    wanted = remote(tmp_path, f"{server.url}/none.pth", f"{server.url}/a.pth")
    drive(wanted, client)
    assert is_clean(wanted)


def test_500_then_well(server: Server, client: httpx.Client, tmp_path: Path) -> None:
    server.faults.extend([Fault(status=500), Fault(status=503)])
    wanted = remote(tmp_path, f"{server.url}/a.pth")
    waits = [event for event in drive(wanted, client) if isinstance(event, Waiting)]
    assert [event.reason for event in waits] == ["500 Internal Server Error", "503 Service Unavailable"]
    assert is_clean(wanted)


def test_429_waits_as_long_as_it_is_told(server: Server, client: httpx.Client, tmp_path: Path) -> None:
    server.faults.append(Fault(status=429, headers={"Retry-After": "7"}))
    wanted = remote(tmp_path, f"{server.url}/a.pth")
    waits = [event.seconds for event in drive(wanted, client) if isinstance(event, Waiting)]
    assert waits == [7.0]
    assert is_clean(wanted)


def test_429_for_an_hour_is_an_error(server: Server, client: httpx.Client, tmp_path: Path) -> None:
    server.faults.append(Fault(status=429, headers={"Retry-After": "3600"}))
    with pytest.raises(WeightsError, match="429 Too Many Requests; it asks to wait 3600 s"):
        drive(remote(tmp_path, f"{server.url}/a.pth"), client)


def test_redirects(server: Server, client: httpx.Client, tmp_path: Path) -> None:
    server.faults.append(Fault(status=302, headers={"Location": "/a.pth"}))
    wanted = remote(tmp_path, f"{server.url}/moved.pth")
    drive(wanted, client)
    assert is_clean(wanted)
    server.faults.extend(Fault(status=302, headers={"Location": "/b.pth"}) for _ in range(30))
    with pytest.raises(WeightsError, match="redirects"):
        drive(remote(tmp_path / "b", f"{server.url}/b.pth"), client)


def test_a_server_that_falls_silent(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tsmcli.engine.fetch.SILENCE_SEC", 0.15)
    server.faults.append(Fault(pause=0.4))
    wanted = remote(tmp_path, f"{server.url}/a.pth")
    with open_client() as client:
        waits = [event for event in drive(wanted, client) if isinstance(event, Waiting)]
    assert len(waits) == 1
    assert server.gets[1] == f"bytes={len(BODY) // 2}-"
    assert is_clean(wanted)


def test_another_range_than_asked_for(server: Server, client: httpx.Client, tmp_path: Path) -> None:
    wanted = remote(tmp_path, f"{server.url}/a.pth")
    wanted.part.parent.mkdir()
    wanted.part.write_bytes(BODY[:10])
    server.faults.append(Fault(status=206, headers={"Content-Range": "bytes 0-9/20"}))
    with pytest.raises(WeightsError, match="another range than was asked for"):
        drive(wanted, client)
    assert wanted.part.read_bytes() == BODY[:10]


def test_a_compressed_answer_is_refused(server: Server, client: httpx.Client, tmp_path: Path) -> None:
    server.faults.append(Fault(headers={"Content-Encoding": "gzip"}))
    with pytest.raises(WeightsError, match="compressed"):
        drive(remote(tmp_path, f"{server.url}/a.pth"), client)


def test_without_a_hash_it_starts_again(server: Server, client: httpx.Client, tmp_path: Path) -> None:
    """Nobody could tell whether old and new bytes are of the same file."""
    wanted = remote(tmp_path, f"{server.url}/a.pth", hash=None)
    server.faults.append(Fault(cut=50_000))
    assert drive(wanted, client)[-1] == Fetched(wanted, cached=False)
    assert server.gets == ["", ""]
    assert is_clean(wanted)


def test_an_endless_reply(
    server: Server, client: httpx.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reply of untold length fills neither more than the limit nor the last of the disk, and nothing of it stays."""
    wanted = remote(tmp_path, f"{server.url}/a.pth", hash=None)
    for limit, reserve, sent in ((3_000_000, 1, "[23],[0-9]{3},[0-9]{3}"), (1 << 40, 1 << 60, "0")):
        monkeypatch.setattr(fetching, "LARGEST", limit)
        monkeypatch.setattr(fetching, "RESERVE", reserve)
        server.faults.append(Fault(endless=True))
        with pytest.raises(WeightsError, match=f"does not say how long the file is, and sent {sent} bytes"):
            drive(wanted, client)
        assert wanted.part.stat().st_size == 0
        assert not wanted.path.exists()


def test_without_hash_and_length_nobody_could_tell(server: Server, client: httpx.Client, tmp_path: Path) -> None:
    server.lengths = False
    with pytest.raises(WeightsError, match="does not say how long the file is"):
        drive(remote(tmp_path, f"{server.url}/a.pth", hash=None), client)
    wanted = remote(tmp_path, f"{server.url}/a.pth")  # with a hash, one can
    drive(wanted, client)
    assert is_clean(wanted)


def test_a_host_that_does_not_answer(server: Server, client: httpx.Client, tmp_path: Path) -> None:
    server.close()
    with pytest.raises(WeightsError, match=f"Connection refused, {TRIES} times in a row"):
        drive(remote(tmp_path, f"{server.url.replace('//', '//me:secret@')}/a.pth"), client)


def test_addresses_that_are_none(client: httpx.Client, tmp_path: Path) -> None:
    for url in ("ftp://127.0.0.1/a.pth", "http://", "http://127.0.0.1:99999/a", "http://a b/c"):
        with pytest.raises(WeightsError, match="cannot be fetched"):
            drive(remote(tmp_path, url), client)


def test_a_full_disk(server: Server, client: httpx.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    with pytest.raises(EnvironmentProblem, match="needs 200,000 bytes, and .* has 1,000 left"):
        drive(remote(tmp_path, f"{server.url}/a.pth"), client)


def test_size_comes_from_the_first_address_that_knows_it(
    server: Server, client: httpx.Client, tmp_path: Path
) -> None:
    (tmp_path / "b.pth").write_bytes(b"four")
    none, folder = f"{server.url}/none", (tmp_path / "b.pth").as_uri()
    assert size_of(remote(tmp_path, none), client) is None
    assert size_of(remote(tmp_path, none, f"{server.url}/a.pth", folder), client) == len(BODY)
    assert size_of(remote(tmp_path, none, folder), client) == 4
    assert server.sent == 0


CODE = """
import sys
from pathlib import Path
from tsmcli.engine.fetch import Remote, Waiting, fetch, open_client
import time
with open_client() as client:
    for event in fetch(Remote("a", (sys.argv[1],), Path(sys.argv[2]), sys.argv[3]), client):
        if isinstance(event, Waiting):
            time.sleep(0.02)
print(event.cached)
"""


def test_two_processes_fetch_the_same_file(server: Server, tmp_path: Path) -> None:
    """One fetches it, the other waits and finds it whole."""
    server.slow = 0.6
    wanted = remote(tmp_path, f"{server.url}/a.pth")
    command = [sys.executable, "-c", CODE, f"{server.url}/a.pth", str(wanted.path), HASH]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(2)]
    words = sorted(process.communicate(timeout=60)[0].strip() for process in both)
    assert words == ["False", "True"]
    assert server.gets == [""]
    assert is_clean(wanted)


def test_waiting_grows_and_ends_at_half_a_minute() -> None:
    for failures, longest in ((1, 0.5), (2, 1.0), (3, 2.0), (20, 30.0)):
        drawn = [pause(failures) for _ in range(50)]
        assert all(longest / 2 <= seconds <= longest for seconds in drawn)
        assert len(set(drawn)) > 1


def test_a_proxy_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "gopher://nowhere")
    with pytest.raises(EnvironmentProblem, match="proxy"):
        open_client()


def test_a_process_that_is_killed(server: Server, client: httpx.Client, tmp_path: Path) -> None:
    """Not even its lock is left behind."""
    server.faults.append(Fault(pause=30))
    wanted = remote(tmp_path, f"{server.url}/a.pth")
    command = [sys.executable, "-c", CODE, f"{server.url}/a.pth", str(wanted.path), HASH]
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    deadline = time.monotonic() + 30
    while wanted.have < len(BODY) // 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert wanted.part.read_bytes() == BODY[: len(BODY) // 2]
    assert not wanted.path.exists()
    drive(wanted, client)
    assert server.gets == ["", f"bytes={len(BODY) // 2}-"]
    assert is_clean(wanted)
