"""The page about a run: complete, small, alone, and alive in a browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tsmcli.catalog import CATALOG
from tsmcli.config import PROTOCOLS
from tsmcli.files import sha256
from tsmcli.metrics import interval
from tsmcli.presets import load_preset
from tsmcli.recipes.network import Opened
from tsmcli.recipes.study.logs import Curves
from tsmcli.recipes.study.mistakes import ClipGroup, ShownClip
from tsmcli.recipes.study.shuffled import compare_orders
from tsmcli.recipes.study.study import Study, read_study
from tsmcli.report.page import write_report
from tsmcli.results import Results, save_results

EVIL = "</script><b>class & 'name'</b>"


def make_study(folder: Path, names: list[str], videos: int) -> Study:
    """A study of made-up scores, with every section."""
    rng = np.random.default_rng(0)
    classes = len(names)
    labels = rng.integers(classes, size=videos)
    scores = rng.random((videos, classes)).astype(np.float32)
    scores[np.arange(videos), labels] += 0.9
    scores /= scores.sum(1, keepdims=True)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "best.pt").write_bytes(b"weights")
    tested = Opened(
        folder / "best.pt", sha256(folder / "best.pt"), "made-up", load_preset("demo"), names, None, None
    )
    meta = {
        **tested.describe(),  # as tests do
        "protocol_name": "efficient", "protocol": PROTOCOLS["efficient"].model_dump(), "class_names": names,
    }  # fmt: skip
    paths = [f"{i}.mp4" for i in range(videos)]
    save_results(
        folder / "scores-best-efficient.npz",
        Results(paths, labels, scores, videos + 1, [("gone.mp4", "no such video")], meta),
    )
    study = read_study(folder, folder / "scores-best-efficient.npz")
    frames = rng.integers(0, 255, (16, 224, 224, 3), np.uint8)
    clips = [ShownClip("0.mp4", names[0], names[1], 0.75, frames) for _ in range(2)]
    groups = [ClipGroup(name, "2 of 3 right", clips) for name in names[:5]]
    study.worst.extend(groups)
    study.confused.extend(groups)
    study.notes.append("a note")
    log = Curves(
        "this run",
        {"train/loss": [(i / 10, 3 / (i + 1)) for i in range(1, 100)], "val/top1": [(5, 0.4), (10, 0.5)]},
    )
    order = compare_orders(
        {"in order": scores, "shuffled": np.roll(scores, 1, 1), "reversed": scores[:, ::-1]}, labels, videos + 5
    )
    return Study(**{**vars(study), "curves": log, "other": Curves("zoo", log.series), "order": order})


class Page(HTMLParser):
    """What a page refers to, its text, and whether its tags close."""

    VOID = frozenset({"meta", "img", "input", "option", "use", "br", "link"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [
            value or ""
            for name, value in attrs
            if name in ("src", "href", "srcset", "action", "xlink:href", "data")
        ]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    names = [EVIL, *(CATALOG["k400"].class_names() or [])[1:]]
    return write_report(make_study(tmp_path_factory.mktemp("runs") / "run", names, 20_000))[0]


def test_the_page_of_400_classes_is_small_and_alone(page: Path) -> None:
    text = page.read_text()
    assert page.stat().st_size < 3_000_000
    found = Page(text)
    assert not found.open
    assert all(link.startswith(("#", "data:image/jpeg;base64,")) for link in found.links)
    assert not re.search(r"https?://|@import|url\((?!#)", text)
    assert len([link for link in found.links if link.startswith("data:")]) == 20


def test_the_page_says_what_the_number_is_of(page: Path) -> None:
    words = " ".join(" ".join(Page(page.read_text()).words).split())
    for expected in (
        "efficient", "8 frames, uniform sampling, 1 clip × 1 crop of 224 px of frames scaled to 256 px", "20000 of 20001 videos",
        "1 of 20001 videos could not be read", "no such video", "a note", "How much time matters", "On 20000 of 20005 videos",
        "Chance is 0.25 %", "The 16 classes that change most", "Compared with zoo",
    ):  # fmt: skip
        assert expected in words


def test_names_are_text_and_never_code(page: Path) -> None:
    text = page.read_text()
    assert EVIL not in text
    match = re.search(r'id="matrix-data">(.*?)</script>', text, re.DOTALL)
    assert match
    data = json.loads(match[1])
    assert data["names"][0] == EVIL
    assert sum(cell[2] for cell in data["cells"]) == 20_000


def test_plots(tmp_path: Path) -> None:
    _, plots = write_report(make_study(tmp_path / "run", ["a", "b", "c"], 30))
    assert {plot.name for plot in plots} == {"classes.png", "confusion.png", "curves.png", "order.png"}
    for plot in plots:
        with Image.open(plot) as picture:
            assert min(picture.size) > 150
    assert not list(tmp_path.rglob("*.part*"))


def test_a_study_without_curves_order_and_clips(tmp_path: Path) -> None:
    full = make_study(tmp_path / "run", ["a", "b", "c"], 30)
    odd = Path("run\udcff")  # a name whose bytes are no text
    study = Study(odd, full.file, full.results, full.tests, full.matrix, full.classes)
    page, plots = write_report(study, tmp_path / "elsewhere/page.html")
    assert page == tmp_path / "elsewhere/page.html"
    assert {plot.name for plot in plots} == {"classes.png", "confusion.png"}
    words = page.read_text()
    assert "How much time matters" not in words
    assert 'id="training"' not in words
    assert "run\\udcff" in words


def test_interval_of_a_share() -> None:
    """Wilson's interval, by hand: 8 of 10 -> 0.490 to 0.943; none of 10 -> 0 to 0.278."""
    assert interval(0.8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert interval(0.0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)


BROWSER = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)


@pytest.mark.skipif(not BROWSER, reason="no Chromium here")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_in_a_browser(page: Path, tmp_path: Path, scheme: str) -> None:
    """The script runs, and there is something to see on light and on dark paper."""
    options = [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1100,2400", f"--user-data-dir={tmp_path}/u",
               f"--blink-settings=preferredColorScheme={int(scheme == 'light')}"]  # fmt: skip
    dom = subprocess.run(
        [*options, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    assert "400 classes. Point at a cell" in dom.stdout
    shot = tmp_path / "page.png"
    subprocess.run([*options, f"--screenshot={shot}", page.as_uri()], capture_output=True, timeout=120, check=True)
    with Image.open(shot) as picture:
        pixels = np.asarray(picture.convert("L"))
    paper = np.median(pixels)
    assert paper > 240 if scheme == "light" else paper < 60
    assert (np.abs(pixels.astype(int) - paper) > 60).mean() > 0.01
