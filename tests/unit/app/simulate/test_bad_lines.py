from __future__ import annotations

from pathlib import Path

import pytest

from skerry.app.simulate.bad_lines import BadLines, BytesPaid, measure_bytes


def test_a_good_line_costs_the_chunk_lists_alone(tmp_path: Path) -> None:
    """A few thousandths of what was chosen."""
    good = BadLines(
        gateways=2,
        model_bytes=300_000,
        flips_per_mb=0.0,
        breaks_per_mb=0.0,
        power_cuts=0,
    )
    paid = measure_bytes(tmp_path, good)
    assert (paid.n_updated, paid.n_flips, paid.n_breaks) == (2, 0, 0)
    assert paid.ratio == pytest.approx(1.01, abs=0.005)


def test_a_bad_line_costs_little_more(tmp_path: Path) -> None:
    """Flipped bits, broken connections and lost power: everybody gets the release."""
    bad = BadLines(gateways=2, model_bytes=700_000, flips_per_mb=3.0, breaks_per_mb=4.0)
    paid = measure_bytes(tmp_path, bad)
    assert paid.n_updated == 2
    assert paid.n_power_cuts == 2
    assert min(paid.n_flips, paid.n_breaks) > 0
    assert 1.0 < paid.ratio <= 1.1


def test_a_ratio_is_of_what_was_chosen() -> None:
    """1.0 where nothing was in vain."""
    paid = BytesPaid(
        received_bytes=210,
        chosen_bytes=200,
        n_flips=1,
        n_breaks=0,
        n_power_cuts=0,
        n_updated=1,
    )
    assert paid.ratio == pytest.approx(1.05)
