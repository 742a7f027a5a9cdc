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

ROOT = Path(__file__).parents[1]

ATTACKS: Mapping[str, str] = {
    "arbitrary-software": "TUF §1.5.2, Uptane: software that nobody signed",
    "rollback": "TUF §1.5.2, Uptane: software older than what is installed",
    "fast-forward": "TUF §1.5.2: versions so high that no honest one comes after",
    "freeze": "TUF §1.5.2, Uptane: metadata that was true once, for ever",
    "endless-data": "TUF §1.5.2, Uptane: a file without an end",
    "extraneous-dependencies": "TUF §1.5.2: more is installed than was asked for",
    "mix-and-match": "TUF §1.5.2, Uptane: metadata of different moments",
    "wrong-software": "TUF §1.5.2: trusted, but not what was asked for",
    "malicious-mirrors": "TUF §1.5.2: a store that gives something else, or nothing",
    "key-compromise": "TUF §1.5.2: some keys are in wrong hands",
    "slow-retrieval": "TUF §1.5.2, Uptane: a byte now and then",
    "eavesdrop": "Uptane: reading what is sent",
    "drop-request": "Uptane: requests that never arrive",
    "partial-bundle": "Uptane: a part of what belongs together",
    "mixed-bundle": "Uptane: parts that were never released together",
}
"""By name, from where and in words: J. Samuel et al., TUF specification 1.0.33, section
1.5.2; Uptane Standard 2.1.0, section 4.2."""


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
    options = ["-q", "-m", "attack", "-p", "no:cacheprovider", "tests"]
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
                f"attack: {attack}",
                ATTACKS.get(attack, "of our own"),
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
