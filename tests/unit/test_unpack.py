"""Archives are unpacked inside their folder or not at all."""

from __future__ import annotations

import importlib
import shutil
import sys
import zipfile
from pathlib import Path

import pytest
from rar import FILE, FOLDER, LINK, rar

from tsmcli.data.archive import check_member, unpack
from tsmcli.errors import DataError, EnvironmentProblem, WeightsError

try:
    importlib.import_module("libarchive")
except (ImportError, OSError, AttributeError, TypeError):
    HAVE = False
else:
    HAVE = True
needs_libarchive = pytest.mark.skipif(not HAVE, reason="libarchive is not installed")


def archive(folder: Path, members: dict[str, tuple[int, bytes]]) -> Path:
    path = folder / "a.rar"
    path.write_bytes(rar(members))
    return path


@needs_libarchive
def test_a_rar_archive_is_unpacked(tmp_path: Path) -> None:
    path = archive(tmp_path, {"ckpt": (FOLDER, b""), "ckpt/a.pth": (FILE, b"weights"), "b.txt": (FILE, b"")})
    folder = unpack(path, tmp_path / "out")
    assert (folder / "ckpt" / "a.pth").read_bytes() == b"weights"
    assert sorted(p.name for p in folder.iterdir()) == ["b.txt", "ckpt"]
    path.unlink()
    assert unpack(path, folder) == folder  # it is there already


@needs_libarchive
@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/tmp/evil", "a/..\\..\\evil", "C:\\evil", "C:evil"])
def test_names_that_leave_the_folder(tmp_path: Path, name: str) -> None:
    path = archive(tmp_path, {"good": (FILE, b"1"), name: (FILE, b"2")})
    with pytest.raises(WeightsError, match="leads out of the folder; nothing was unpacked"):
        unpack(path, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["a.rar"]


@needs_libarchive
def test_links_are_refused(tmp_path: Path) -> None:
    path = archive(tmp_path, {"link": (LINK, b"/etc/passwd"), "good": (FILE, b"1")})
    with pytest.raises(WeightsError, match="neither a file nor a folder"):
        unpack(path, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["a.rar"]


@pytest.mark.parametrize("name", ["", ".", "..", "/", "a/../b", "\\\\host\\share\\x", "a\0b"])
def test_names_that_are_refused_everywhere(name: str) -> None:
    with pytest.raises(WeightsError):
        check_member(name, Path("a.rar"), plain=True)


def test_ordinary_names() -> None:
    for name in (
        "a.pth",
        "b/c.pth",
        "./d",
        "TSM_something_RGB_resnet50_shift8_blockres_avg_segment8_e45.pth",
        "a..b",
    ):
        check_member(name, Path("a.rar"), plain=True)


@needs_libarchive
@pytest.mark.parametrize("keep", [5, 60, 80])
def test_a_damaged_archive(tmp_path: Path, keep: int) -> None:
    path = archive(tmp_path, {"a.pth": (FILE, b"x" * 1000)})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(WeightsError, match="cannot be unpacked"):
        unpack(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("at", [32, 62, 69, 73])
def test_a_zip_needs_no_libarchive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """A whole one, and with a damaged byte: in the head of a file, its name, its content, the table."""
    monkeypatch.setitem(sys.modules, "libarchive", None)
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a/", "")
        file.writestr("a/b.txt", "text")
    folder = unpack(path, tmp_path / "whole", wrong=DataError)
    assert (folder / "a" / "b.txt").read_text() == "text"
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(DataError, match="cannot be unpacked"):
        unpack(path, tmp_path / "out", wrong=DataError)
    assert not (tmp_path / "out").exists()


@needs_libarchive
def test_an_archive_larger_than_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = archive(tmp_path, {"a.pth": (FILE, b"x" * 1000)})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10})())
    with pytest.raises(EnvironmentProblem, match="unpacked, needs 1,000 bytes, and the disk of .* has 10 left"):
        unpack(path, tmp_path / "out")


@needs_libarchive
def test_another_process_is_quicker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(_: object, target: Path) -> None:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "a.pth").write_bytes(b"theirs")

    monkeypatch.setattr("tsmcli.data.archive._write_member", write)
    folder = unpack(archive(tmp_path, {"a.pth": (FILE, b"ours")}), tmp_path / "out")
    assert (folder / "a.pth").read_bytes() == b"theirs"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.rar", "out"]


def test_without_libarchive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "libarchive", None)
    with pytest.raises(EnvironmentProblem, match="is not installed") as caught:
        unpack(archive(tmp_path, {}), tmp_path / "out")
    assert "pip install 'tsmcli[rar]'" in caught.value.hint
