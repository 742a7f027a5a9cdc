"""`skerry target probe`: a table is asked for and written, whole or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from skerry.adapt.probe import sweeps
from skerry.adapt.probe.cases import Case
from skerry.adapt.probe.learn import Answer
from skerry.adapt.probe.sweep import Sweep
from skerry.adapt.target_files import load_target
from skerry.app.main import main
from skerry.app.pipelines import probe
from skerry.app.pipelines.probe import Asker
from skerry.core.target import Citation

SOURCE = Citation(
    source="a test", url="https://example.com/x", quote="X 1.0", date="2026-11-21"
)
FEW = {"Relu", "Sin", "Softmax"}


def ask(cases: Sequence[Case]) -> list[Answer]:
    """Run all but Sin, the larger the longer."""
    return [
        Answer(runs=one.op_type != "Sin", time_us=float(one.shapes[0][-1]))
        for one in cases
    ]


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A toolchain that answers at once, about few operators."""
    asker = Asker(ask=ask, dtypes=("int8", "float32"), version="X 1.0", source=SOURCE)
    chosen: tuple[Sweep, ...] = tuple(
        sweep for sweep in sweeps.all_sweeps() if sweep.op_type in FEW
    )
    monkeypatch.setattr(probe, "open_asker", lambda *_, **__: asker)
    monkeypatch.setattr(sweeps, "all_sweeps", lambda: chosen)


@pytest.mark.usefixtures("few")
def test_the_table_is_written_into_the_targets_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was accepted has rules with costs; the rest of the target stays."""
    out = tmp_path / "mine.toml"
    words = ["target", "probe", "ethos-u55-128", "--toolchain", "vela"]
    assert main([*words, "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "X 1.0 runs" in said
    made = load_target(out)
    npu = made.processors[0]
    assert {name for rule in npu.rules for name in rule.operators} == FEW - {"Sin"}
    assert all(rule.cost is not None for rule in npu.rules)
    assert npu.operators_source == SOURCE
    old = load_target("ethos-u55-128")
    assert replace(made, processors=()) == replace(old, processors=())
    assert made.processors[1:] == old.processors[1:]
    head = out.read_text().splitlines()[:3]
    assert "skerry target probe ethos-u55-128 --toolchain vela" in head[1]


def test_a_missing_toolchain_leaves_no_file(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The error says how to get it."""
    monkeypatch.setenv("SKERRY_TOOLCHAINS", str(tmp_path / "none"))
    out = tmp_path / "mine.toml"
    words = ["target", "probe", "ethos-u55-128", "--toolchain", "vela"]
    assert main([*words, "--out", str(out)]) == 32
    assert "skerry toolchain install vela" in capsys.readouterr().err
    assert not out.exists()
