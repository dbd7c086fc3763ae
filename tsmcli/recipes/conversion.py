"""Networks converted for an engine: written once, compared with PyTorch, timed, and kept for the next time."""

from __future__ import annotations

import copy
import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import torch
from filelock import FileLock
from torch import Tensor

from tsmcli import __version__
from tsmcli.core.exportable import ClipNetwork, Signature, StreamNetwork
from tsmcli.core.inference import fold_batch_norms, for_single_clips
from tsmcli.core.tsm import TSM
from tsmcli.data.location import Places, find_split
from tsmcli.engine.exported_file import Runner, onnx_to_openvino, open_file, trace, write_onnx, write_openvino
from tsmcli.engine.inference import EngineName
from tsmcli.engine.packages import version_of
from tsmcli.engine.quantiser import LIMIT
from tsmcli.errors import DataError, EnvironmentProblem
from tsmcli.files import cache_home, remove, replacing
from tsmcli.recipes.export.check import compare_clips, compare_streams
from tsmcli.recipes.export.quantise import calibrate
from tsmcli.recipes.network import Opened

TOLERANCE = 1e-5
"""The largest difference of scores from PyTorch's, over the largest score but at least 1."""
KEPT = 8
"""Converted networks that are kept; those not used for longest go."""
CALIBRATED_ON = 32
"""Training videos that an 8-bit network gets its scales from; as many as `tsm export --int8` takes."""

_PATIENCE_SEC = 300
"""How long to wait for another process that converts a network."""
_TIMING_SEC = 2.0
"""How long two engines are timed beside one another, or three calls of each."""

Kind = Literal["clips", "features", "stream"]


def folder_of(
    opened: Opened, engines: Sequence[EngineName], kind: Kind, crop_px: int, *, int8: bool = False
) -> Path:
    """Where a converted network is kept: named by everything that decides what is in it.

    Of 8-bit numbers that is also the calibration, which is the first one's as long as it is kept.
    """
    facts = [
        __version__, *((name, version_of(name)) for name in engines), version_of("torch"), kind, crop_px,
        opened.sha256, opened.config.model.identity(), len(opened.class_names), "int8" if int8 else "fp32",
    ]  # fmt: skip
    return cache_home() / "engines" / hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]


def kept_file(folder: Path) -> Path | None:
    """The converted network in a folder, if there is one."""
    return next((path for path in (folder / "model.xml", folder / "model.onnx") if path.is_file()), None)


def engine_of(file: Path) -> EngineName:
    """Which engine a file of a converted network is for."""
    return "onnxruntime" if file.suffix == ".onnx" else "openvino"


def convert(
    opened: Opened, engines: Sequence[EngineName], kind: Kind, crop_px: int, folder: Path,
    calibration: Places | None = None, *, many: bool = False,
) -> Path:  # fmt: skip
    """Write a network of pixels for the engine that is faster here, and forget the network not used for longest.

    Args:
        engines: to choose from; one that cannot be used is left out if another can.
        calibration: where the training videos lie that give an 8-bit network its scales; None: it stays in fp32.
        many: it will be called for many views at a time.

    Raises:
        DataError: there are no training videos.
        EnvironmentProblem: what was written does not say what PyTorch says.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / ".lock", timeout=_PATIENCE_SEC):
        if file := kept_file(folder):  # by a process that was faster
            return file
        remove(folder)  # what somebody has taken files out of
        with replacing(folder) as draft:
            draft.mkdir()
            if calibration:
                written = _write_int8(opened, engines, kind, crop_px, draft, calibration)
            else:
                written = dict(_write_each(opened.model, engines, kind, crop_px, draft))
            best = _fastest(written, many=many)
            for path in draft.iterdir():
                if engine_of(path) != engine_of(best):
                    remove(path)
        kept = [path for path in folder.parent.iterdir() if "." not in path.name]
        for old in sorted(kept, key=lambda path: path.stat().st_mtime)[:-KEPT]:
            remove(old)
    return folder / best.name


def _write_each(
    model: TSM, engines: Sequence[EngineName], kind: Kind, crop_px: int, folder: Path
) -> Iterator[tuple[Path, Signature]]:
    """A file for each engine that can be used, and its inputs; the last engine's error if there is none."""
    usable = 0
    for place, engine in enumerate(engines):
        try:
            yield _write(model, engine, kind, crop_px, folder)
            usable += 1
        except (EnvironmentProblem, RuntimeError):
            if place == len(engines) - 1 and not usable:
                raise


def _write(model: TSM, engine: EngineName, kind: Kind, crop_px: int, folder: Path) -> tuple[Path, Signature]:
    ready = fold_batch_norms(copy.deepcopy(model))
    if engine == "openvino" and kind != "stream":
        for_single_clips(ready)
    if kind == "stream":
        steps = [StreamNetwork(one, pixels=True) for one in (model, ready)]
        run, signature = write_for(engine, folder, steps[1], crop_px)
        difference = compare_streams(steps[0], run, signature, crop_px, batches=[1], cache=False)
    else:
        clips = [ClipNetwork(one, pixels=True, features=kind == "features") for one in (model, ready)]
        run, signature = write_for(engine, folder, clips[1], crop_px)
        difference = compare_clips(clips[0], run, crop_px, batches=[1])
    if not difference <= TOLERANCE:
        raise EnvironmentProblem(f"{engine} differs from PyTorch by {difference:.1e}", hint="--engine torch")
    return folder / ("model.xml" if engine == "openvino" else "model.onnx"), signature


def _fastest(files: dict[Path, Signature], *, many: bool) -> Path:
    """The file whose quickest call is the quickest, all called in turn; the values are their inputs."""
    first, *others = files
    if not others:
        return first
    threads = torch.get_num_threads()
    runs = {file: open_file(file, engine_of(file), threads=threads, many=many) for file in files}
    inputs = {file: _one_of(signature) for file, signature in files.items()}
    times = {file: list[float]() for file in files}
    start = time.perf_counter()
    while len(times[first]) < 3 or time.perf_counter() - start < _TIMING_SEC:
        for file, run in runs.items():
            began = time.perf_counter()
            run(inputs[file])
            times[file].append(time.perf_counter() - began)
    return min(files, key=lambda file: min(times[file]))


def _write_int8(
    opened: Opened, engines: Sequence[EngineName], kind: Kind, crop_px: int, folder: Path, places: Places
) -> dict[Path, Signature]:
    """The 8-bit form of a network as ONNX, for OpenVINO, or both where OpenVINO can run it; and its inputs."""
    try:
        train = find_split(opened.config.data, places, "train", opened.class_names)
    except DataError as error:
        hint = "tsm export CHECKPOINT model.onnx --int8 takes --train-list and --media, and makes a file to use"
        raise DataError(f"8 bits are calibrated with training videos: {error}", hint) from None
    file, signature = _write(opened.model, "onnxruntime", kind, crop_px, folder)
    calibrate(file, opened.config, train, CALIBRATED_ON, signature)
    written = {file: signature}
    if "openvino" in engines:
        try:
            other, inputs = onnx_to_openvino(file), _one_of(signature)
            one, two = (open_file(path, engine_of(path), "int8")(inputs)[0] for path in (file, other))
            if not (one - two).norm() <= LIMIT * one.norm():
                raise EnvironmentProblem("openvino differs from onnxruntime in 8 bits", "--engine onnxruntime")
            written[other] = signature
        except (EnvironmentProblem, RuntimeError):  # OpenVINO does not take every clip in 8 bits
            if len(engines) == 1:
                raise
    return {path: written[path] for path in written if engine_of(path) in engines}


def _one_of(signature: Signature) -> list[Tensor]:
    """Inputs of a single clip or stream."""
    return [tensor[:1].contiguous() for tensor in signature.inputs.values()]


def write_for(
    engine: str, folder: Path, network: ClipNetwork | StreamNetwork, crop_px: int
) -> tuple[Runner, Signature]:
    """Write a network into a folder for OpenVINO, or as ONNX for onnxruntime, and open it."""
    if engine == "openvino":
        signature = network.signature(crop_px, 1)
        return open_file(write_openvino(folder, network, signature), engine), signature
    signature = network.signature(crop_px)
    return write_onnx(folder / "model.onnx", trace(network, signature), signature), signature
