"""The benchmark of deltas: a peer that is missing is named, and measures nothing."""

from __future__ import annotations

import pytest

from benchmarks import _delta_pairs, _delta_peers


def test_a_missing_peer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are measured all the same."""

    def lacking(_old: bytes, _new: bytes) -> bytes:
        raise ImportError("No module named 'bsdiff4'")

    peers = {"bsdiff4": lacking, "other": lambda _old, new: new[:3]}
    monkeypatch.setattr(_delta_peers, "PEERS", peers)
    sizes, missing = _delta_peers.peer_sizes(b"old", b"newer")
    assert sizes == {"other": 3}
    assert "bsdiff4" in missing["bsdiff4"]


def test_bars_without_their_peer_are_not_measured() -> None:
    """No other peer takes its place."""
    ratios: dict[str, list[float]] = {}
    sizes, missing = {"other": 10, "skerry": 5}, {"bsdiff4": "missing"}
    for name in ("head", "head_norms", "finetune", "drift"):
        _delta_pairs.compare(ratios, name, sizes, missing)
    assert not ratios
    bars = _delta_pairs.pair_bars(ratios)
    assert len(bars) == 5
    assert all(bar.figure is None for bar in bars)


def test_bars_of_all_peers_are_medians() -> None:
    """That of heads is the worse of both kinds."""
    ratios: dict[str, list[float]] = {}
    for name, ours in (("head", 5), ("head", 7), ("head_norms", 9), ("drift", 4)):
        sizes = {"bsdiff4": 10, "other": 20, "skerry": ours}
        _delta_pairs.compare(ratios, name, sizes, {})
    figures = {bar.id: bar.figure for bar in _delta_pairs.pair_bars(ratios)}
    assert figures["delta.head.vs_best"] == 0.9
    assert figures["delta.drift.vs_bsdiff"] == 0.4
    assert figures["delta.finetune.vs_bsdiff"] is None
