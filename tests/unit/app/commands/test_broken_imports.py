"""A quantized model of somebody else's that is really broken passes nowhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.nets.case import find_part
from benchmarks.nets.detectors import write_yolox
from skerry.adapt.tflite import write_tflite
from skerry.app.main import main
from skerry.compress.search import evidence, trials
from skerry.core.errors import BudgetError, ModelError
from skerry.graph import (
    Graph,
    Value,
    dims,
    insert_after,
    make_initializer,
    make_node,
    make_value,
    read_graph,
)
from skerry.tasks.measure import Ratio
from skerry.tasks.steps import TopK
from skerry.tasks.task import Task, TaskKind, task_to_toml
from tests import running
from tests.commands import Typist
from tests.tflite import float_graph, quantized

BODY = "c = Conv(x, w) r = Relu(c) g = GlobalAveragePool(r) y = Flatten(g)"
TASK = Task(kind=TaskKind.CLASSIFICATION, metric="top1", post=(TopK(k=1),))
TOO_NARROW = 1 / 64
"""Of the range that a value needs: nearly all of it is clipped, as in a converter that
saw pictures of another scale."""


@pytest.fixture
def typist(capsys: pytest.CaptureFixture[str]) -> Typist:
    """Types commands."""
    return Typist(capsys)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: a net that is always right, and its INT8 form, broken."""
    monkeypatch.chdir(tmp_path)
    net = float_graph(
        f"net (float[1, 4, 9, 9] x) => (float[1, 4] y) {{ {BODY} }}",
        {"w": (4, 4, 3, 3)},
    )
    Path("net.onnx").write_bytes(net.to_bytes())
    rows = np.random.default_rng(0).normal(size=(48, 4, 9, 9)).astype(np.float32)
    answers = [int(running.run(net, {"x": row[None]})["y"].argmax()) for row in rows]
    np.savez("labelled.npz", x=rows, label=np.array(answers))
    Path("task.toml").write_text(task_to_toml(TASK))
    broken = quantized(net)
    narrow(broken, "x")
    for value in (broken.value("x"), broken.output_values[0]):
        leave_float(broken, value)
    Path("broken.tflite").write_bytes(write_tflite(broken, keep_layout=True))
    return tmp_path


def narrow(graph: Graph, name: str) -> None:
    """Make the range of a quantized value far too narrow, in place."""
    pair = next(use.node for use in graph.value(name).uses())
    old = pair.inputs[1]
    assert pair.op_type == "QuantizeLinear"
    scale = graph.constant(old)
    assert scale is not None
    new = make_initializer(np.asarray(scale * np.float32(TOO_NARROW)), "narrow")
    graph.add_initializer(new)
    for node in graph.nodes:
        for index, value in enumerate(node.inputs):
            if value is old:
                node.replace_input_with(index, new)


def leave_float(graph: Graph, value: Value) -> None:
    """Compute with the floats of an input or output, which else would be codes."""
    one = graph.add_initializer(
        make_initializer(np.ones(1, np.float32), graph.unique_name("one"))
    )
    wish = graph.unique_name(f"{value.name}.float")
    made = make_value(wish, "float32", dims(value) or ())
    insert_after(graph, value, [make_node("Mul", [value, one], outputs=[made])])


@pytest.fixture
def handed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install a third party's step that hands over a file as what it has made.

    Integers take half of the time, whatever this machine says of so small a net.
    """
    (tmp_path / "handover.py").write_text(
        "from dataclasses import dataclass\n"
        "from pathlib import Path\n"
        "from skerry.graph import read_graph\n"
        "@dataclass(frozen=True)\n"
        "class Handed:\n"
        "    path: str\n"
        "    def apply(self, graph, context):\n"
        "        return read_graph(Path(self.path))\n"
    )
    about = tmp_path / "handover-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: handover\nVersion: 1\n"
    )
    (about / "entry_points.txt").write_text(
        "[skerry.steps]\nhanded = handover:Handed\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    half = Ratio(median=0.5, low=0.5, high=0.5)
    monkeypatch.setattr(
        trials,
        "time_models",
        lambda models, *_: {name: half for name in models if name != "source"},
    )
    monkeypatch.setattr(evidence._Proof, "is_slower_than_thought", lambda _: False)


@pytest.mark.usefixtures("folder")
def test_evaluate_says_how_much_worse(typist: Typist) -> None:
    """Far beyond the interval, and on how many samples the answers differ."""
    typist.ask("import", "broken.tflite", "-o", "broken.onnx")
    found = typist.ask(
        *("evaluate", "broken.onnx", "labelled.npz"),
        *("--task", "task.toml", "--against", "net.onnx"),
    )
    other = found["against"]
    assert other["value"] == 1.0
    assert found["value"] < 0.75
    assert other["ci95"][1] < -0.1
    assert other["differ"] > 12
    assert "a real difference" in other["verdict"]


def test_compress_takes_no_codes_for_a_source(folder: Path, typist: Typist) -> None:
    """What is quantized already is refused, and nothing is written."""
    typist.ask("import", "broken.tflite", "-o", "broken.onnx")
    told = typist.ask(
        *("compress", "broken.onnx", "--evaluation", "labelled.npz"),
        *("--calibration", "labelled.npz", "--task", "task.toml"),
        code=ModelError.exit_code,
    )
    assert "is quantized already" in told["what"]
    assert not list(folder.glob("out/*.*"))


@pytest.mark.usefixtures("folder", "handed")
def test_the_gate_and_the_check_refuse_it(typist: Typist) -> None:
    """As the outcome of a recipe it breaks the budget, then and in a pull request."""
    typist.ask("import", "broken.tflite", "-o", "broken.onnx")
    Path("recipe.toml").write_text(
        'schema = "skerry.recipe/1"\n[[step]]\nstep = "handed"\npath = "broken.onnx"\n'
    )
    words = ["compress", "net.onnx", "--evaluation", "labelled.npz", "--json"]
    words += ["--task", "task.toml", "--recipe", "recipe.toml"]
    words += ["--calibration", "labelled.npz"]
    assert main(words) == BudgetError.exit_code
    assert main(["check", "out/report.json"]) == BudgetError.exit_code
    assert main(["check", "out/report.json", "--accuracy-drop", "0.9"]) == 0


def test_the_broken_yolox_is_refused(
    real_data: Path, tmp_path: Path, typist: Typist, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The full-INT8 file of a public repository, which lost nine tenths of its mAP."""
    monkeypatch.setenv("SKERRY_DATA", str(real_data))
    case, broken = tmp_path / "case", tmp_path / "broken.onnx"
    write_yolox(case, seed=0, quick=False)
    source = real_data / "models_detection" / "yolox_nano"
    typist.ask(
        "import", str(source / "yolox_nano_int8_quantize.tflite"), "-o", str(broken)
    )
    found = typist.ask(
        *("evaluate", str(broken), str(find_part(case, "selection"))),
        *("--task", str(case / "task.toml"), "--against", str(case / "model.onnx")),
    )
    assert found["value"] < 0.1
    assert found["against"]["value"] > 0.25
    assert found["against"]["ci95"][1] < -0.05
    assert read_graph(broken).inputs == read_graph(case / "model.onnx").inputs
