"""Toolchains are asked about operators, and their answers told apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from skerry.adapt.probe.cases import Case
from skerry.adapt.probe.sweeps import all_sweeps
from skerry.adapt.target_files import load_target
from skerry.app.pipelines.probe import CompilerAsker, RuntimeAsker, open_asker
from skerry.app.simulate.toolchain import SimulatedToolchain
from skerry.core.errors import ToolchainError, UsageError
from skerry.runtimes import get_runtime

ETHOS = load_target("ethos-u55-128")
SWEEPS = {sweep.op_type: sweep for sweep in reversed(all_sweeps())}


def case(op_type: str, dtype: str = "int8", **settings: int) -> Case:
    """The first case of an operator."""
    return SWEEPS[op_type].case(dtype, **settings)


def compiler() -> SimulatedToolchain:
    """Leaves SIN to the CPU, and fails on a SOFTMAX."""
    return SimulatedToolchain(left=frozenset({"SIN"}), fatal=frozenset({"SOFTMAX"}))


def test_many_cases_are_compiled_as_one_model() -> None:
    """One model a dtype; each case gets its own answer and its own time."""
    toolchain = compiler()
    ask = CompilerAsker(toolchain, ETHOS)
    asked = [case("Relu"), case("Sin"), case("Tanh"), case("Relu", "uint8")]
    answers = ask(asked)
    relu, sin, *_ = answers
    assert toolchain.compiled == 2
    assert [one.runs for one in answers] == [True, False, True, True]
    assert sin.reason == "simulated 1.0 leaves SIN to the CPU"
    assert relu.time_us == pytest.approx(1.0)


def test_one_case_that_fails_does_not_take_the_others_down() -> None:
    """The model is halved until the case that the compiler fails on is alone."""
    ask = CompilerAsker(compiler(), ETHOS)
    answers = ask([case("Relu"), case("Tanh"), case("Softmax"), case("Sigmoid")])
    assert [one.runs for one in answers] == [True, True, False, True]
    assert answers[2].reason == "simulated fails on SOFTMAX"


def test_what_cannot_be_written_does_not_run() -> None:
    """The reason is the writer's."""
    (answer,) = CompilerAsker(compiler(), ETHOS)([case("Softsign")])
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
    # OpenVINO gives no time to what takes less than a microsecond.
    assert relu.time_us or runtime == "openvino"
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
