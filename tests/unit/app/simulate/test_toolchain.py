"""The fake compiler: it keeps the seam, and does what it is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from skerry.adapt.probe.cases import case_graph
from skerry.adapt.probe.sweeps import all_sweeps
from skerry.adapt.target_files import load_target
from skerry.adapt.tflite import write_tflite
from skerry.core.errors import ModelError
from skerry.core.seams import Toolchain
from skerry.runtimes import open_any
from skerry.testing import SimulatedToolchain

ETHOS = load_target("ethos-u55-128")


def test_operators_are_placed_by_name(tmp_path: Path) -> None:
    """Those left are on the CPU and cost nothing, those that are fatal fail."""
    cases = [
        sweep.case("float32")
        for sweep in all_sweeps()
        if sweep.op_type in {"Sin", "Tanh"}
    ]
    path = tmp_path / "net.tflite"
    path.write_bytes(write_tflite(case_graph(cases)))
    toolchain: Toolchain = SimulatedToolchain(left=frozenset({"SIN"}))
    found = toolchain.compile(open_any(path), ETHOS)
    assert [one.source for one in found.fallbacks] == ["SIN"]
    assert len(found.operators) == 2
    assert found.cycles == 100
    fragile = SimulatedToolchain(fatal=frozenset({"TANH"}))
    with pytest.raises(ModelError, match="fails on TANH"):
        fragile.compile(open_any(path), ETHOS)
    assert fragile.compiled == 1
