"""Seeded faults of the update system, and whether its tests notice them.

Each mutant of `mutants.toml` is put into a copy of the source, on which the tests that
it names must fail; the same tests pass on the copy without it. A patch that does not
apply any more is an error: the fault is to be seeded anew.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks._faults_fleet import quick_folder
from benchmarks._found import Found, Plan, row, tell
from benchmarks._harness import Measured
from skerry.core.config import read_toml

ROOT = Path(__file__).parents[1]
MUTANTS = Path(__file__).with_name("mutants.toml")
COPIED = ("src", "tests", "benchmarks", "docs", "examples", "pyproject.toml")
LIMIT_S = 1200.0
"""Longer than the tests take on a busy machine; who hangs so long is noticed."""

_KILLED, _PASSED = 1, 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """A seeded fault.

    Attributes:
        name: What is wrong.
        file: Where, below `src/skerry`.
        old: What stands there, once.
        new: What takes its place.
        tests: Files below `tests` of which one must notice.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def apply(self, text: str) -> str:
        """Seed the fault into a file's text.

        Raises:
            ValueError: What it changes does not stand there exactly once.
        """
        count = text.count(self.old)
        if count != 1:
            raise ValueError(
                f"the mutant {self.name!r} does not apply: its old text stands "
                f"{count} times in {self.file}"
            )
        return text.replace(self.old, self.new)


def read_mutants() -> list[Mutant]:
    """The mutants of `mutants.toml`."""
    return [
        Mutant(name=name, **{**one, "tests": tuple(one["tests"])})
        for name, one in read_toml(MUTANTS).items()
    ]


def measure_mutants(plan: Plan) -> Found:
    """Seed one fault after the other, and run the tests that should notice it."""
    mutants = read_mutants()
    if plan.quick:
        mutants = [mutants[0], next(one for one in mutants if "counter" in one.name)]
    sources = ROOT / "src" / "skerry"
    spoilt = {one.name: one.apply((sources / one.file).read_text()) for one in mutants}
    fates: dict[str, str] = {}
    took_s: dict[str, float] = {}
    with quick_folder() as folder:
        _copy(folder)
        wanted = sorted({test for one in mutants for test in one.tests})
        if (code := _run_tests(folder, wanted)) != _PASSED:
            raise RuntimeError(f"the tests fail without a mutant: exit code {code}")
        for one in mutants:
            path = folder / "src" / "skerry" / one.file
            whole = path.read_text()
            began_s = time.perf_counter()
            path.write_text(spoilt[one.name])
            fates[one.name] = _fate(_run_tests(folder, one.tests))
            path.write_text(whole)
            took_s[one.name] = time.perf_counter() - began_s
            tell(f"{one.name}: {fates[one.name]} in {took_s[one.name]:.1f} s")
    return found(mutants, fates)


def found(mutants: Sequence[Mutant], fates: Mapping[str, str]) -> Found:
    """The table: a line a mutant, survivors named at the bar."""
    survivors = [name for name, fate in fates.items() if fate != "killed"]
    rows = [
        row(f"mutant: {one.name}", one.file, unit=fates[one.name]) for one in mutants
    ]
    measured = Measured(
        id="update.mutants_survived",
        figure=float(len(survivors)),
        n=len(mutants),
        unmet=", ".join(survivors),
    )
    return Found(rows=rows, measured=[measured])


def _fate(code: int) -> str:
    if code == _KILLED:
        return "killed"
    return "survived" if code == _PASSED else f"pytest ended with {code}"


def _copy(folder: Path) -> None:
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            unwanted = shutil.ignore_patterns("__pycache__", "results", "*.onnx")
            shutil.copytree(source, folder / name, ignore=unwanted)
        else:
            shutil.copy(source, folder / name)


def _run_tests(folder: Path, tests: Iterable[str]) -> int:
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join((str(folder / "src"), str(folder))),
        "PYTHONDONTWRITEBYTECODE": "1",  # a mutant may be as old as what it changes
    }
    try:
        done = subprocess.run(
            [*command, *(f"tests/{test}" for test in tests)],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return _KILLED
    if done.returncode not in {_PASSED, _KILLED}:
        tell(done.stdout.decode(errors="replace")[-2000:])
    return done.returncode
