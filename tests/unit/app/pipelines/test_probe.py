"""Toolchains are asked about operators, and their answers told apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from skerry.adapt.probe.cases import Case
from skerry.adapt.probe.sweeps import all_sweeps
from skerry.adapt.target_files import load_target
from skerry.adapt.tflite import _schema
from skerry.app.pipelines.probe import CompilerAsker, RuntimeAsker, open_asker
from skerry.core.compiled import Compiled, CompiledOperator
from skerry.core.errors import ModelError, ToolchainError, UsageError
from skerry.core.model import Model
from skerry.core.target import ProcessorKind, Target
from skerry.runtimes import get_runtime

ETHOS = load_target("ethos-u55-128")
SWEEPS = {sweep.op_type: sweep for sweep in reversed(all_sweeps())}


def case(op_type: str, dtype: str = "int8", **settings: int) -> Case:
    """The first case of an operator."""
    return SWEEPS[op_type].case(dtype, **settings)


class Compiler:
    """Leaves SIN to the CPU, fails on a SOFTMAX, and takes 100 cycles for all else."""

    name = version = "a compiler"

    def __init__(self) -> None:
        self.compiled = 0

    def compile(
        self, model: Model, target: Target, out: Path | None = None
    ) -> Compiled:
        """Place the operators of a TFLite file."""
        del target, out
        self.compiled += 1
        net = _schema.decode(model.path.read_bytes(), "net")
        if any(one.code == "SOFTMAX" for one in net.operators):
            raise ModelError("it crashed", hint="none")
        operators = tuple(
            CompiledOperator(
                name=net.tensors[one.outputs[0]].name,
                source=one.code,
                op_type=one.code,
                kind=ProcessorKind.CPU if one.code == "SIN" else ProcessorKind.NPU,
                cycles=100,
                macs=0,
            )
            for one in net.operators
        )
        cycles = 100 * len(operators)
        return Compiled(
            toolchain="a compiler",
            operators=operators,
            cycles=cycles,
            memory_bytes=0,
            storage_bytes=0,
            time_ms=cycles / 1e5,
            macs=0,
        )


def test_many_cases_are_compiled_as_one_model() -> None:
    """One model a dtype; each case gets its own answer and its own time."""
    compiler = Compiler()
    ask = CompilerAsker(compiler, ETHOS)
    asked = [case("Relu"), case("Sin"), case("Tanh"), case("Relu", "uint8")]
    answers = ask(asked)
    relu, sin, *_ = answers
    assert compiler.compiled == 2
    assert [one.runs for one in answers] == [True, False, True, True]
    assert sin.reason == "a compiler leaves SIN to the CPU"
    assert relu.time_us == pytest.approx(1.0)


def test_one_case_that_fails_does_not_take_the_others_down() -> None:
    """The model is halved until the case that the compiler fails on is alone."""
    ask = CompilerAsker(Compiler(), ETHOS)
    answers = ask([case("Relu"), case("Tanh"), case("Softmax"), case("Sigmoid")])
    assert [one.runs for one in answers] == [True, True, False, True]
    assert answers[2].reason == "it crashed"


def test_what_cannot_be_written_does_not_run() -> None:
    """The reason is the writer's."""
    (answer,) = CompilerAsker(Compiler(), ETHOS)([case("Softsign")])
    assert not answer.runs
    assert "Softsign" in answer.reason


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_runtime_is_asked_by_running(runtime: str) -> None:
    """What it computes in floats, though quantized, does not run in integers."""
    ask = RuntimeAsker(get_runtime(runtime))
    relu, convolution, sin = ask(
        [case("Relu", "float32"), case("Conv", "int8"), case("Sin", "int8")]
    )
    assert relu.runs
    assert relu.time_us
    assert convolution.runs
    assert not sin.runs


def test_litert_runs_tflite_files() -> None:
    """It says no times."""
    (answer,) = RuntimeAsker(get_runtime("litert"))([case("Conv", "int8")])
    assert answer.runs
    assert answer.time_us is None


def test_unknown_and_missing_toolchains_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The nearest name, or how to get it."""
    with pytest.raises(UsageError, match="'velo' cannot be probed") as caught:
        open_asker("velo", ETHOS, date="2026-11-21")
    assert "vela" in caught.value.hint
    monkeypatch.setenv("SKERRY_TOOLCHAINS", str(tmp_path))
    with pytest.raises(ToolchainError, match="is not installed"):
        open_asker("vela", ETHOS, date="2026-11-21")
    asker = open_asker("onnxruntime", ETHOS, date="2026-11-21")
    assert asker.version.startswith("onnxruntime ")
    assert asker.source.quote == asker.version
