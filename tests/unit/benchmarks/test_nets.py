from __future__ import annotations

import dataclasses
from itertools import chain
from pathlib import Path

import numpy as np
import onnx
import pytest

from benchmarks.nets import catalogue, places, text
from benchmarks.nets.__main__ import main
from benchmarks.nets.case import (
    MARKER,
    PARTS,
    Case,
    Shot,
    read_marker,
    write_case,
    write_net,
    write_pictures,
)
from benchmarks.nets.catalogue import Net, make_case
from benchmarks.nets.coco import CocoPicture
from benchmarks.nets.depthwise import check_same, run, widen
from benchmarks.nets.imagenet import cut_middle, fold_padding
from benchmarks.nets.splits import deal_out
from benchmarks.nets.tiny import _cuts, _wake_shots
from skerry.core.errors import ModelError, StateError, UsageError
from skerry.graph import open_model, parse_graph, read_graph, write_graph
from skerry.tasks._image import encode_png
from skerry.tasks.boxes import TrueBoxes
from skerry.tasks.heads import BoxesScores, Nms
from skerry.tasks.samples import MemorySource, Sample
from skerry.tasks.steps import Layout, Normalize, Resize, TopK
from skerry.tasks.task import Task, TaskKind
from tests.models import conv_net, model_bytes, random_weights

TASK = Task(
    kind=TaskKind.CLASSIFICATION, metric="top1", labels=tuple("abcd"), post=(TopK(k=1),)
)
CHAIN = """net (float[1, 3, 8, 8] x) => (float[1, 5] y) {
    a = Conv <pads = [1, 1, 1, 1]> (x, w0, b0)
    b = Relu (a)
    c = Conv <pads = [1, 1, 1, 1], group = 6> (b, w1, b1)
    d = Relu (c)
    e = Conv (d, w2, b2)
    f = Relu (e)
    g = GlobalAveragePool (f)
    h = Flatten (g)
    y = Gemm <transB = 1> (h, w3, b3)
}"""
SHAPES = {
    "w0": (6, 3, 3, 3),
    "b0": (6,),
    "w1": (6, 1, 3, 3),
    "b1": (6,),
    "w2": (8, 6, 1, 1),
    "b2": (8,),
    "w3": (5, 8),
    "b3": (5,),
}


def some_samples(n: int, seed: int) -> MemorySource:
    """Draw pictures for `conv_net`, with labels in turn."""
    rng = np.random.default_rng(seed)
    drawn = (rng.normal(size=(1, 3, 16, 16)).astype(np.float32) for _ in range(n))
    return MemorySource(
        samples=tuple(
            Sample(inputs={"x": one}, label=index % 4, name=str(index))
            for index, one in enumerate(drawn)
        )
    )


def write_small(folder: Path, *, seed: int, quick: bool) -> None:
    """Write a case of `conv_net`."""
    assert not quick
    path = folder.parent / "small.onnx"
    path.write_bytes(conv_net())
    parts = {part: some_samples(4, seed) for part in PARTS}
    write_case(folder, open_model(path), TASK, **parts)


def test_a_case_of_arrays_comes_back(tmp_path: Path) -> None:
    """The net, the task, and each part's samples and labels, bit by bit."""
    write_small(tmp_path / "case", seed=3, quick=False)
    case = Case.read(tmp_path / "case")
    assert case.task == TASK
    assert case.model.sha256 == open_model(tmp_path / "small.onnx").sha256
    for one, other in zip(case.report, some_samples(4, 3), strict=True):
        np.testing.assert_array_equal(one.inputs["x"], other.inputs["x"])
        assert one.label == other.label


def test_a_case_of_pictures_comes_back(tmp_path: Path) -> None:
    """With boxes where it has any, and without labels where nothing is known."""
    text_form = (
        "net (float[1, 3, 8, 8] x) => (float[1, 2, 4] boxes, float[1, 2, 2] scores) {"
        "boxes = Identity (b) scores = Identity (s) }"
    )
    path = tmp_path / "net.onnx"
    path.write_bytes(
        model_bytes(text_form, random_weights({"b": (1, 2, 4), "s": (1, 2, 2)}))
    )
    task = Task(
        kind=TaskKind.DETECTION,
        metric="map",
        labels=("cat", "dog"),
        pre=(Resize(height=8, width=8), Normalize(), Layout()),
        post=(BoxesScores(), Nms()),
    )
    write_net(tmp_path / "case", path, task)
    content = encode_png(np.zeros((16, 16, 3), dtype=np.uint8))
    boxes = (((2.0, 4.0, 6.0, 8.0), "dog"),)
    shots = [
        Shot(file="a.png", content=content, boxes=boxes),
        Shot(file="b.png", content=content, boxes=()),
    ]
    write_pictures(
        tmp_path / "case" / "calibration", [Shot(file="c.png", content=content)]
    )
    for part in PARTS[1:]:
        assert write_pictures(tmp_path / "case" / part, shots) == {"dog", ""}
    case = Case.read(tmp_path / "case")
    assert [sample.label for sample in case.calibration] == [None]
    first, second = (sample.label for sample in case.report)
    assert isinstance(first, TrueBoxes)
    assert isinstance(second, TrueBoxes)
    assert first.corners.tolist() == [[1, 2, 3, 4]]
    assert (first.labels.tolist(), len(second)) == ([1], 0)


def test_the_wide_twin_computes_the_same(tmp_path: Path) -> None:
    """Its channels are spread over factors of up to 2^6.6; its outputs are not."""
    plain, wide = tmp_path / "plain.onnx", tmp_path / "wide.onnx"
    plain.write_bytes(model_bytes(CHAIN, random_weights(SHAPES)))
    write_graph(widen(read_graph(plain), 1), wide)
    pictures = np.random.default_rng(0).normal(size=(5, 3, 8, 8)).astype(np.float32)
    assert check_same(plain, wide, pictures) < 1e-5
    weights = [
        graph.constant(graph.nodes[0].inputs[1])
        for graph in (read_graph(plain), read_graph(wide))
    ]
    assert weights[0] is not None
    assert weights[1] is not None
    factors = np.log2(weights[1] / weights[0])
    assert 3 < np.ptp(factors) <= 6.6
    assert np.ptp(factors, axis=(1, 2, 3)).max() < 1e-4


def test_what_is_no_chain_has_no_twin(tmp_path: Path) -> None:
    """A channel that two nodes read cannot be undone in one; a wrong twin is found."""
    forked = CHAIN.replace("y = Gemm", "z = Add (f, f) y = Gemm")
    with pytest.raises(ModelError, match="readers, expected one"):
        widen(parse_graph(model_bytes(forked, random_weights(SHAPES))), 1)
    paths = [tmp_path / name for name in ("forked.onnx", "partly.onnx")]
    paths[0].write_bytes(model_bytes(forked, random_weights(SHAPES)))
    write_graph(widen(read_graph(paths[0]), 1, is_partial=True), paths[1])
    assert check_same(*paths, np.ones((1, 3, 8, 8), dtype=np.float32)) < 1e-5
    paths = [tmp_path / f"{seed}.onnx" for seed in (0, 1)]
    for seed, path in enumerate(paths):
        path.write_bytes(model_bytes(CHAIN, random_weights(SHAPES, seed)))
    with pytest.raises(ModelError, match="differ by"):
        check_same(*paths, np.ones((1, 3, 8, 8), dtype=np.float32))


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_no_font_and_no_word_is_in_two_parts(seed: int) -> None:
    """Each part has fonts of all families, and report the most."""
    dealt = text.deal(seed)
    for index, part in enumerate(PARTS):
        for other in PARTS[:index]:
            assert not set(dealt[part][0]) & set(dealt[other][0])
            assert not set(dealt[part][1]) & set(dealt[other][1])
        assert len({package for package, _ in dealt[part][0]}) == 3
    assert sum(len(fonts) for fonts, _ in dealt.values()) == 26
    assert len(dealt["report"][1]) > len(dealt["selection"][1])
    assert dealt != text.deal(seed + 1)


def test_what_another_part_says_is_not_said_again() -> None:
    """Not even a date; and a longer list begins with a shorter one."""
    lines = list(text.print_lines("selection", seed=0, n=12, taken=frozenset()))
    taken = frozenset(shot.label or "" for shot in lines[:4])
    fewer = list(text.print_lines("selection", seed=0, n=6, taken=taken))
    assert [shot.label for shot in fewer] == [
        shot.label for shot in lines if shot.label not in taken
    ][:6]
    again = list(text.print_lines("selection", seed=0, n=5, taken=frozenset()))
    assert again == lines[:5]


def test_nothing_is_dealt_twice() -> None:
    """Where there are too few things the last parts get fewer."""
    things = list(range(20))
    dealt = deal_out(things, {"calibration": 5, "selection": 6, "report": 30}, 0)
    assert sorted(chain(*dealt.values())) == things
    assert [len(dealt[part]) for part in PARTS] == [5, 6, 9]
    assert dealt != deal_out(things, dict.fromkeys(PARTS, 5), 1)


def test_padding_moves_into_the_convolution(tmp_path: Path) -> None:
    """On one side only, too; the function stays."""
    form = """net (float[1, 3, 8, 8] x) => (float[1, 4, 4, 4] y) {
        a = Pad (x, sizes)
        y = Conv <strides = [2, 2], pads = [0, 0, 0, 0]> (a, w)
    }"""
    weights = random_weights({"w": (4, 3, 3, 3)})
    sizes = np.array([0, 0, 0, 0, 0, 0, 1, 1], dtype=np.int64)
    padded, folded = tmp_path / "padded.onnx", tmp_path / "folded.onnx"
    padded.write_bytes(model_bytes(form, {**weights, "sizes": sizes}))
    model = onnx.load(padded)
    fold_padding(model)
    onnx.save(model, folded)
    assert [node.op_type for node in model.graph.node] == ["Conv"]
    picture = np.random.default_rng(0).normal(size=(1, 3, 8, 8)).astype(np.float32)
    np.testing.assert_allclose(run(padded, picture), run(folded, picture), rtol=1e-5)


def test_a_whole_case_is_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was interrupted, or is of another seed, is."""
    calls = []

    def write(folder: Path, *, seed: int, quick: bool) -> None:
        calls.append(seed)
        write_small(folder, seed=seed, quick=quick)

    net = Net(title="small", write=write, at_least=0.0, notes="small")
    monkeypatch.setattr(catalogue, "NETS", {"small": net})
    folder = tmp_path / "case"
    made = make_case("small", folder)
    assert make_case("small", folder) == made == read_marker(folder)
    assert (made.n, made.metric, made.notes, calls) == (4, "top1", "small", [0])
    (folder / MARKER).unlink()
    (folder / "left over").write_bytes(b"")
    make_case("small", folder)
    assert not (folder / "left over").exists()
    make_case("small", folder, seed=5)
    assert calls == [0, 0, 5]


def test_a_net_that_was_read_wrong_is_no_case(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So is one that lacks something; the error says what."""
    net = Net(title="small", write=write_small, at_least=1.1)
    poor = dataclasses.replace(net, needs=(lambda: "no weights",))
    monkeypatch.setattr(catalogue, "NETS", {"small": net, "poor": poor})
    with pytest.raises(StateError, match=r"expected 1\.1 or more"):
        make_case("small", tmp_path / "small")
    assert read_marker(tmp_path / "small") is None
    with pytest.raises(StateError, match="no weights"):
        make_case("poor", tmp_path / "poor")
    with pytest.raises(UsageError, match="no net called 'smal'"):
        make_case("smal", tmp_path / "smal")


def test_the_list_says_what_is_missing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Without data, without toolchains: and how to get them."""
    monkeypatch.delenv(places.DATA_VARIABLE, raising=False)
    monkeypatch.setenv("SKERRY_TOOLCHAINS", str(tmp_path))
    monkeypatch.setattr(places, "FASHION", tmp_path)
    monkeypatch.setattr("sys.argv", ["nets", "--list"])
    assert main() == 0
    said = capsys.readouterr().out
    assert all(name in said for name in catalogue.NETS)
    assert "SKERRY_DATA is not set: it has coco_train128" in said
    assert "apt-get install dataset-fashion-mnist" in said
    assert "skerry toolchain install tensorflow-onnx" in said
    monkeypatch.setattr("sys.argv", ["nets", "vww", str(tmp_path / "case")])
    assert main() == 1
    assert "vww cannot be made here" in capsys.readouterr().err


def test_the_meter_reader_s_case_is_made_on_any_machine(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It needs nothing but a wheel; its halves share no digit."""
    folder = tmp_path / "case"
    monkeypatch.setattr("sys.argv", ["nets", "meter", str(folder), "--quick"])
    assert main() == 0
    assert "meter: float32 top1" in capsys.readouterr().out
    case = Case.read(folder)
    seen, report = (
        {sample.inputs["picture"].tobytes() for sample in source}
        for source in (case.selection, case.report)
    )
    assert len(case.report) == 200
    assert not seen & report


def test_long_work_is_done_once(tmp_path: Path) -> None:
    """And what it had half done is never taken for the whole."""

    def fail(part: Path) -> None:
        part.write_text("half")
        raise StateError("interrupted", hint="Again.")

    path = tmp_path / "made" / "net.onnx"
    with pytest.raises(StateError):
        places.keep(path, fail)
    assert not path.exists()
    places.keep(path, lambda part: part.write_text("whole") and None)
    assert places.keep(path, fail).read_text() == "whole"


def test_a_person_counts_from_half_a_percent(tmp_path: Path) -> None:
    """In each cut by itself, as Visual Wake Words has it."""
    path = tmp_path / "one.png"
    path.write_bytes(encode_png(np.zeros((100, 200, 3), dtype=np.uint8)))
    picture = CocoPicture(
        path=path, boxes=(((0.0, 0.0, 20.0, 10.0), "person"), ((0, 0, 200, 100), "cat"))
    )
    labels = [shot.label for shot in _wake_shots([picture])]
    assert labels == ["person", "person", *["no person"] * 3]
    assert _cuts(100, 200)[4] == (30, 60, 70, 140)
    assert cut_middle(np.zeros((100, 200, 3), dtype=np.uint8), 0.5).shape == (50, 50, 3)
