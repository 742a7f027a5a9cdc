"""How fast our TFLite files run on LiteRT, beside those of TensorFlow's converter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from benchmarks._formats_nets import MODELS, case_of
from benchmarks.nets.case import write_arrays
from benchmarks.nets.places import (
    CONVERSION_TIMEOUT_S,
    data_folder,
    keep,
    run_script,
    toolchain,
)
from skerry.core.durable import make_folder
from skerry.tasks.measure import Ratio, measure_latency, ratio

TENSORFLOW = "tensorflow-onnx"
SOURCES = {"kws": "kws/saved_model", "resnet8": "ic/pretrainedResnet.h5"}
"""The nets that are there in a form that TensorFlow's converter takes."""

BLOCK = 20
"""Inferences a turn: one alone takes a tenth of a millisecond."""


def missing() -> str | None:
    """Say what is missing, and how to get it."""
    return toolchain(TENSORFLOW)()


def converted(name: str, work: Path, *, quick: bool) -> Path:
    """A net as TensorFlow's converter makes it, calibrated on the same samples."""
    make_folder(work / "files")
    return keep(
        work / "files" / f"{name}-tensorflow.tflite",
        lambda part: _convert(name, work, part, quick=quick),
    )


def _convert(name: str, work: Path, path: Path, *, quick: bool) -> None:
    case = case_of(name, work, quick=quick)
    rows = [next(iter(one.inputs.values()))[0] for one in case.calibration]
    samples = work / "files" / f"{name}-calibration.npz"
    write_arrays(samples, "input", np.stack(rows))
    run_script(
        TENSORFLOW,
        "tensorflow_int8.py",
        [data_folder(MODELS) / SOURCES[name], samples, path],
        timeout_s=CONVERSION_TIMEOUT_S,
    )


def compare(ours: Path, theirs: Path, *, repeats: int) -> tuple[Ratio, float, float]:
    """Time two files in turns, on one thread and LiteRT's default kernels.

    Returns:
        Ours ÷ theirs in CPU time, then the median of each, milliseconds an inference.
    """
    nets = {"ours": _Net(ours), "theirs": _Net(theirs)}
    times = measure_latency(
        {name: net.block for name, net in nets.items()}, repeats=repeats
    )
    found = ratio(times["ours"], times["theirs"])
    each = (times[name].median_cpu_ms / BLOCK for name in ("ours", "theirs"))
    return found, *each


class _Net:
    def __init__(self, path: Path) -> None:
        self._interpreter = Interpreter(model_path=str(path), num_threads=1)
        self._interpreter.allocate_tensors()
        (taken,) = self._interpreter.get_input_details()
        rng = np.random.default_rng(0)
        codes = rng.integers(-128, 128, taken["shape"]).astype(np.int8)
        self._interpreter.set_tensor(taken["index"], codes)

    def block(self) -> None:
        """Some inferences."""
        for _ in range(BLOCK):
            self._interpreter.invoke()
