"""What a profile speaks for, and what each remedy changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from skerry.adapt.optimize import Deployment, Kind, Remedy, remedies, remedies_for
from skerry.adapt.optimize.remedies import Recoding, Workshop
from skerry.core.errors import MissingExtraError, ModelError
from skerry.core.profile import OperatorTime, Profile
from skerry.core.seams import LoadOptions, Runtime, Tensors
from skerry.graph import Graph, open_model, read_graph
from skerry.runtimes import get_runtime
from skerry.tasks.profiling import Subject
from tests.models import model_bytes

NET = """net (float[N, 4] x) => (float[N, 2] y) {
  a = MatMul(x, w) b = Mish(a) y = Relu(b)
}"""
WEIGHTS = {"w": np.eye(4, 2, dtype=np.float32)}
INPUTS = ({"x": np.zeros((1, 4), np.float32)},)


def operator(op_type: str, latency_ms: float, macs: int | None = 0) -> OperatorTime:
    """A line of a profile."""
    return OperatorTime(
        name=op_type.lower(), op_type=op_type, latency_ms=latency_ms, macs=macs
    )


@pytest.fixture(autouse=True)
def _profiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mish takes nine tenths of the time, and is all that is worth sharing out."""
    operators = (operator("MatMul", 0.01, 8), operator("Mish", 0.09))

    def profile(subjects: Sequence[Subject], *, repeats: int) -> tuple[Profile, ...]:
        one = Profile(runtime="r", threads=1, repeats=repeats, operators=operators)
        return (one,) * len(subjects)

    monkeypatch.setattr(remedies, "profile_in_turns", profile)


@pytest.fixture
def start(tmp_path: Path) -> Deployment:
    """A small net of any number of rows, on onnxruntime."""
    path = tmp_path / "net.onnx"
    path.write_bytes(model_bytes(NET, WEIGHTS, opset=18))
    return Deployment(model=open_model(path), runtime=get_runtime("onnxruntime"))


def shop(start: Deployment, **more: object) -> Workshop:
    """One that tries no other runtime, unless told to."""
    given: dict[str, object] = {
        "inputs": INPUTS,
        "folder": start.model.path.parent,
        "most_threads": 1,
        "runtimes": ("onnxruntime",),
    }
    return Workshop(**(given | more))  # type: ignore[arg-type]


def found(start: Deployment, workshop: Workshop) -> dict[str, Remedy]:
    """What is promised, by name."""
    return {one.name: one for one in remedies_for(start, workshop)[1]}


def test_threads_promise_what_amdahls_law_leaves(start: Deployment) -> None:
    """Operators of less than 0.05 ms are not shared out."""
    promised = found(start, shop(start, most_threads=4))
    assert promised["2 threads"].expected == pytest.approx(0.1 + 0.9 / 2)
    assert promised["4 threads"].expected == pytest.approx(0.1 + 0.9 / 4)
    assert "8 threads" not in promised
    assert promised["4 threads"].change(start).options.threads == 4


def test_fewer_threads_are_glanced_at(start: Deployment) -> None:
    """Half as many, which changes nothing else."""
    many = replace(start, options=LoadOptions(threads=2))
    fewer = found(many, shop(start))["1 thread"]
    assert fewer.kind is Kind.THREADS
    precise = replace(many, options=LoadOptions(threads=2, precision="float32"))
    assert fewer.change(precise).options == LoadOptions(precision="float32")
    assert "1 thread" not in found(start, shop(start))


def test_other_runtimes_are_glanced_at_in_both_precisions(
    start: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be tried says why."""

    def get(name: str) -> Runtime:
        if name == "openvino":
            raise MissingExtraError("openvino", extra="openvino")
        return get_runtime(name)

    monkeypatch.setattr(remedies, "get_runtime", get)
    workshop = shop(start, runtimes=("null", "openvino"))
    promised = found(start, workshop)
    assert promised["null"].kind is Kind.RUNTIME
    moved = promised["null, float32"].change(start)
    assert (moved.runtime.name, moved.options.precision) == ("null", "float32")
    assert "pip install" in workshop.missing["openvino"]


def test_numbers_of_fewer_bits_speed_up_what_multiplies(start: Deployment) -> None:
    """They are tried on floats only, for the runtime at hand."""
    asked: list[str] = []

    def change(graph: Graph, runtime: Runtime) -> Graph:
        asked.append(runtime.name)
        return graph

    recoding = Recoding(name="INT8", speedup=2, change=change)
    workshop = shop(start, recodings=(recoding,))
    promised = found(start, workshop)["INT8"]
    assert promised.kind is Kind.PRECISION
    assert promised.expected == pytest.approx(1 - 0.1 / 2)
    assert promised.change(start).model.path.name == "net.int8.onnx"
    assert asked == ["onnxruntime"]
    text = """net (float[1, 4] x) => (float[1, 4] y) {
      q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z) }"""
    path = start.model.path.with_name("codes.onnx")
    scale = {"s": np.array(0.1, np.float32), "z": np.array(0, np.int8)}
    path.write_bytes(model_bytes(text, scale))
    assert "INT8" not in found(replace(start, model=open_model(path)), workshop)


def test_open_sizes_are_fixed_where_all_inputs_have_the_same(
    start: Deployment,
) -> None:
    """Two lengths of rows forbid it, and a fixed model has nothing to fix."""
    fixed = found(start, shop(start))["fixed input sizes"].change(start)
    assert fixed.model.inputs[0].shape == (1, 4)
    assert "fixed input sizes" not in found(fixed, shop(start))
    two: tuple[Tensors, ...] = (*INPUTS, {"x": np.zeros((2, 4), np.float32)})
    assert "fixed input sizes" not in found(start, shop(start, inputs=two))


def test_what_takes_the_time_is_offered_to_be_done_without(start: Deployment) -> None:
    """By rules that are equal; where none is, the remedy says so."""
    promised = found(start, shop(start))
    assert promised["without Mish"].expected == pytest.approx(1 - 0.9 / 2)
    changed = promised["without Mish"].change(start)
    kinds = [node.op_type for node in read_graph(changed.model.path).nodes]
    assert "Mish" not in kinds
    assert "Tanh" in kinds
    assert "without Relu" not in promised
    with pytest.raises(ModelError, match="no rule replaces Mish"):
        promised["without Mish"].change(changed)
