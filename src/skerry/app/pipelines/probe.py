"""Ask installed toolchains and runtimes about operators, and write a target's table."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from skerry.adapt.probe.cases import Case, case_graph, case_of
from skerry.adapt.probe.learn import Answer, Ask
from skerry.adapt.probe.recode import recoded
from skerry.adapt.probe.sweeps import DTYPES
from skerry.adapt.tflite import write_tflite
from skerry.app.pipelines.vela import NAME as VELA
from skerry.app.pipelines.vela import VelaToolchain
from skerry.core.compiled import Compiled
from skerry.core.durable import write_file
from skerry.core.errors import ModelError, UsageError
from skerry.core.model import ModelFormat
from skerry.core.names import did_you_mean
from skerry.core.seams import LoadOptions, Runtime, Toolchain
from skerry.core.target import Citation, ProcessorKind, Target
from skerry.runtimes import RUNTIMES_OF, get_runtime, open_any
from skerry.tasks.made_up import made_up_inputs

BATCH = 96
"""Cases that are compiled as one model."""

REPEATS = 5
TFLITE_DTYPES = ("int8", "uint8", "int16", "int32", "float32")
"""What operators of TFLite compute in."""

RECODED = frozenset({"uint8", "int16"})
"""Codes that TFLite has and that are not written from ONNX, but from int8."""

VELA_SOURCE = "https://gitlab.arm.com/artificial-intelligence/ethos-u/ethos-u-vela"
RUNTIME_SOURCES = {
    "onnxruntime": "https://github.com/microsoft/onnxruntime",
    "openvino": "https://github.com/openvinotoolkit/openvino",
    "litert": "https://github.com/google-ai-edge/LiteRT",
}
TOOLCHAINS = (VELA, *RUNTIME_SOURCES)

_TAKE_ONNX = RUNTIMES_OF[ModelFormat.ONNX]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asker:
    """A toolchain, ready to be asked.

    Attributes:
        ask: Answers cases.
        dtypes: What it is asked about.
        version: What is asked, and its version.
        source: How a target file cites it.
    """

    ask: Ask
    dtypes: tuple[str, ...]
    version: str
    source: Citation


def open_asker(name: str, target: Target, *, date: str) -> Asker:
    """Make a toolchain ready to be asked what it runs on a target.

    Args:
        name: One of `TOOLCHAINS`.
        target: What the toolchain compiles for; a runtime runs here instead.
        date: Of the day, for the citation.

    Raises:
        UsageError: There is no such toolchain.
        ToolchainError: It is not installed, or too old.
        TargetError: It does not compile for this target.
        MissingExtraError: The runtime is not installed.
    """
    if name not in TOOLCHAINS:
        raise UsageError(
            f"{name!r} cannot be probed", hint=did_you_mean(name, TOOLCHAINS)
        )
    if name == VELA:
        vela = VelaToolchain()
        version = vela.version
        number = version.rpartition(" ")[2]
        url = f"{VELA_SOURCE}/-/tree/{number}"
        ask: Ask = CompilerAsker(vela, target)
    else:
        runtime = get_runtime(name)
        version = f"{name} {runtime.version}"
        url = RUNTIME_SOURCES[name]
        ask = RuntimeAsker(runtime)
    command = f"skerry target probe {target.name} --toolchain {name}"
    source = Citation(
        source=f"{command}: models of one operator each, asked of {version}",
        url=url,
        quote=version,
        date=date,
    )
    dtypes = DTYPES if name in _TAKE_ONNX else TFLITE_DTYPES
    return Asker(ask=ask, dtypes=dtypes, version=version, source=source)


class CompilerAsker:
    """Asks a compiler of TFLite files, many cases in one model.

    Args:
        toolchain: The compiler.
        target: What it compiles for.
    """

    def __init__(self, toolchain: Toolchain, target: Target) -> None:
        self._toolchain = toolchain
        self._target = target
        self._writable: dict[tuple[str, str, int], str] = {}

    def __call__(self, cases: Sequence[Case]) -> list[Answer]:
        """Answer cases; one that cannot be written as TFLite does not run."""
        answers: dict[int, Answer] = {}
        alike: dict[str, list[int]] = {}
        for number, case in enumerate(cases):
            if refused := self._unwritten(case):
                answers[number] = Answer(runs=False, reason=refused)
            else:
                alike.setdefault(case.dtype, []).append(number)
        for numbers in alike.values():
            for start in range(0, len(numbers), BATCH):
                chosen = numbers[start : start + BATCH]
                found = self._together([cases[number] for number in chosen])
                answers |= dict(zip(chosen, found, strict=True))
        return [answers[number] for number in range(len(cases))]

    def _unwritten(self, case: Case) -> str:
        """Why no case of this kind can be written as TFLite; empty if it can."""
        key = (case.op_type, case.dtype, len(case.weights))
        if key not in self._writable:
            self._writable[key] = _unwritten(case)
        return self._writable[key]

    def _together(self, cases: Sequence[Case]) -> list[Answer]:
        """Compile cases as one model; if that fails, as two halves."""
        try:
            compiled = self._compile(cases)
        except ModelError as error:
            if len(cases) == 1:
                return [Answer(runs=False, reason=error.what)]
            middle = len(cases) // 2
            return [*self._together(cases[:middle]), *self._together(cases[middle:])]
        return _answers(compiled, len(cases))

    def _compile(self, cases: Sequence[Case]) -> Compiled:
        with TemporaryDirectory() as scratch:
            path = Path(scratch) / "probe.tflite"
            write_file(path, _tflite(cases))
            return self._toolchain.compile(open_any(path), self._target)


def _tflite(cases: Sequence[Case]) -> bytes:
    """Cases of one dtype as a TFLite file; codes are written as int8 first."""
    dtype = cases[0].dtype
    if dtype not in RECODED:
        return write_tflite(case_graph(cases))
    as_int8 = [replace(case, dtype="int8") for case in cases]
    return recoded(write_tflite(case_graph(as_int8)), dtype)


def _unwritten(case: Case) -> str:
    """Why a case cannot be written as TFLite; empty if it can."""
    try:
        _tflite([case])
    except ModelError as error:
        return error.what
    return ""


def _answers(compiled: Compiled, count: int) -> list[Answer]:
    """Tell the cases of one compiled model apart by the names of their tensors."""
    us_per_cycle = compiled.time_ms * 1000 / compiled.cycles if compiled.cycles else 0.0
    cycles = [0] * count
    left = [""] * count
    for operator in compiled.operators:
        number = case_of(operator.name)
        if number is None or number >= count:
            continue
        cycles[number] += operator.cycles
        if operator.kind is ProcessorKind.CPU:
            left[number] = f"{compiled.toolchain} leaves {operator.source} to the CPU"
    return [
        Answer(
            runs=not left[number],
            reason=left[number],
            time_us=cycles[number] * us_per_cycle or None,
        )
        for number in range(count)
    ]


class RuntimeAsker:
    """Asks a runtime of this machine, case by case, by running each.

    A quantized case runs if the runtime computes it in integers; where it dequantizes,
    computes in floats and quantizes again, it does not.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def __call__(self, cases: Sequence[Case]) -> list[Answer]:
        """Answer cases."""
        with TemporaryDirectory() as scratch:
            return [self._answer(case, Path(scratch)) for case in cases]

    def _answer(self, case: Case, folder: Path) -> Answer:
        is_onnx = self._runtime.name in _TAKE_ONNX
        path = folder / ("probe.onnx" if is_onnx else "probe.tflite")
        try:
            content = case_graph([case]).to_bytes() if is_onnx else _tflite([case])
            write_file(path, content)
            model = open_any(path)
            inputs = made_up_inputs(model.inputs)
            options = LoadOptions(threads=1)
            if not is_onnx:  # LiteRT tells no times
                with closing(self._runtime.load(model, options)) as session:
                    session.run(inputs)
                return Answer(runs=True)
            found = self._runtime.profile(model, inputs, options, repeats=REPEATS)
        except ModelError as error:
            return Answer(runs=False, reason=error.what)
        in_floats = [
            one
            for one in found.operators
            if case.op_type in one.op_type.split() and one.dtype.startswith("float")
        ]
        if in_floats and not case.dtype.startswith("float"):
            return Answer(runs=False, reason="computes it in floats")
        return Answer(runs=True, time_us=found.total_ms * 1000 or None)
