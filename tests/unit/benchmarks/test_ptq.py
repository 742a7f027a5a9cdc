from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from benchmarks import ptq
from benchmarks._harness import BARS, compare_with_bars
from benchmarks._ptq_quantizers import ORT_DEFAULTS, ORT_PERCENTILE, SKERRY
from benchmarks.nets.case import write_case
from skerry.core.config import read_toml
from skerry.core.model import Model
from skerry.core.seams import LoadOptions
from skerry.graph import open_model
from skerry.runtimes import get_runtime
from skerry.tasks.samples import MemorySource, Sample
from skerry.tasks.steps import TopK
from skerry.tasks.task import Task, TaskKind
from tests.models import conv_net

ROOT = Path(__file__).resolve().parents[3]
TASK = Task(
    kind=TaskKind.CLASSIFICATION, metric="top1", labels=tuple("abcd"), post=(TopK(k=1),)
)


def samples(model: Model, n: int, seed: int) -> MemorySource:
    """Draw pictures; the label of each is what the float model says."""
    rng = np.random.default_rng(seed)
    session = get_runtime("onnxruntime").load(model, LoadOptions(threads=1))
    drawn = []
    for index in range(n):
        inputs = {"x": rng.normal(size=(1, 3, 16, 16)).astype(np.float32)}
        label = int(session.run(inputs)["y"].argmax())
        drawn.append(Sample(inputs=inputs, label=label, name=str(index)))
    session.close()
    return MemorySource(samples=tuple(drawn))


@pytest.fixture(scope="module")
def entries(tmp_path_factory: pytest.TempPathFactory) -> list[ptq.Entry]:
    """Both quantizers on a small net, each in its process."""
    folder = tmp_path_factory.mktemp("ptq")
    path = folder / "net.onnx"
    path.write_bytes(conv_net())
    model = open_model(path)
    case = folder / "case"
    write_case(
        case,
        model,
        TASK,
        calibration=samples(model, 16, seed=1),
        selection=samples(model, 40, seed=2),
        report=samples(model, 40, seed=3),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)  # where `python -m benchmarks…` finds them
        costs = ptq.make_models(case, [ORT_DEFAULTS, SKERRY])
    return ptq.measure_net("ocr", case, costs, repeats=7)


def test_each_model_has_a_row(entries: list[ptq.Entry]) -> None:
    """float32 first; what is left out comes last and says why."""
    source, peer, ours, missing = ptq.rows("ocr", entries)
    assert [source["by"], peer["by"], ours["by"]] == ["float32", ORT_DEFAULTS, SKERRY]
    assert source["right, %"] == 100
    assert source["n"] == peer["n"] == ours["n"] == 40
    assert (missing["by"], missing["note"]) == (
        ORT_PERCENTILE,
        ptq.LEFT_OUT["ocr", ORT_PERCENTILE],
    )
    for row in (peer, ours):
        assert float(row["CPU s"] or 0) > 0
        assert float(row["peak MB"] or 0) > 20
        assert row["points lost"] == pytest.approx(100 - float(row["right, %"] or 0))


def test_a_source_that_comes_back_is_called_so(entries: list[ptq.Entry]) -> None:
    """Its accuracy is no merit."""
    source, *_ = entries
    returned = ptq.Entry(
        net="ocr",
        by=SKERRY,
        model=source.model,
        cost=entries[1].cost,
        scores=source.scores,
        change=source.change,
        latency=source.latency,
    )
    rows = ptq.rows("ocr", [source, returned])
    assert rows[1]["note"] == ptq.GAVE_UP
    lost = next(one for one in ptq.figures([*entries[:2], returned], entries))
    assert lost.figure == -entries[1].lost


def test_every_bar_has_its_figure(entries: list[ptq.Entry]) -> None:
    """What is lost is positive, with the ends of its interval in order."""
    bars = compare_with_bars("ptq", ptq.figures(entries, entries), read_toml(BARS))
    by_id = {bar.id: bar for bar in bars}
    ours = entries[2]
    assert by_id["meter_lost"].figure == pytest.approx(100 * ours.lost / 40)
    assert by_id["ocr_lines_lost_over_best_peer"].figure == ours.lost - entries[1].lost
    size = entries[0].model.size_bytes / ours.model.size_bytes
    assert by_id["meter_times_smaller"].figure == pytest.approx(size)
    for bar in bars:
        if bar.interval and bar.figure is not None:
            assert bar.interval[0] <= bar.figure <= bar.interval[1]


def test_the_plot_has_a_point_a_model(entries: list[ptq.Entry]) -> None:
    """And a legend that names each once."""
    axes = Figure().subplots()
    ptq.draw(entries, axes)
    assert len(axes.collections) == len(entries)
    legend = axes.get_legend()
    assert legend is not None
    assert len(legend.get_texts()) == len(entries)
