from __future__ import annotations

import io
import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from benchmarks import _compress_ptq_make as making
from benchmarks import compress_ptq
from benchmarks._compress_ptq_bars import (
    LISTED,
    below_best_peer,
    cpu_vs_control,
    detector,
    figures,
    fixed_cpu,
    latency,
    lines_lost,
    mean_lost,
    peak,
    slower,
)
from benchmarks._compress_ptq_make import Made, Workshop
from benchmarks._compress_ptq_metric import answer
from benchmarks._compress_ptq_ours import SETTINGS, ArraySource, Given, Watched
from benchmarks._compress_ptq_plan import (
    COMPRESS,
    COMPRESS_OPENVINO,
    FIXED,
    FLOAT,
    NNCF_CONTROL,
    OPENVINO,
    ORT,
    ORT_PER_CHANNEL,
    ORT_PER_TENSOR,
    QUANTIZERS,
    Net,
)
from benchmarks._compress_ptq_score import Scored, Scorer, Timer
from benchmarks._compress_ptq_table import Board, Entry, draw, rows
from benchmarks._compress_ptq_weights import int8_share
from benchmarks._harness import BARS, Measured, compare_with_bars
from benchmarks.nets.case import Case, write_case
from skerry.compress.ptq.quantize import Quantize, StepContext
from skerry.core.config import read_toml
from skerry.core.errors import StateError
from skerry.core.seams import LoadOptions
from skerry.graph import open_model, read_graph, write_graph
from skerry.runtimes import get_runtime
from skerry.tasks.measure import ChildCost, Ratio
from skerry.tasks.samples import MemorySource, Sample
from skerry.tasks.steps import TopK
from skerry.tasks.tally import Quotient
from skerry.tasks.task import Task, TaskKind
from tests.models import conv_net

TASK = Task(
    kind=TaskKind.CLASSIFICATION, metric="top1", labels=tuple("abcd"), post=(TopK(k=1),)
)
N = 1000


def scored(right: int, *, wrong_first: int = 0) -> Scored:
    """A score of `right` of `N` samples, the wrong ones at the end or the beginning."""
    scores = np.zeros(N)
    scores[wrong_first : wrong_first + right] = 1
    tally = Quotient(scores=scores, weights=np.ones(N))
    return Scored(key="k", metric="top1", value=right / N, n=N, tally=tally)


def cost(cpu_s: float, peak_mb: float = 100) -> ChildCost:
    """A cost."""
    return ChildCost(cpu_s=cpu_s, wall_s=cpu_s, peak_rss_bytes=int(peak_mb * 1e6))


def ratio(median: float) -> Ratio:
    """A ratio known to a hundredth."""
    return Ratio(median=median, low=median - 0.01, high=median + 0.01)


def entry(
    by: str,
    right: int,
    *,
    cpu_s: float = 1.0,
    times: dict[str, float] | None = None,
    share: float | None = None,
    notes: tuple[str, ...] = (),
) -> Entry:
    """A model that was measured."""
    home = QUANTIZERS[by].runtimes[0] if by in QUANTIZERS else ORT
    made = Made(key="k", model="model.onnx", sha256=by, size_bytes=9, cost=cost(cpu_s))
    return Entry(
        by=by,
        made=replace(made, notes=notes),
        scores={home: scored(right)},
        ratios={name: ratio(time) for name, time in (times or {}).items()},
        int8_share=share,
    )


def board(name: str, *entries: Entry, seed: int = 0, right: int = 900) -> Board:
    """A net whose float32 gets `right` of `N` right."""
    net = Net(name=name, seed=seed, folder=Path("nowhere"))
    return Board(net=net, entries=(entry(FLOAT, right), *entries))


def test_every_bar_has_a_figure_even_where_nothing_was_measured() -> None:
    """The bars of the issue's table, each not measured."""
    found = figures([], memory={}, install_mb=None)
    bars = compare_with_bars("compress_ptq", found, read_toml(BARS))
    assert len(bars) == 13
    assert all(bar.id.startswith("ptq.") for bar in bars)
    assert {bar.holds for bar in bars} == {None}


def test_a_mean_over_seeds_has_an_interval_that_shrinks() -> None:
    """Losses of 0, 1 and 2 points are one on average; a seed less is told."""
    one = [
        board("ds", entry(COMPRESS, 900 - lost), seed=seed)
        for seed, lost in enumerate((0, 10, 20))
    ]
    found = mean_lost("x", one, "ds", COMPRESS, seeds=3)
    assert found.figure == pytest.approx(1.0)
    assert (found.n, found.unmet) == (3 * N, "")
    alone = mean_lost("x", one[1:2], "ds", COMPRESS, seeds=3)
    assert alone.unmet == "1 of 3 seeds"
    assert found.interval is not None
    assert alone.interval is not None
    low, high = found.interval
    assert alone.interval[0] < low < 1 < high < alone.interval[1]


def test_lost_lines_count_only_where_the_net_is_really_int8() -> None:
    """Float layers lose nothing and would win."""

    def found(right: int, share: float) -> Measured:
        return lines_lost(
            [
                board("ocr", entry(COMPRESS, right, share=share), seed=seed)
                for seed in range(3)
            ]
        )

    good = found(899, 0.97)
    assert good.figure == pytest.approx(0.1)
    assert good.unmet == ""
    assert found(899, 0.5).unmet.startswith("50 % of weight layers are INT8")
    assert found(880, 0.97).unmet.startswith("the upper bound is")


def test_costs_measured_in_turns_go_before_others() -> None:
    """Those of the stage that makes were taken on a busy machine."""
    busy = board("ocr", entry(COMPRESS, 1, cpu_s=50), entry(NNCF_CONTROL, 1, cpu_s=80))
    assert cpu_vs_control([busy]).figure == pytest.approx(50 / 80)
    quiet = replace(busy, costs={COMPRESS: cost(30)})
    assert cpu_vs_control([quiet]).figure == pytest.approx(30 / 80)
    assert "missing" in (cpu_vs_control([board("ocr")]).peer or "")


def test_the_fixed_method_is_compared_with_the_cheaper_peer_on_the_worst_net() -> None:
    """Two forms of MinMax, two nets."""
    found = fixed_cpu(
        [
            board(
                name,
                entry(FIXED, 1, cpu_s=ours),
                entry(ORT_PER_CHANNEL, 1, cpu_s=4),
                entry(ORT_PER_TENSOR, 1, cpu_s=2),
            )
            for name, ours in (("ds", 1.0), ("kws", 3.0))
        ]
    )
    assert found.figure == pytest.approx(1.5)
    assert found.peer == "onnxruntime MinMax, kws-seed0"


def test_the_peak_is_that_of_the_worst_method() -> None:
    """The whole command's on its own samples is among them."""
    methods = {"memory minmax": cost(1, 300), "memory mse": cost(1, 550)}
    boards = [board("ocr", entry(COMPRESS, 1))]
    assert peak(boards, methods).figure == pytest.approx(550)
    costly = replace(boards[0], costs={COMPRESS: cost(1, 700)})
    assert peak([costly], methods).figure == pytest.approx(700)


def test_a_detector_must_keep_its_speed() -> None:
    """Four fifths of what INT8 gains on the runtime where it gains most."""
    peer = entry("nncf openvino", 850, times={OPENVINO: 0.5})
    slow_here = entry(COMPRESS, 899, times={ORT: 1.2, OPENVINO: 0.9})
    kept = entry(COMPRESS_OPENVINO, 898, times={OPENVINO: 0.55})
    found = detector([board("yolox_nano", peer, slow_here, kept)])
    assert found.figure == pytest.approx(0.2)
    assert found.unmet == ""  # 0.82 of the gain
    lame = entry(COMPRESS_OPENVINO, 900, times={OPENVINO: 0.8})
    found = detector([board("yolox_nano", peer, slow_here, lame)])
    assert found.unmet == "25 % of the INT8 speed-up on openvino"


def test_a_peer_is_better_only_beyond_the_interval() -> None:
    """One line more on a thousand is chance, thirty are not."""
    near = board("kws", entry(COMPRESS, 890), entry("aimet defaults", 891))
    far = board("vww", entry(COMPRESS, 860), entry("aimet defaults", 890))
    found = below_best_peer([near, far])
    assert (found.figure, found.n) == (1.0, 2)
    assert found.peer == "vww: aimet defaults"
    assert found.unmet.count(",") == len(LISTED) - 3  # the eight that are missing


def test_a_slower_model_is_forgiven_where_it_is_announced() -> None:
    """The report's note is what a user reads."""
    slow = entry(COMPRESS, 900, times={ORT: 1.3})
    assert slower([board("kws", slow)]).figure == 1.0
    told = replace(slow, made=replace(slow.made, notes=("It is slower: 1.3 ×",)))
    assert slower([board("kws", told)]).figure == 0.0
    even = entry(COMPRESS, 900, times={ORT: 1.005})
    assert slower([board("kws", even)]).figure == 0.0


def test_latency_is_the_worst_of_the_seeds() -> None:
    """On onnxruntime."""
    seeds = [
        board("ocr", entry(COMPRESS, 1, times={ORT: time}), seed=seed)
        for seed, time in enumerate((0.7, 0.75))
    ]
    assert latency(seeds).figure == 0.75


def test_what_is_missing_has_a_row() -> None:
    """A net or a peer that is not there, a model that was not scored yet."""
    net = Net(name="kws", seed=0, folder=Path("nowhere"))
    (row,) = rows(Board(net=net, missing="missing: data"))
    assert row["note"] == "missing: data"
    absent = Entry(by=NNCF_CONTROL, made=Made(key="", note="missing: skerry …"))
    unscored = Entry(by=FIXED, made=Made(key="k", model="model.onnx", sha256="a"))
    found = {row["by"]: row for row in rows(board("kws", absent, unscored))}
    assert found[NNCF_CONTROL]["note"] == "missing: skerry …"
    assert found[FIXED]["note"] == "not scored yet"


def test_the_plot_has_a_panel_a_net_and_a_point_a_model() -> None:
    """Seeds of a net share its panel."""
    figure = Figure()
    boards = [
        board("ds", entry(COMPRESS, 890, times={ORT: 0.8}), seed=0),
        board("ds", entry(COMPRESS, 895, times={ORT: 0.8}), seed=1),
        board("kws", entry("nncf openvino", 890, times={OPENVINO: 0.9})),
    ]
    draw(boards, figure)
    shown = [axes for axes in figure.axes if axes.get_title()]
    assert [axes.get_title() for axes in shown] == ["ds", "kws"]
    assert [len(axes.collections) for axes in shown] == [2, 1]


def samples(n: int, seed: int, path: Path) -> MemorySource:
    """Draw pictures; the label of each is what the float model says."""
    rng = np.random.default_rng(seed)
    session = get_runtime("onnxruntime").load(open_model(path), LoadOptions(threads=1))
    drawn = []
    for index in range(n):
        inputs = {"x": rng.normal(size=(1, 3, 16, 16)).astype(np.float32)}
        label = int(session.run(inputs)["y"].argmax())
        drawn.append(Sample(inputs=inputs, label=label, name=str(index)))
    session.close()
    return MemorySource(samples=tuple(drawn))


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Net:
    """A small net with its samples."""
    folder = tmp_path_factory.mktemp("net")
    path = folder / "net.onnx"
    path.write_bytes(conv_net())
    write_case(
        folder / "case",
        open_model(path),
        TASK,
        calibration=samples(8, 1, path).samples,
        selection=samples(20, 2, path).samples,
        report=samples(20, 3, path).samples,
    )
    return Net(name="small", seed=0, folder=folder / "case")


def fake_tool(folder: Path) -> None:
    """Do what a quantizer's process does: a model and its cost."""
    (folder / "cost.json").write_text('{"cpu_s": 2.5, "peak_rss_bytes": 7000000}')


def test_a_run_goes_on_where_it_was(
    net: Net, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is made is kept, failures too, until what it came from changes."""
    called = []

    def run(argv: list[str], **_: Any) -> ChildCost:
        called.append(argv)
        if len(called) == 1:
            raise StateError("it ended with exit code 1", hint="It said: no memory")
        folder = Path(argv[-1])
        fake_tool(folder)
        (folder / "model.onnx").write_bytes(conv_net())
        return cost(9)

    monkeypatch.setattr(making, "run_measured", run)
    shop = Workshop(tmp_path, lambda _: None)
    assert shop.look(net, FIXED).note == "not made yet"
    failed = shop.make(net, FIXED)
    assert failed.note == "failed: it ended with exit code 1. It said: no memory"
    assert shop.make(net, FIXED) == failed
    assert Workshop(tmp_path, lambda _: None).make(net, FIXED) == failed
    monkeypatch.setattr(making, "our_digest", lambda: "newer code")
    newer = Workshop(tmp_path, lambda _: None)
    made = newer.make(net, FIXED)
    assert (made.model, made.size_bytes) == ("model.onnx", len(conv_net()))
    assert made.cost == ChildCost(cpu_s=2.5, wall_s=9, peak_rss_bytes=7000000)
    assert newer.look(net, FIXED) == made
    assert len(called) == 2


def test_a_peer_that_is_not_installed_is_named_as_missing(
    net: Net, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what installs it; nothing is kept, so that it is tried again."""
    monkeypatch.setenv("SKERRY_TOOLCHAINS", str(tmp_path / "none"))
    shop = Workshop(tmp_path, lambda _: None)
    assert shop.make(net, NNCF_CONTROL).note == "missing: skerry toolchain install nncf"
    assert shop.look(net, NNCF_CONTROL).note == "missing: skerry toolchain install nncf"
    assert not (tmp_path / "made").exists()


def test_what_is_left_out_says_why(net: Net) -> None:
    """A form for one kind of task, a slow method on a large input."""
    case = Case.read(net.folder)
    why = QUANTIZERS[COMPRESS_OPENVINO].left_out(case)
    assert why == "left out: run for detection only"
    assert QUANTIZERS["aimet adaround"].left_out(case) == ""


def test_all_quantizers_read_the_same_samples(net: Net, tmp_path: Path) -> None:
    """Ours as a source with labels, the peers as arrays."""
    shop = Workshop(tmp_path, lambda _: None)
    command = shop.command(net, FIXED, tmp_path / "out")
    arrays = Path(command[-2])
    asked = json.loads((arrays / "asked.json").read_text())
    assert asked["inputs"] == ["x"]
    source = ArraySource.read(arrays / "selection", asked["inputs"])
    wanted = list(Case.read(net.folder).selection)
    assert len(source) == len(wanted) == 20
    for got, true in zip(source, wanted, strict=True):
        assert got.label == true.label
        assert np.array_equal(got.inputs["x"], true.inputs["x"])
    half = source.pick(np.arange(20) % 2 == 0)
    assert [one.name for one in half] == [str(index) for index in range(0, 20, 2)]
    out = tmp_path / "made"
    out.mkdir()
    ours = Given(folder=net.folder, arrays=arrays, out=out)
    assert SETTINGS["fixed"](ours).cpu_s > 0
    assert int8_share(net.folder / "model.onnx", out / "model.onnx") == 1.0


def test_the_first_look_at_the_report_ends_the_search() -> None:
    """Counting its samples is no look."""
    watched = Watched(MemorySource(samples=()))
    assert len(watched) == 0
    assert watched.cost is None
    assert list(watched) == []
    first = watched.cost
    assert first is not None
    assert list(watched) == []
    assert watched.cost is first


def test_the_metric_answers_for_any_of_the_samples(net: Net) -> None:
    """Twice in a process, with one score a sample."""
    case = Case.read(net.folder)
    session = get_runtime("onnxruntime").load(case.model, LoadOptions(threads=1))
    sent = io.BytesIO()
    chosen = list(case.selection)
    for indices in ((0, 1, 2), (3,)):
        for index in indices:
            packed = io.BytesIO()
            outputs = session.run(chosen[index].inputs)
            np.savez(packed, **{"0": next(iter(outputs.values()))})
            content = packed.getvalue()
            sent.write(struct.pack("<qq", index, len(content)) + content)
        sent.write(struct.pack("<qq", -1, 0))
    session.close()
    sent.seek(0)
    said = io.StringIO()
    answer(case, sent, said)
    first, second = map(json.loads, said.getvalue().splitlines())
    assert (first["value"], first["per_sample"]) == (1.0, [1.0, 1.0, 1.0])
    assert second["per_sample"] == [1.0]


def test_scores_and_times_are_kept(net: Net, tmp_path: Path) -> None:
    """Measured once for a model and a runtime; a model that fails is told."""
    scorer = Scorer(tmp_path, lambda _: None)
    path = net.folder / "model.onnx"
    assert scorer.look(net, FLOAT, "a", ORT).note == "not scored yet"
    done = scorer.score(net, FLOAT, path, "a", ORT)
    assert (done.metric, done.value, done.n) == ("top1", 1.0, 20)
    again = Scorer(tmp_path, lambda _: None).look(net, FLOAT, "a", ORT)
    assert again.key == done.key
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    assert "fails on" in scorer.score(net, "x", broken, "b", ORT).note
    models = {FLOAT: (path, "a"), COMPRESS: (path, "a"), FIXED: (broken, "b")}
    told: list[str] = []
    timer = Timer(tmp_path, told.append, quick=True)
    times = timer.time(net, models, ORT)
    assert set(times.ratios) == {FLOAT, COMPRESS}
    assert "fails on" in times.failed[FIXED]
    assert timer.time(net, models, ORT) == times
    assert len(told) == 1


def test_layers_with_rounded_weights_are_counted(net: Net, tmp_path: Path) -> None:
    """None in the source, some where one is kept float."""
    source = net.folder / "model.onnx"
    assert int8_share(source, source) == 0.0
    assert int8_share(source, tmp_path / "model.xml") is None
    case = Case.read(net.folder)
    context = StepContext(
        calibration=case.calibration, runtime=get_runtime("onnxruntime")
    )
    graph = Quantize().apply(read_graph(source), context)
    names = [node.name for node in graph.nodes if node.op_type in ("Conv", "Gemm")]
    partly = Quantize(keep_float=(names[0] or "",))
    path = write_graph(
        partly.apply(read_graph(source), context), tmp_path / "partly.onnx"
    ).path
    assert int8_share(source, path) == pytest.approx(1 - 1 / len(names))


def test_an_unknown_net_is_named(tmp_path: Path) -> None:
    """Before anything runs."""
    with pytest.raises(SystemExit, match="no net 'zebra'"):
        compress_ptq.find_nets("zebra", tmp_path, quick=False)
    (one,) = compress_ptq.find_nets("ocr", tmp_path, quick=True)
    assert one.folder == tmp_path / "quick" / "cases" / "ocr-seed0"


@pytest.mark.parametrize(
    ("said", "note"),
    [
        ("std::bad_alloc", "failed: needs more than 6 GB of memory"),
        ("MemoryError", "failed: needs more than 6 GB of memory"),
        ("no such operator", "failed: it failed. no such operator"),
    ],
)
def test_a_tool_that_is_stopped_is_told_so(
    net: Net, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, note: str
) -> None:
    """Its own words are long and speak of something else."""

    def run(*_: Any, **__: Any) -> ChildCost:
        raise StateError("it failed", hint=said)

    monkeypatch.setattr(making, "run_measured", run)
    assert Workshop(tmp_path, lambda _: None).make(net, FIXED).note == note
