"""Each suggestion is made where it is due, and helps when it is followed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from skerry.compress.ptq.quantize import Quantize, StepContext, prepare
from skerry.compress.search.fixes import Finding, suggest_fix
from skerry.compress.search.operator_rows import Subject, operator_rows
from skerry.core.profile import Profile
from skerry.core.report import LayerRow
from skerry.core.seams import LoadOptions, Runtime, Tensors
from skerry.graph import Graph, parse_graph, write_graph
from skerry.tasks.evaluate import output_distance
from skerry.tasks.samples import MemorySource, Sample
from tests import models, running

TEXT = """net (float[1, 4, 16, 16] x) => (float[1, 4, 16, 16] y) {
  a = Conv(x, first) b = Conv(a, middle) y = Conv(b, last)
}"""
Quantized = tuple[Graph, tuple[LayerRow, ...]]


class Bench:
    """A net, its samples, and what quantizing it by a step comes to."""

    def __init__(self, folder: Path, runtime: Runtime, content: bytes) -> None:
        self.folder = folder
        self.runtime = runtime
        self.prepared = prepare(parse_graph(content))
        self.samples = [
            running.random_inputs(self.prepared, seed) for seed in range(10)
        ]
        self.calibration = self.samples

    def quantize(self, step: Quantize) -> Graph:
        source = MemorySource(
            samples=tuple(
                Sample(inputs=dict(one), label=None, name="s")
                for one in self.calibration
            )
        )
        context = StepContext(calibration=source, runtime=self.runtime)
        return step.apply(self.prepared, context)

    def rows(self, step: Quantize, graph: Graph) -> dict[str, LayerRow]:
        subject = Subject(
            prepared=self.prepared,
            result=graph,
            quantized=graph,
            step=step,
            samples=self.samples[:6],
            before=self.profile(self.prepared),
            after=self.profile(graph),
            known={},
        )
        rows = operator_rows(subject, runtime=self.runtime)
        return {row.name: row for row in rows}

    def profile(self, graph: Graph) -> Profile:
        model = write_graph(graph, self.folder / "profiled.onnx")
        options = LoadOptions()
        return self.runtime.profile(model, self.samples[0], options, repeats=3)

    def distance(self, graph: Graph) -> float:
        def outputs(of: Graph, sample: Tensors) -> Tensors:
            return running.run(of, sample)

        return float(
            np.mean(
                [
                    output_distance(outputs(self.prepared, one), outputs(graph, one))
                    for one in self.samples
                ]
            )
        )

    def fixes(self, step: Quantize) -> tuple[str, float]:
        """All that is suggested, and how far the outputs are off."""
        graph = self.quantize(step)
        rows = self.rows(step, graph).values()
        return " ".join(row.fix for row in rows), self.distance(graph)


@pytest.fixture
def make_bench(tmp_path: Path, runtime: Runtime) -> Callable[[bytes], Bench]:
    """Make a bench for a net."""
    return lambda content: Bench(tmp_path, runtime, content)


def weights() -> dict[str, np.ndarray]:
    """Draw the weights of three convolutions."""
    shapes = dict.fromkeys(("first", "middle", "last"), (4, 4, 1, 1))
    return models.random_weights(shapes)


def test_clipping_is_cured_by_minmax(make_bench: Callable[[bytes], Bench]) -> None:
    """Percentiles cut off a rare large value that matters."""
    large = TEXT.replace("16, 16", "128, 128")
    bench = make_bench(models.model_bytes(large, weights()))
    for sample in bench.samples[::2]:
        sample["x"][0, :, 0, 0] = 25.0
    step = Quantize(method="percentile")
    said, before = bench.fixes(step)
    assert "choose ranges by minmax" in said
    _, after = bench.fixes(replace(step, method="minmax"))
    assert after < before / 2


def test_more_samples_cure_values_beyond_calibration(
    make_bench: Callable[[bytes], Bench],
) -> None:
    """A range from dim samples is too short for bright ones."""
    bench = make_bench(models.model_bytes(TEXT, weights()))
    bench.calibration = [{"x": sample["x"] / 10} for sample in bench.samples]
    said, before = bench.fixes(Quantize())
    assert "calibrate on more samples" in said
    bench.calibration = bench.samples
    _, after = bench.fixes(Quantize())
    assert after < before / 2


def test_scales_per_channel_cure_unequal_weights(
    make_bench: Callable[[bytes], Bench],
) -> None:
    """One output channel with large weights leaves few codes to those of others."""
    drawn = weights() | {
        "low": np.array(-1, np.float32),
        "high": np.array(1, np.float32),
    }
    drawn["first"][0] *= 40
    text = TEXT.replace(
        "a = Conv(x, first)", "c = Conv(x, first) a = Clip(c, low, high)"
    )
    bench = make_bench(models.model_bytes(text, drawn))
    step = Quantize(per_channel=False)
    said, before = bench.fixes(step)
    assert "(per_channel)" in said
    said, after = bench.fixes(replace(step, per_channel=True))
    assert "(per_channel)" not in said
    assert after < before / 2


def test_equalizing_cures_an_outlier_channel(
    make_bench: Callable[[bytes], Bench],
) -> None:
    """A channel that reaches a hundred times as far is named, and made like others."""
    drawn = weights()
    drawn["middle"][2] *= 300
    drawn["last"][:, 2] /= 300
    bench = make_bench(models.model_bytes(TEXT, drawn))
    said, before = bench.fixes(Quantize())
    assert "channel 2 reaches" in said
    assert "equalize channels by activations" in said
    _, after = bench.fixes(Quantize(equalize="activations"))
    assert after < before / 10


def test_float_cures_what_rounding_alone_costs(
    make_bench: Callable[[bytes], Bench],
) -> None:
    """Where nothing is wasted or clipped, higher precision is what is left."""
    drawn = weights()
    # The difference of two channels that are nearly alike is lost in the rounding.
    drawn["middle"][1] = drawn["middle"][0] * 1.02
    drawn["last"][:] = 0
    drawn["last"][:, 0], drawn["last"][:, 1] = 1.0, -1.0
    bench = make_bench(models.model_bytes(TEXT, drawn))
    graph = bench.quantize(Quantize())
    rows = bench.rows(Quantize(), graph)
    worst = max(rows.values(), key=lambda row: row.error or 0.0)
    assert "keep it and what" in worst.fix
    floats = [row.name for row in rows.values() if row.name != "a"]
    kept = bench.quantize(Quantize(keep_float=tuple(floats)))
    assert bench.distance(kept) < bench.distance(graph) / 2
    assert "16-bit codes" in worst.fix
    finer = bench.quantize(Quantize(activation_bits=16))
    assert bench.distance(finer) < bench.distance(graph) / 2


def test_float_cures_what_has_no_integer_kernel(
    make_bench: Callable[[bytes], Bench],
) -> None:
    """Transposed convolutions are float on onnxruntime, whatever stands around."""
    text = TEXT.replace("b = Conv", "b = ConvTranspose")
    bench = make_bench(models.model_bytes(text, weights()))
    graph = bench.quantize(Quantize())
    rows = bench.rows(Quantize(), graph)
    fell = rows["b"]
    assert (fell.fell_back, fell.kernel, fell.dtype) == (True, "ConvTranspose", "int8")
    assert "onnxruntime has no integer kernel" in fell.fix
    # The last one has a float output, which onnxruntime does not fuse either.
    assert rows["y"].fell_back
    step = Quantize(keep_float=("b", "y"))
    kept = bench.quantize(step)
    assert not any(row.fell_back for row in bench.rows(step, kept).values())
    before, after = (len(bench.profile(one).operators) for one in (graph, kept))
    assert after < before


def test_what_integers_slow_down_is_told() -> None:
    """Beyond the noise and the profiler's grain only."""
    found = Finding(
        error=None,
        share=0.0,
        tensors=(),
        written=None,
        runtime="onnxruntime",
        fell_back=False,
        before_ms=1.0,
        after_ms=1.6,
        total_ms=10.0,
        step=None,
    )
    assert suggest_fix(found) == (
        "It takes 1.6 ms in integers and 1 ms in float: keep it float."
    )
    for change in ({"after_ms": 1.1}, {"total_ms": 100.0}, {"before_ms": None}):
        assert suggest_fix(replace(found, **change)) == ""
    fast = replace(found, before_ms=0.01, after_ms=0.04, total_ms=0.1)
    assert suggest_fix(fast) == ""


def test_what_costs_nothing_needs_no_fix(make_bench: Callable[[bytes], Bench]) -> None:
    """A net that quantizes well gets no advice on its accuracy."""
    bench = make_bench(models.model_bytes(TEXT, weights()))
    graph = bench.quantize(Quantize(equalize="activations"))
    rows = bench.rows(Quantize(equalize="activations"), graph)
    assert all("minmax" not in row.fix for row in rows.values())
    assert all((row.error or 0.0) < 1e-3 for row in rows.values())
