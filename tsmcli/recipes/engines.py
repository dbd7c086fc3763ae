"""Choose an engine for a network, convert the network for it where that pays, and keep what was converted."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import os
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from filelock import FileLock
from torch import Tensor

from tsmcli import __version__
from tsmcli.config import Views
from tsmcli.core.exportable import ClipNetwork, Signature, StreamNetwork
from tsmcli.core.inference import fold_batch_norms, for_single_clips
from tsmcli.core.streaming import Step, StreamingTSM
from tsmcli.core.tsm import TSM, normalize
from tsmcli.engine.device import dtype_of, for_inference
from tsmcli.engine.exported_file import Runner, open_file, trace, write_onnx, write_openvino
from tsmcli.engine.inference import Choice, Engine, as_input, choose_engine, file_engine, torch_engine
from tsmcli.engine.packages import installed, version_of
from tsmcli.engine.sidecar import Exported
from tsmcli.errors import EnvironmentProblem, UsageError
from tsmcli.files import cache_home, remove, replacing
from tsmcli.recipes.events import Stage
from tsmcli.recipes.export.check import compare_clips, compare_streams
from tsmcli.recipes.network import Opened

PAYS = {True: 4, False: 32}
"""From how many views on OpenVINO saves more time than opening a kept network takes (True), or converting one."""
TOLERANCE = 1e-5
"""The largest difference of scores from PyTorch's, over the largest score but at least 1."""
KEPT = 8
"""Converted networks that are kept; those not used for longest go."""

_PATIENCE_SEC = 300
"""How long to wait for another process that converts a network."""

Kind = Literal["clips", "features", "stream"]


def open_engine(
    opened: Opened, wanted: Choice, device: torch.device, views: Views, videos: int,
    *, windows: bool = False, features: bool = False,
) -> Generator[Stage, None, Engine]:  # fmt: skip
    """The network of a checkpoint, or an exported one, ready to score so many videos.

    `auto` in fp32 on a CPU is OpenVINO, where that is installed, is worth its start for so many videos, and says
    what PyTorch says; else PyTorch.

    Args:
        windows: score windows of videos; how many is known when a video is opened, so they count as many.
        features: give features of frames, not logits.

    Raises:
        EnvironmentProblem: the engine is not installed, or does not compute like this.
        UsageError: the exported file is of other frames than the protocol's, or of a stream.
    """
    work = videos * views.views * (PAYS[False] if windows else 1)
    run, choice = yield from _open(
        opened, wanted, device, "features" if features else "clips", views.crop_px,
        pays=lambda kept: work >= PAYS[kept], many=work > 2 * torch.get_num_threads(),
    )  # fmt: skip
    if run:
        file = opened.exported
        inside = {"pixels": file.pixels, "probabilities": file.probabilities} if file else {}
        return file_engine(run, choice, **inside)
    model = for_inference(opened.model, device, dtype=dtype_of(_in_torch(choice), device))
    return torch_engine(model, device, choice.precision, features=features)


def open_step(opened: Opened, wanted: Choice, device: torch.device) -> Generator[Stage, None, tuple[Step, Choice]]:
    """The network of a stream, for frames of pixels, uint8 [S, 3, H, W]; see `open_engine`.

    Raises:
        ConfigError: the network needs frames of the future.
    """
    crop_px = opened.config.test.crop_px
    run, choice = yield from _open(opened, wanted, device, "stream", crop_px, pays=lambda _: True)
    if run:
        return _step_of_file(run, opened.exported), choice
    dtype = dtype_of(_in_torch(choice), device)
    network = for_inference(StreamingTSM(opened.model), device, dtype=dtype)

    def step(frames: Tensor, cache: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        logits, kept = network(normalize(frames.to(device)).to(dtype), cache)
        return logits.float(), kept

    return step, choice


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
    *, pays: Callable[[bool], bool], many: bool = False,
) -> Generator[Stage, None, tuple[Runner | None, Choice]]:  # fmt: skip
    """The network as an opened file of an engine; no file: PyTorch runs it as it is.

    Args:
        pays: whether OpenVINO is worth its start, where a converted network is kept already, and where not.
        many: get many calls done soon, not each of them.
    """
    threads = torch.get_num_threads()
    if opened.exported:
        choice = choose_engine(of_file(opened.exported, wanted, kind, crop_px), device)
        return open_file(opened.path, choice.engine, choice.precision, threads, many=many), choice
    if wanted.precision == "int8":
        hint = "tsm export CHECKPOINT model.onnx --int8 calibrates a file to use instead"
        raise UsageError(f"{opened.path} has no 8-bit numbers", hint)
    choice = choose_engine(wanted, device)
    automatic = choice.engine == "auto"
    if automatic:
        choice = replace(choice, engine="openvino" if pays(True) and installed("openvino") else "torch")
    if choice.engine == "torch":
        return None, choice
    folder = _folder(opened, choice.engine, kind, crop_px)
    if automatic and not pays(folder.is_dir()):
        return None, replace(choice, engine="torch")
    file = folder / ("model.xml" if choice.engine == "openvino" else "model.onnx")
    try:
        if folder.is_dir():
            with contextlib.suppress(OSError, RuntimeError):  # what was kept is damaged: convert it again
                os.utime(folder)
                return open_file(file, choice.engine, choice.precision, threads, many=many), choice
            remove(folder)
        yield Stage(f"converting {opened.name} for {choice.engine}, once")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.parent / ".lock", timeout=_PATIENCE_SEC):
            if not folder.is_dir():  # by a process that was faster
                _convert(opened.model, choice.engine, kind, crop_px, folder)
        return open_file(file, choice.engine, choice.precision, threads, many=many), choice
    except (EnvironmentProblem, OSError, RuntimeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if not automatic and isinstance(error, RuntimeError):
            raise EnvironmentProblem(
                f"{choice.engine} cannot run this network: {reason}", "--engine torch"
            ) from error
        if not automatic:
            raise
        yield Stage(f"OpenVINO cannot be used, so PyTorch is: {reason}")
        return None, replace(choice, engine="torch")


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


def _folder(opened: Opened, engine: str, kind: Kind, crop_px: int) -> Path:
    """Where a converted network is kept: named by everything that decides what is in it."""
    facts = [
        __version__, engine, version_of(engine), version_of("torch"), kind, crop_px, opened.sha256,
        opened.config.model.identity(), len(opened.class_names),
    ]  # fmt: skip
    return cache_home() / "engines" / hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]


def _convert(model: TSM, engine: str, kind: Kind, crop_px: int, folder: Path) -> None:
    """Write a network of pixels for an engine, and forget the one not used for longest.

    Raises:
        EnvironmentProblem: it does not say what PyTorch says.
    """
    ready = fold_batch_norms(copy.deepcopy(model))
    if engine == "openvino" and kind != "stream":
        for_single_clips(ready)
    with replacing(folder) as draft:
        draft.mkdir()
        if kind == "stream":
            steps = [StreamNetwork(one, pixels=True) for one in (model, ready)]
            run, signature = write_for(engine, draft, steps[1], crop_px)
            difference = compare_streams(steps[0], run, signature, crop_px, batches=[1], cache=False)
        else:
            clips = [ClipNetwork(one, pixels=True, features=kind == "features") for one in (model, ready)]
            run, _ = write_for(engine, draft, clips[1], crop_px)
            difference = compare_clips(clips[0], run, crop_px, batches=[1])
        if not difference <= TOLERANCE:
            raise EnvironmentProblem(f"{engine} differs from PyTorch by {difference:.1e}", hint="--engine torch")
    kept = [path for path in folder.parent.iterdir() if "." not in path.name]
    for old in sorted(kept, key=lambda path: path.stat().st_mtime)[:-KEPT]:
        remove(old)


def write_for(
    engine: str, folder: Path, network: ClipNetwork | StreamNetwork, crop_px: int
) -> tuple[Runner, Signature]:
    """Write a network into a folder for OpenVINO, or as ONNX for onnxruntime, and open it."""
    if engine == "openvino":
        signature = network.signature(crop_px, 1)
        return open_file(write_openvino(folder, network, signature), engine), signature
    signature = network.signature(crop_px)
    return write_onnx(folder / "model.onnx", trace(network, signature), signature), signature
