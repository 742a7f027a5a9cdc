"""Deployments for a target that is not here, by the word of its compiler."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from skerry.adapt.optimize import Deployment, Optimized, by_word, optimize
from skerry.adapt.optimize.compiled import Bench
from skerry.adapt.optimize.validate import Verdict
from skerry.adapt.target_files import load_target
from skerry.adapt.tflite import fuse_pairs, operator_codes
from skerry.app.pipelines.export import complete_scales
from skerry.compress.ptq.quantize import Quantize, StepContext
from skerry.core.compiled import Compiled, CompiledOperator
from skerry.core.errors import ModelError
from skerry.core.model import Model
from skerry.core.seams import Runtime
from skerry.core.target import ProcessorKind, Target
from skerry.graph import Graph, infer_shapes, open_model, read_graph
from skerry.runtimes import get_runtime
from skerry.tasks.sample import MemorySource, Sample
from tests.models import model_bytes, random_weights
from tests.rewriting import NPU

TARGET = load_target(NPU)
CONV = "a = Conv<pads=[1, 1, 1, 1]>(x, w)"
SILU = f"{CONV} b = Sigmoid(a) y = Mul(a, b)"
COSTS_MS = {"LOGISTIC": 300.0}
OTHER_MS = 1.0


class Counting:
    """A compiler that adds up what operators cost, and counts how often it is asked."""

    name = "counting"
    version = "Counting 1"

    def __init__(self) -> None:
        self.asked = 0

    def compile(
        self, model: Model, target: Target, out: Path | None = None
    ) -> Compiled:
        """Say what a TFLite file takes; sines run on the CPU."""
        assert target is TARGET
        assert out is None
        self.asked += 1
        codes = operator_codes(model.path.read_bytes(), name=model.path.name)
        return Compiled(
            toolchain=self.version,
            operators=tuple(
                CompiledOperator(
                    name=made,
                    source=code,
                    op_type=code,
                    kind=ProcessorKind.CPU if code == "SIN" else ProcessorKind.NPU,
                    cycles=1,
                    macs=0,
                )
                for code, made in codes
            ),
            cycles=1,
            memory_bytes=1,
            storage_bytes=1,
            time_ms=sum(COSTS_MS.get(code, OTHER_MS) for code, _ in codes),
            macs=1,
        )


def integers(graph: Graph) -> Graph:
    """Bring all to integers, by ranges of random inputs."""
    rng = np.random.default_rng(0)
    arrays = [{"x": rng.normal(size=(1, 4, 8, 8)).astype("f4")} for _ in range(4)]
    samples = tuple(Sample(inputs=one, label=None, name="") for one in arrays)
    host: Runtime = get_runtime("onnxruntime")
    context = StepContext(calibration=MemorySource(samples=samples), runtime=host)
    done = Quantize(operators="all").apply(graph, context)
    return complete_scales(fuse_pairs(infer_shapes(done)), arrays, host)


def bench(folder: Path, toolchain: Counting) -> Bench:
    """One for the NPU of the tests."""
    return Bench(
        TARGET,
        toolchain,
        shapes={"x": (1, 4, 8, 8)},
        quantize=integers,
        folder=folder,
    )


def net(folder: Path, body: str, *, name: str = "net") -> Deployment:
    """A net from x [1, 4, 8, 8] to y of the same shape, on onnxruntime."""
    text = f"net (float[N, 4, 8, 8] x) => (float[N, 4, 8, 8] y) {{ {body} }}"
    path = folder / f"{name}.onnx"
    weights = random_weights({"w": (4, 4, 3, 3)})
    path.write_bytes(model_bytes(text, weights, opset=18))
    return Deployment(model=open_model(path), runtime=get_runtime("onnxruntime"))


def optimized(made: Bench, start: Deployment) -> Optimized:
    """Optimize, whatever the answers."""
    return optimize(
        made.begin(start)[0],
        time=by_word(made.time_ms),
        diagnose=made.diagnose,
        validate=lambda _: Verdict(holds=True, loss=0.0, delta=None, said="well"),
    )


def test_a_rewrite_stays_where_the_compiler_says_it_is_faster(tmp_path: Path) -> None:
    """Straight pieces for a dear Sigmoid; each model is compiled once."""
    toolchain = Counting()
    made = bench(tmp_path, toolchain)
    found = optimized(made, net(tmp_path, SILU))
    assert found.chosen_ms < found.start_ms
    assert found.chosen.remedies == ("without Sigmoid, nearly",)
    assert found.chosen.title.endswith("on ethos-u55-128")
    asked = toolchain.asked
    built = made.build(found.chosen)
    assert toolchain.asked == asked
    assert built.left == ()
    assert built.host.target == ""
    kinds = {node.op_type for node in read_graph(built.host.model.path).nodes}
    assert "Sigmoid" not in kinds
    assert "QuantizeLinear" in kinds


@pytest.mark.parametrize(
    ("body", "word"),
    [("y = Mish(a)", "adapted"), ("b = Erf(a) y = Mul(a, b)", "nearly")],
)
def test_what_does_not_run_begins_with_other_operators(
    body: str, word: str, tmp_path: Path
) -> None:
    """Equal ones if there are some, else nearly equal ones; and a reader is told."""
    made = bench(tmp_path, Counting())
    start, note = made.begin(net(tmp_path, f"{CONV} {body}"))
    assert "TFLite has no operator for the" in note
    assert start.model.path.name == f"net.{word}.onnx"
    assert start.target == TARGET.name
    assert made.build(start).left == ()


def test_what_no_rule_moves_stays_where_it_is(tmp_path: Path) -> None:
    """It is begun with, and named."""
    made = bench(tmp_path, Counting())
    given = net(tmp_path, f"{CONV} y = Sin(a)")
    start, note = made.begin(given)
    assert (start.model, note) == (given.model, "")
    assert made.build(start).left == ("SIN",)
    assert made.time_ms(start) > 0


def test_what_would_leave_more_behind_is_refused(tmp_path: Path) -> None:
    """Nobody knows what it takes on the CPU."""
    made = bench(tmp_path, Counting())
    made.begin(net(tmp_path, SILU))
    with pytest.raises(ModelError, match="leaves SIN to another processor"):
        made.time_ms(net(tmp_path, f"{CONV} y = Sin(a)", name="other"))


def test_what_cannot_be_compiled_at_all_is_refused(tmp_path: Path) -> None:
    """In the writer's own words."""
    with pytest.raises(ModelError, match="no operator for the Asinh"):
        bench(tmp_path, Counting()).begin(net(tmp_path, f"{CONV} y = Asinh(a)"))
