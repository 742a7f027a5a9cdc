from __future__ import annotations

import pytest

from skerry.core.errors import UsageError
from skerry.core.fleet import Figures, Gate, MetricGate
from skerry.evolve.rollout.gates import broken, parse_metric_gate


def _broken(
    text: str,
    after: list[Figures],
    *,
    before: list[Figures] | None = None,
    others: list[Figures] | None = None,
) -> str:
    gate = Gate(soak_s=1, metrics=(parse_metric_gate(text),))
    return broken(gate, after=after, before=before or [], others=others or [])


def _rated(failed: float, requests: float) -> Figures:
    return {"failed": failed, "requests": requests}


def _slow(latency_ms: float, requests: float = 50) -> Figures:
    return {"latency_p99_ms": latency_ms, "requests": requests}


def test_gates_are_read_as_they_are_written() -> None:
    """Each operator; absolute, or relative to before or to the others."""
    assert parse_metric_gate("error_rate<0.01") == MetricGate(
        metric="error_rate", op="<", limit=0.01
    )
    for text in ("a<=1.2*before", "watch.score>=0.5*others", "a_b>3"):
        assert str(parse_metric_gate(text)) == text
    for text in ("a", "a<=", "a<=x", "a=3", "a<=1*then", "<=3", "a<=1e", "a b<=1"):
        with pytest.raises(UsageError, match="no gate"):
            parse_metric_gate(text)


def test_rates_are_pooled() -> None:
    """One failure on a device of few requests does not decide."""
    after = [_rated(1, 2), _rated(0, 198)]
    assert _broken("error_rate<=0.01", after) == ""
    assert "error_rate is 0.005, at most 0.004 allowed" in _broken(
        "error_rate<=0.004", after
    )


def test_other_figures_are_the_median_of_the_devices() -> None:
    """One noisy device decides nothing; most of them do."""
    assert _broken("latency_p99_ms<=20", [_slow(5), _slow(6), _slow(500)]) == ""
    wrong = _broken("latency_p99_ms<=20", [_slow(5), _slow(60), _slow(500)])
    assert wrong == "latency_p99_ms is 60, at most 20 allowed"


def test_a_relative_gate_compares_with_before_or_others() -> None:
    """The limit is a factor; the message tells both figures."""
    after, before = [_slow(12)], [_slow(8)]
    assert _broken("latency_p99_ms<=1.6*before", after, before=before) == ""
    wrong = _broken("latency_p99_ms<=1.2*before", after, before=before)
    assert wrong == (
        "latency_p99_ms is 12, at most 9.6 allowed, 1.2 times the 8 before the update"
    )
    assert "on devices not updated yet" in _broken(
        "error_rate<=1*others", [_rated(5, 100)], others=[_rated(1, 100)]
    )


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("error_rate<=1", "0 of 20 requests"),
        ("latency_p99_ms<=1000", "3 of 20 requests"),
        ("golden_error<=1", "none of 1 devices reports it"),
        ("camera.fps>=1", "none of 1 devices reports it"),
        ("latency_p99_ms<=9*before", "3 of 20 requests"),
    ],
)
def test_too_little_evidence_is_no_proof(text: str, known: str) -> None:
    """It does not hold, and the message says what is known."""
    wrong = _broken(text, [_slow(5, requests=3)])
    assert "too little is known" in wrong
    assert known in wrong


def test_nothing_known_of_before_is_no_proof_either() -> None:
    """A first release has no figures to be compared with."""
    wrong = _broken("latency_p99_ms<=2*before", [_slow(5)])
    assert "too little is known of latency_p99_ms before the update" in wrong


def test_a_metric_of_its_own_section_needs_no_requests() -> None:
    """What is not counted in requests is believed as it is."""
    assert _broken("camera.fps>=10", [{"camera.fps": 12.0}]) == ""
