"""Who quantizes what in benchmark `compress_ptq`, and what is left out and why."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.nets.case import Case
from skerry.tasks.task import TaskKind

FLOAT = "float32"
OURS = "skerry"
COMPRESS = f"{OURS} compress"
FIXED = f"{OURS}, fixed"
ACCURATE = f"{OURS}, accurate"
PER_TENSOR = f"{OURS}, accurate per tensor"
COMPRESS_OPENVINO = f"{OURS} compress for openvino"
ORT_PER_CHANNEL = "onnxruntime per channel"
ORT_PER_TENSOR = "onnxruntime per tensor"
NNCF_CONTROL = "nncf accuracy control"

ORT = "onnxruntime"
OPENVINO = "openvino"

MOST_SMALL_INPUT = 3 * 112 * 112
"""Numbers in the largest input on which methods run that are slow or keep every
activation in memory."""

Key = tuple[str, str]
"""A net and a quantizer, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Net:
    """One net of the benchmark with one seed.

    Attributes:
        name: What `benchmarks.nets` calls it.
        seed: Of its training, or of its data.
        folder: Where its case is.
    """

    name: str
    seed: int
    folder: Path

    @property
    def label(self) -> str:
        """What tables and folders call it."""
        return f"{self.name}-seed{self.seed}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantizer:
    """One way to make a model of a net.

    Attributes:
        name: In the tables.
        tool: The tool's own name, for the plot.
        setting: What its script calls this way.
        runtimes: Where its models run; the first is what they are meant for.
        script: Of a peer, in `benchmarks/peers`; none where it is ours.
        toolchain: The peer's environment.
        small_only: Whether it is left out on larger inputs.
        kinds: Of tasks that it is run for; all where empty.
    """

    name: str
    tool: str
    setting: str
    runtimes: tuple[str, ...] = (ORT, OPENVINO)
    script: str = ""
    toolchain: str = ""
    small_only: bool = False
    kinds: tuple[TaskKind, ...] = ()

    def left_out(self, case: Case) -> str:
        """Why it is not run on a net, or empty."""
        if self.kinds and case.task.kind not in self.kinds:
            return f"left out: run for {' and '.join(self.kinds)} only"
        if self.small_only and input_size(case) > MOST_SMALL_INPUT:
            return "left out: run on nets with small inputs only"
        return ""


def input_size(case: Case) -> int:
    """How many numbers one sample has."""
    sample = next(iter(case.calibration))
    return sum(math.prod(array.shape) for array in sample.inputs.values())


def _ours(name: str, *runtimes: str, kinds: Sequence[TaskKind] = ()) -> Quantizer:
    return Quantizer(
        name=name,
        tool=OURS,
        setting=name.removeprefix(OURS).lstrip(", "),
        runtimes=runtimes or (ORT, OPENVINO),
        kinds=tuple(kinds),
    )


def _ort(setting: str, *, small_only: bool = False) -> Quantizer:
    return Quantizer(
        name=f"onnxruntime {setting}",
        tool="onnxruntime",
        setting=setting,
        script="ort.py",
        toolchain="onnxruntime-quantization",
        small_only=small_only,
    )


def _nncf(setting: str, *runtimes: str) -> Quantizer:
    return Quantizer(
        name=f"nncf {setting}",
        tool="nncf",
        setting=setting,
        runtimes=runtimes,
        script="nncf_ptq.py",
        toolchain="nncf",
    )


def _aimet(setting: str, *, small_only: bool = False) -> Quantizer:
    return Quantizer(
        name=f"aimet {setting}",
        tool="aimet",
        setting=setting,
        script="aimet_ptq.py",
        toolchain="aimet-onnx",
        small_only=small_only,
    )


QUANTIZERS: Mapping[str, Quantizer] = {
    one.name: one
    for one in (
        _ours(COMPRESS),
        _ours(COMPRESS_OPENVINO, OPENVINO, kinds=(TaskKind.DETECTION,)),
        _ours(FIXED),
        _ours(ACCURATE),
        _ours(PER_TENSOR),
        _ort("per channel"),
        _ort("per tensor"),
        _ort("with weights"),
        _ort("per channel uint8"),
        _ort("with weights uint8"),
        _ort("percentile"),
        _ort("entropy", small_only=True),
        _nncf("onnx", ORT, OPENVINO),
        _nncf("openvino", OPENVINO),
        _nncf("accuracy control", OPENVINO),
        _aimet("defaults"),
        _aimet("equalized"),
        _aimet("adaround", small_only=True),
        Quantizer(
            name="onnx-neural-compressor per channel",
            tool="onnx-neural-compressor",
            setting="per channel",
            script="inc_ptq.py",
            toolchain="onnx-neural-compressor",
        ),
    )
}
"""Every quantizer by its name in the tables."""

QUICK = (COMPRESS, FIXED, ORT_PER_CHANNEL, ORT_PER_TENSOR)
"""What a quick run has."""
