from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from benchmarks import _faults_attacks, _faults_mutants, update_faults
from benchmarks._faults_device import Device
from benchmarks._faults_fleet import tell_story
from benchmarks._faults_machine import FAULTS, explore
from benchmarks._faults_mutants import ROOT, Mutant, read_mutants
from benchmarks._faults_rollouts import explore_rollouts
from benchmarks._found import Found
from benchmarks._harness import BARS, compare_with_bars
from benchmarks.update_faults import STAGES
from skerry.app.simulate.loop import simulate
from skerry.core.config import read_toml


def test_every_bar_has_a_figure_even_where_nothing_was_measured() -> None:
    """The bars of the issue's table; the plot can be drawn of nothing, and of some."""
    found = {name: STAGES.nothing(name, "not yet") for name in STAGES.parts}
    measured = [one for part in found.values() for one in part.measured]
    bars = compare_with_bars("update_faults", measured, read_toml(BARS))
    assert len(bars) == 7
    assert {bar.holds for bar in bars} == {None}
    update_faults.draw(found, Figure())
    rows = [{"what": "faults at load"}]
    found["explored"] = Found(rows=rows, series={fault: [1.0] for fault in FAULTS})
    found["speed"] = Found(series={"devices": [10.0], "per min": [2000.0]})
    update_faults.draw(found, Figure())


def test_the_update_machine_keeps_its_promises_with_any_one_fault() -> None:
    """In each state that it and the record can come to."""
    found = explore(faults=1)
    assert found.broken == []
    assert found.states > 3000
    assert {fault for _, fault in found.cases} == set(FAULTS)


def test_a_machine_that_forgets_its_counter_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The way to what it must not do is told."""
    facts = Device.facts.fget
    assert facts is not None
    forgetful = property(lambda device: replace(facts(device), counter=0))
    monkeypatch.setattr(Device, "facts", forgetful)
    found = explore(faults=0)
    assert "3 serves, older than what was accepted" in found.broken[0]
    assert "switch" in found.broken[0]


def test_rollouts_never_fight_and_end() -> None:
    """Two devices, three rollouts, one of them bad, and people who undo and stop."""
    found = explore_rollouts(faults=0)
    assert found.broken == []
    assert found.states > 3000


def test_mutants_apply_and_their_tests_are_there() -> None:
    """Who changes a line that a mutant changes has to seed the fault anew."""
    mutants = read_mutants()
    assert len(mutants) >= 12
    for one in mutants:
        text = (ROOT / "src" / "skerry" / one.file).read_text()
        assert one.apply(text) != text
        assert all((ROOT / "tests" / test).exists() for test in one.tests)
    with pytest.raises(ValueError, match="stands 2 times in x"):
        Mutant(name="m", file="x", old="a", new="b", tests=()).apply("aa")


def test_survivors_are_named() -> None:
    """At the bar, in the order in which they were tried."""
    mutants = read_mutants()[:3]
    names = [one.name for one in mutants]
    fates = dict(zip(names, ("survived", "killed", "odd"), strict=True))
    (bar,) = _faults_mutants.found(mutants, fates).measured
    assert bar.figure == 2
    assert bar.unmet == f"{mutants[0].name}, {mutants[2].name}"


def test_an_attack_that_nobody_tried_counts_as_accepted() -> None:
    """So does one of which a test fails."""
    tried = {attack: ["a test"] for attack in _faults_attacks.ATTACKS}
    del tried["freeze"]
    (bar,) = _faults_attacks.found(tried, {"rollback": ["another"]}).measured
    assert (bar.figure, bar.unmet) == (2, "rollback, freeze")


def test_a_small_fleet_outlives_its_bad_days(tmp_path: Path) -> None:
    """Nobody is bricked, and hardly a byte comes twice."""
    story = simulate(tell_story(tmp_path, devices=8, turns=1, seed=1))
    assert story.bricked == {}
    assert story.happened.total() > 0
    assert story.bytes_ratio()[0] < 1.2
