"""The attacks that an update system must stand, each by its name in a test.

A test says which attack it is with `@pytest.mark.attack("rollback")`. An attack counts
as accepted where one of its tests fails, and where it has none: what nobody tried,
nobody has refused.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from benchmarks._found import Found, Plan, row
from benchmarks._harness import Measured
from tests.attacks import ATTACKS, FILES

ROOT = Path(__file__).parents[1]


class Witness:
    """A plugin of pytest that keeps which attacks were tried, and what came of it."""

    def __init__(self) -> None:
        self.tried: defaultdict[str, list[str]] = defaultdict(list)
        self.failed: defaultdict[str, list[str]] = defaultdict(list)
        self._attacks: dict[str, list[str]] = {}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: Sequence[pytest.Item]) -> None:
        """Note which attacks each test makes."""
        for item in items:
            named = [mark.args[0] for mark in item.iter_markers("attack") if mark.args]
            self._attacks[item.nodeid] = named

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note how a test has ended."""
        for attack in self._attacks.get(report.nodeid, ()):
            if report.when == "call" and report.passed:
                self.tried[attack].append(report.nodeid)
            elif report.failed:
                self.failed[attack].append(report.nodeid)


def measure_attacks(plan: Plan) -> Found:
    """Run each test that is marked as an attack."""
    del plan
    os.chdir(ROOT)
    witness = Witness()
    # What the tests print must not be taken for what a stage says.
    options = ["-q", "-m", "attack", "-p", "no:cacheprovider", *FILES]
    pytest.main(options, plugins=[witness])
    return found(witness.tried, witness.failed)


def found(
    tried: Mapping[str, Sequence[str]], failed: Mapping[str, Sequence[str]]
) -> Found:
    """The table: a line an attack."""
    rows, accepted = [], []
    for attack in [*ATTACKS, *sorted({*tried, *failed} - set(ATTACKS))]:
        wrong = failed.get(attack, ())
        right = tried.get(attack, ())
        if wrong or not right:
            accepted.append(attack)
        verdict = "refused" if right else "untested"
        rows.append(
            row(
                "attack",
                attack,
                unit="ACCEPTED" if wrong else verdict,
                n=len(right) + len(wrong),
                note=wrong[0] if wrong else None,
            )
        )
    measured = Measured(
        id="update.attacks_accepted",
        figure=float(len(accepted)),
        n=len(rows),
        unmet=", ".join(accepted),
    )
    return Found(rows=rows, measured=[measured])
