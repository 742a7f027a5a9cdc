"""Stages of a benchmark, each in a process of its own: if one fails, the rest stays.

`python -m benchmarks._stages MODULE:FUNCTION FOLDER [--quick]` writes
FOLDER/found.json.
"""

from __future__ import annotations

import argparse
import importlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from benchmarks._found import Found, Plan, Stage, row, tell
from benchmarks._harness import Measured, Outcome, command_line, publish
from skerry.core.durable import make_folder, write_file
from skerry.core.names import did_you_mean

ROOT = Path(__file__).parents[1]
WORK = Path("build/bench")
FOUND = "found.json"
QUICK_LIMIT_S = 120.0
_WORDS = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A stage.

    Attributes:
        place: Its function, `module:name`.
        bars: The bars that it gives figures for.
        limit_s: How long it may take; a quick one has `QUICK_LIMIT_S`.
        is_quick: Whether a quick run without `--only` does it, too.
    """

    place: str
    bars: tuple[str, ...]
    limit_s: float
    is_quick: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Stages:
    """The stages of a benchmark.

    Attributes:
        name: The benchmark, as in `bars.toml`.
        parts: By name, in the order of the table.
        draw: Gives what draws the plot of what was found.
    """

    name: str
    parts: Mapping[str, Part]
    draw: Callable[[Mapping[str, Found]], Callable[..., None]]

    def main(self, arguments: Sequence[str] | None = None) -> None:
        """Run what the command line asks for, and write all that is known."""
        parser = command_line(self.name)
        parser.add_argument("--work", type=Path, default=WORK, help="what is kept")
        parser.add_argument("--only", default="", metavar="STAGE,…", help="of them")
        chosen = parser.parse_args(arguments)
        asked = self.choose(chosen.only, quick=chosen.quick)
        work = chosen.work / self.name
        folder = work / "quick" if chosen.quick else work
        outcome = self.measure(folder, asked, quick=chosen.quick)
        publish(self.name, outcome, chosen.json)

    def choose(self, only: str, *, quick: bool) -> list[str]:
        """The stages that the command line asks for.

        Raises:
            SystemExit: It asks for one that there is not.
        """
        asked = [name for name in only.split(",") if name]
        for name in asked:
            if name not in self.parts:
                hint = did_you_mean(name, self.parts)
                sys.exit(f"there is no stage {name!r}. {hint}")
        meant = [
            name for name, part in self.parts.items() if part.is_quick or not quick
        ]
        return asked or meant

    def measure(self, work: Path, asked: Sequence[str], *, quick: bool) -> Outcome:
        """Run some stages, and tell what is known of all."""
        found: dict[str, Found] = {}
        for name in self.parts:
            folder = work / name
            if name in asked:
                found[name] = self.run(name, folder, quick=quick)
            else:
                known = self.look(name, folder)
                found[name] = known or self.nothing(name, "not measured yet")
        return Outcome(
            rows=[row for one in found.values() for row in one.rows],
            measured=[figure for one in found.values() for figure in one.measured],
            draw=self.draw(found),
        )

    def run(self, name: str, folder: Path, *, quick: bool) -> Found:
        """Run a stage and keep what it found; a failure is a row that says so."""
        part = self.parts[name]
        shutil.rmtree(folder, ignore_errors=True)
        make_folder(folder)
        tell(f"== {name}")
        command = [sys.executable, "-m", "benchmarks._stages", part.place, str(folder)]
        paths = [str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
        child = subprocess.Popen(
            [*command, *(["--quick"] if quick else [])],
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
            text=True,
            errors="replace",
            start_new_session=True,  # so that all it started can be ended with it
        )
        limit_s = QUICK_LIMIT_S if quick else part.limit_s
        try:
            _, said = child.communicate(timeout=limit_s)
            why = f"exit code {child.returncode}: {' '.join(said.split())[-_WORDS:]}"
        except subprocess.TimeoutExpired:
            why = f"it took longer than {limit_s:g} s"
        finally:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            if child.stderr is not None:
                child.stderr.close()
        found = self.look(name, folder)
        if found is None:
            tell(f"{name} failed: {why}")
            found = self.nothing(name, f"failed: {why}")
        return found

    def look(self, name: str, folder: Path) -> Found | None:
        """Read what a stage found before."""
        try:
            found = msgspec.json.decode((folder / FOUND).read_bytes(), type=Found)
        except (OSError, msgspec.DecodeError):
            return None
        is_whole = {one.id for one in found.measured} == set(self.parts[name].bars)
        return found if is_whole else None

    def nothing(self, name: str, why: str) -> Found:
        """What stands for a stage that found nothing."""
        bars = self.parts[name].bars
        return Found(
            rows=[row(", ".join(bars), "skerry", note=why)],
            measured=[Measured(id=bar, figure=None, n=0) for bar in bars],
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one stage here."""
    parser = argparse.ArgumentParser()
    parser.add_argument("place", metavar="MODULE:FUNCTION")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--quick", action="store_true")
    chosen = parser.parse_args(arguments)
    module, _, name = chosen.place.partition(":")
    stage: Stage = getattr(importlib.import_module(f"benchmarks.{module}"), name)
    found = stage(Plan(work=chosen.folder.absolute(), quick=chosen.quick))
    write_file(chosen.folder / FOUND, msgspec.json.encode(found))


if __name__ == "__main__":
    main()
