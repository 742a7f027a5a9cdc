"""What the tests of whole-graph quantization share."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from skerry.compress.ptq.quantize import Quantize, StepContext
from skerry.compress.search import choose, evidence, trials
from skerry.core.model import Model
from skerry.core.seams import Array, Runtime
from skerry.graph import Graph, Node, open_model, parse_graph
from skerry.runtimes import get_runtime
from skerry.tasks.measure import Latency, Ratio
from skerry.tasks.samples import Mask, MemorySource, Sample, SampleSource
from skerry.tasks.steps import TopK
from skerry.tasks.task import Task, TaskKind
from tests import models, running

SAMPLES = 8


def random_source(graph: Graph, count: int = SAMPLES, seed: int = 0) -> MemorySource:
    """Random inputs of a graph, without labels."""
    return MemorySource(
        samples=tuple(
            Sample(
                inputs=running.random_inputs(graph, seed + index),
                label=None,
                name=f"s{index}",
            )
            for index in range(count)
        )
    )


@pytest.fixture
def make_source() -> Callable[..., MemorySource]:
    """Make random inputs of a graph."""
    return random_source


@pytest.fixture(scope="session")
def runtime() -> Runtime:
    """The runtime that calibrates."""
    return get_runtime("onnxruntime")


@pytest.fixture
def quantized(runtime: Runtime) -> Callable[..., Graph]:
    """Quantize a model's bytes with some parameters."""

    def quantize(content: bytes, **params: object) -> Graph:
        graph = parse_graph(content)
        context = StepContext(calibration=random_source(graph), runtime=runtime)
        return Quantize(**params).apply(graph, context)

    return quantize


@pytest.fixture
def node_of() -> Callable[[Graph, str], Node]:
    """Find a node by its name."""

    def find(graph: Graph, name: str) -> Node:
        return next(node for node in graph.nodes if node.name == name)

    return find


@pytest.fixture
def stored() -> Callable[[Graph, Node, int], Array | None]:
    """The codes behind a node's input, None where it is not dequantized constants."""

    def read(graph: Graph, node: Node, index: int) -> Array | None:
        value = node.inputs[index]
        maker = None if value is None else value.producer()
        if maker is None or maker.op_type != "DequantizeLinear":
            return None
        return graph.constant(maker.inputs[0])

    return read


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CountedSource:
    """Samples that count how often they were gone through."""

    samples: tuple[Sample, ...]
    passes: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[Sample]:
        self.passes.append(len(self.samples))
        return iter(self.samples)

    def pick(self, mask: Mask) -> SampleSource:
        chosen = MemorySource(samples=self.samples).pick(mask)
        return CountedSource(samples=chosen.samples, passes=self.passes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workplace:
    """A small classifier, its file, its samples and its task, and room for files."""

    folder: Path
    model: Model
    graph: Graph
    calibration: CountedSource
    selection: CountedSource
    report: CountedSource
    task: Task


@pytest.fixture
def workplace(tmp_path: Path) -> Workplace:
    """Four convolutions and four classes; the labels are what the float net says."""
    weights = models.random_weights({f"w{k}": (8, 8, 1, 1) for k in range(3)})
    weights |= models.random_weights({"head": (4, 8, 1, 1)}, seed=1)
    content = models.model_bytes(
        """net (float[1, 8, 4, 4] x) => (float[1, 4] y) {
          a = Conv(x, w0) ra = Relu(a) b = Conv(ra, w1) rb = Relu(b)
          c = Conv(rb, w2) d = Conv(c, head) p = GlobalAveragePool(d) y = Flatten(p)
        }""",
        weights,
    )
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    graph = parse_graph(content)

    def labelled(count: int, seed: int) -> CountedSource:
        samples = random_source(graph, count, seed).samples
        return CountedSource(
            samples=tuple(
                replace(
                    sample,
                    label=int(running.run(graph, sample.inputs)["y"].argmax()),
                )
                for sample in samples
            )
        )

    folder = tmp_path / "work"
    folder.mkdir()
    return Workplace(
        folder=folder,
        model=open_model(path),
        graph=graph,
        calibration=labelled(8, 0),
        selection=labelled(10, 100),
        report=labelled(10, 200),
        task=Task(kind=TaskKind.CLASSIFICATION, metric="top1", post=(TopK(k=4),)),
    )


@pytest.fixture
def fixed_latency(
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[dict[str, float]], None]:
    """Let each candidate, by its number, take the time that a test says; the source 1.

    `before` and `after` are the times of the last look, for the report. No operator is
    slower or faster than another.
    """

    def fix(times_ms: dict[str, float]) -> None:
        numbers = itertools.count()

        def time_models(*_: object) -> dict[str, Ratio]:
            time_ms = times_ms.get(str(next(numbers)), 0.9)
            return {"candidate": Ratio(median=time_ms, low=time_ms, high=time_ms)}

        def measure(
            subjects: Mapping[str, Callable[[], object]], *, repeats: int
        ) -> dict[str, Latency]:
            for call in subjects.values():
                call()
            return {
                name: Latency(
                    wall_ms=(times_ms.get(name, 1.0),) * repeats,
                    cpu_ms=(times_ms.get(name, 1.0),) * repeats,
                )
                for name in subjects
            }

        monkeypatch.setattr(trials, "time_models", time_models)
        monkeypatch.setattr(choose, "saved_ms", lambda *_: {})
        monkeypatch.setattr(evidence, "measure_latency", measure)

    return fix
