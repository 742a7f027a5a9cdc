"""A benchmark whose parts are real processes, in a small form."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.serving import STAGES


@pytest.mark.system
def test_a_quick_stage_writes_what_it_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole way, with real processes: kills, of which none loses a request."""
    monkeypatch.delenv("SKERRY_DATA", raising=False)
    out = tmp_path / "serving.json"
    words = ["--quick", "--only", "kill", "--work", str(tmp_path), "--json", str(out)]
    STAGES.main(words)
    bars = {bar["id"]: bar for bar in json.loads(out.read_text())["bars"]}
    assert bars["serving.kill.lost"]["figure"] == 0
    assert bars["serving.kill.lost"]["holds"] is True
    assert bars["serving.leak"]["holds"] is None
    assert out.with_suffix(".png").stat().st_size > 1000
