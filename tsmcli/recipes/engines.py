"""Choose an engine for a network, and open the network in it, converted where that pays."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from tsmcli.config import Views
from tsmcli.core.streaming import Step, StreamingTSM
from tsmcli.core.tsm import normalize
from tsmcli.data.location import Places
from tsmcli.engine.device import dtype_of, for_inference
from tsmcli.engine.exported_file import Runner, open_file
from tsmcli.engine.inference import (
    NEEDED,
    Choice,
    Engine,
    EngineName,
    as_input,
    choose_engine,
    compiled,
    file_engine,
    torch_engine,
)
from tsmcli.engine.packages import installed, need
from tsmcli.engine.sidecar import Exported
from tsmcli.errors import EnvironmentProblem, UsageError
from tsmcli.files import remove, sha256
from tsmcli.recipes.conversion import Kind, convert, engine_of, folder_of, kept_file
from tsmcli.recipes.events import Stage
from tsmcli.recipes.network import Opened

PAYS = (4, 32, 2000)
"""From how many views on it saves time to leave PyTorch: to open a network that is kept for another engine, to
convert it for one, and to convert it for two and time both."""


def open_engine(
    opened: Opened, wanted: Choice, device: torch.device, views: Views, videos: int,
    *, windows: bool = False, features: bool = False, places: Places | None = None,
) -> Generator[Stage, None, Engine]:  # fmt: skip
    """The network of a checkpoint, or an exported one, ready to score so many videos.

    `auto` in fp32 on a CPU is OpenVINO or onnxruntime, where one is installed, is worth its start for so many
    videos, and says what PyTorch says; else PyTorch. Of both it is the one that is faster here.

    Args:
        windows: score windows of videos; how many is known when a video is opened, so they count as many.
        features: give features of frames, not logits.
        places: where the training videos lie that an 8-bit network is calibrated with.

    Raises:
        DataError: they are not there.
        EnvironmentProblem: the engine is not installed, or does not compute like this.
        UsageError: the exported file is of other frames than the protocol's, or of a stream.
    """
    work = videos * views.views * (PAYS[1] if windows else 1)
    many = work > 2 * torch.get_num_threads()
    run, choice = yield from _open(
        opened, wanted, device, "features" if features else "clips", views.crop_px,
        work=work, many=many, places=places,
    )  # fmt: skip
    if run:
        file = opened.exported
        inside = {"pixels": file.pixels, "probabilities": file.probabilities} if file else {}
        return file_engine(run, choice, **inside)
    model = for_inference(opened.model, device, dtype=dtype_of(_in_torch(choice), device))
    engine = torch_engine(model, device, choice, features=features, many=many)
    if choice.engine == "torch-compile":
        clip = torch.zeros(1, model.num_segments, views.crop_px, views.crop_px, 3, dtype=torch.uint8)
        yield from _compile(opened, lambda: engine.run(clip.movedim(-1, 2)))
    return engine


def open_step(opened: Opened, wanted: Choice, device: torch.device) -> Generator[Stage, None, tuple[Step, Choice]]:
    """The network of a stream, for frames of pixels, uint8 [S, 3, H, W]; see `open_engine`.

    Raises:
        ConfigError: the network needs frames of the future.
    """
    crop_px = opened.config.test.crop_px
    run, choice = yield from _open(opened, wanted, device, "stream", crop_px, work=math.inf)
    if run:
        return _step_of_file(run, opened.exported), choice
    dtype = dtype_of(_in_torch(choice), device)
    network = for_inference(StreamingTSM(opened.model), device, dtype=dtype)

    step_of = compiled(network, device) if choice.engine == "torch-compile" else network

    def step(frames: Tensor, cache: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        logits, kept = step_of(normalize(frames.to(device)).to(dtype), cache)
        return logits.float(), kept

    if choice.engine == "torch-compile":
        frame = torch.zeros(1, crop_px, crop_px, 3, dtype=torch.uint8).movedim(-1, 1)
        yield from _compile(opened, lambda: step(frame, step(frame, [])[1]))
    return step, choice


def _compile(opened: Opened, call: Callable[[], object]) -> Iterator[Stage]:
    """Compile a network by calling it, before anything depends on it."""
    yield Stage(f"compiling {opened.name}, which may take a minute")
    try:
        with torch.inference_mode():
            call()
    except RuntimeError as error:
        hint = "it needs a C++ compiler; or --engine torch"
        raise EnvironmentProblem(f"torch.compile failed: {_first_line(error)}", hint) from error


def _step_of_file(run: Runner, file: Exported | None) -> Step:
    def step(frames: Tensor, cache: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        kept = cache or [torch.zeros(len(frames), *shape[1:]) for shape in run.shapes[1:]]
        scores, *after = run([as_input(frames[:, None], pixels=not file or file.pixels)[:, 0], *kept])
        return scores.log() if file and file.probabilities else scores, after

    return step


def _in_torch(choice: Choice) -> Literal["fp32", "bf16", "fp16"]:
    assert choice.precision != "int8"
    return choice.precision


def _open(
    opened: Opened, wanted: Choice, device: torch.device, kind: Kind, crop_px: int,
    *, work: float, many: bool = False, places: Places | None = None,
) -> Generator[Stage, None, tuple[Runner | None, Choice]]:  # fmt: skip
    """The network as an opened file of an engine; no file: PyTorch runs it as it is.

    Args:
        work: about how many views or frames it will score.
        many: get many calls done soon, not each of them.
        places: where the videos lie that an 8-bit network is calibrated with; None: in the usual place.
    """
    threads = torch.get_num_threads()
    if opened.exported:
        choice = choose_engine(of_file(opened.exported, wanted, kind, crop_px), device)
        try:
            return open_file(opened.path, choice.engine, choice.precision, threads, many=many), choice
        except RuntimeError as error:
            wrong = f"{choice.engine} cannot run {opened.path}: {_first_line(error)}"
            raise EnvironmentProblem(wrong, "another --engine") from error
    choice = choose_engine(wanted, device)
    int8, automatic = choice.precision == "int8", choice.engine == "auto"
    engines = [choice.engine]
    if automatic:
        engines = _for_int8() if int8 else _worth_it(opened, kind, crop_px, work)
    if engines[0].startswith("torch"):
        return None, replace(choice, engine=engines[0])
    folder = folder_of(opened, engines, kind, crop_px, int8=int8)

    def open_kept(file: Path) -> tuple[Runner, Choice]:
        weights = file.with_suffix(".bin") if engine_of(file) == "openvino" else file
        kept = replace(choice, engine=engine_of(file), file=sha256(weights) if int8 else "")
        return open_file(file, kept.engine, kept.precision, threads, many=many), kept

    try:
        if file := kept_file(folder):
            with contextlib.suppress(OSError, RuntimeError):  # what was kept is damaged: convert it again
                os.utime(folder)
                return open_kept(file)
            remove(folder)
        what = f"calibrating {opened.name} on training videos" if int8 else f"converting {opened.name}"
        yield Stage(f"{what} for {' and '.join(engines)}, once")
        calibration = places or Places() if int8 else None
        return open_kept(convert(opened, engines, kind, crop_px, folder, calibration, many=many))
    except (EnvironmentProblem, OSError, RuntimeError) as error:
        if (int8 or not automatic) and isinstance(error, RuntimeError):
            wrong = f"{' and '.join(engines)} cannot run this network: {_first_line(error)}"
            raise EnvironmentProblem(wrong, "another --precision" if int8 else "--engine torch") from error
        if int8 or not automatic:
            raise
        yield Stage(f"{' and '.join(engines)} cannot be used, so PyTorch is: {_first_line(error)}")
        return None, replace(choice, engine="torch")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _for_int8() -> list[EngineName]:
    """The engines that `auto` chooses from for 8 bits; onnxruntime is needed in any case, to calibrate."""
    need(*NEEDED["onnxruntime"])
    return ["onnxruntime", "openvino"] if installed("openvino") else ["onnxruntime"]


def _worth_it(opened: Opened, kind: Kind, crop_px: int, work: float) -> list[EngineName]:
    """The engines of which `auto` takes the faster one for so much work; for little it is PyTorch."""
    there: list[EngineName] = [name for name, packages in NEEDED.items() if all(map(installed, packages))]
    for engines in filter(None, (there, there[:1])):
        kept = kept_file(folder_of(opened, engines, kind, crop_px))
        if work >= PAYS[0 if kept else len(engines)]:
            return engines
    return ["torch"]


def of_file(file: Exported, wanted: Choice, kind: Kind, crop_px: int) -> Choice:
    """What can run an exported file; UsageError where the file is of something else than is asked of it."""
    if file.stream != (kind == "stream") or kind == "features":
        of = "frames of a stream" if file.stream else "clips"
        raise UsageError(
            f"{file.path} takes {of}", hint="tsm export writes both kinds; --stream makes the difference"
        )
    if file.crop_px != crop_px:
        raise UsageError(
            f"{file.path} takes frames of {file.crop_px} px, not {crop_px}", "choose another --protocol"
        )
    if file.int8 != (wanted.precision == "int8") and wanted.precision != "fp32":
        raise UsageError(f"{file.path} computes in {'int8' if file.int8 else 'fp32'}, not in {wanted.precision}")
    able: dict[str, tuple[Literal["torch", "openvino", "onnxruntime"], ...]] = {
        ".pt2": ("torch",), ".xml": ("openvino",), ".onnx": ("onnxruntime", "openvino"),
    }  # fmt: skip
    engines = able[file.path.suffix]
    if wanted.engine not in ("auto", *engines):
        raise EnvironmentProblem(f"{wanted.engine} does not read {file.path}", hint=f"--engine {engines[0]}")
    there = [engine for engine in engines if installed(engine)]
    chosen = (there or engines)[0] if wanted.engine == "auto" else wanted.engine
    return Choice(chosen, "int8" if file.int8 else wanted.precision)
