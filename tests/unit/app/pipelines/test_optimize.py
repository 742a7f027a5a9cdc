"""What the loop may try, joined from the verbs and a compiler."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from skerry.adapt.optimize import Deployment
from skerry.adapt.target_files import load_target
from skerry.app.pipelines.optimize import (
    Wanted,
    optimize_for,
    optimize_here,
    recodings,
)
from skerry.app.pipelines.vela import VelaToolchain
from skerry.core.errors import ToolchainError
from skerry.graph import open_model, read_graph
from skerry.runtimes import get_runtime
from skerry.tasks.samples import MemorySource, Sample
from tests.models import conv_net
from tests.velas import LAYERS, install_vela

SAMPLES = MemorySource(
    samples=tuple(
        Sample(inputs={"x": array}, label=None, name=str(number))
        for number, array in enumerate(
            np.random.default_rng(0).normal(size=(12, 1, 3, 16, 16)).astype("f4")
        )
    )
)
NPU_ONLY = "".join(
    line for line in LAYERS.splitlines(keepends=True) if ",CPU," not in line
)


@pytest.fixture
def wanted(tmp_path: Path) -> Wanted:
    """A small net of floats, whose outputs may move a little."""
    path = tmp_path / "net.onnx"
    path.write_bytes(conv_net())
    work = tmp_path / "work"
    work.mkdir()
    return Wanted(
        start=Deployment(model=open_model(path), runtime=get_runtime("onnxruntime")),
        selection=SAMPLES,
        reported=SAMPLES,
        task=None,
        limit=0.05,
        folder=work,
    )


def test_here_int8_is_a_remedy_like_any_other(wanted: Wanted) -> None:
    """It is timed, and the log has it, whatever came of it on so small a net."""
    found = optimize_here(wanted, most_threads=1, runtimes=("onnxruntime",), rounds=3)
    tried = next(one for one in found.done.trials if one.remedy == "INT8")
    assert tried.kind == "precision"
    assert tried.measured is not None
    assert tried.latency_ms is not None
    assert found.verdict.holds
    assert set(found.measured) == {"latency_ms", "memory_bytes", "size_bytes"}
    assert all(path.is_file() for path in found.files)


def test_recodings_give_models_that_answer_nearly_the_same(wanted: Wanted) -> None:
    """INT8 has pairs, FP16 computes in halves; inputs and outputs stay float32."""
    runtime = wanted.start.runtime
    graph = read_graph(wanted.start.model.path)
    int8, half = (one.change(graph, runtime) for one in recodings(SAMPLES))
    assert "QuantizeLinear" in {node.op_type for node in int8.nodes}
    assert "Cast" in {node.op_type for node in half.nodes}
    for made in (int8, half):
        assert [spec.dtype for spec in made.inputs] == ["float32"]


def test_the_same_model_is_calibrated_once(wanted: Wanted) -> None:
    """For one runtime; another one has patterns of its own."""
    graph = read_graph(wanted.start.model.path)
    int8, _ = recodings(SAMPLES)
    here, there = get_runtime("onnxruntime"), get_runtime("openvino")
    first = int8.change(graph, here)
    assert int8.change(read_graph(wanted.start.model.path), here) is first
    assert int8.change(graph, there) is not first


def test_for_a_target_its_compiler_says_the_latency(
    wanted: Wanted, tmp_path: Path
) -> None:
    """Both files of integers are kept; memory is that of the compiler."""
    install_vela(tmp_path / "chains", layers=NPU_ONLY)
    vela = VelaToolchain(folder=tmp_path / "chains")
    found = optimize_for(wanted, load_target("ethos-u55-128"), vela)
    assert found.done.start_ms == pytest.approx(0.1798)
    assert found.done.chosen.remedies == ()
    assert [path.suffix for path in found.files] == [".onnx", ".tflite"]
    assert found.measured["memory_bytes"] == pytest.approx(21.671875 * 1024, abs=1)
    assert found.verdict.holds


def test_a_missing_compiler_says_how_to_get_it(wanted: Wanted, tmp_path: Path) -> None:
    """Before anything is tried."""
    vela = VelaToolchain(folder=tmp_path / "nothing")
    with pytest.raises(ToolchainError, match="not installed"):
        optimize_for(wanted, load_target("ethos-u55-128"), vela)
