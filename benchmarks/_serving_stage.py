"""One stage of the benchmark in a process of its own: whatever happens, the rest stays.

`python -m benchmarks._serving_stage STAGE FOLDER [--quick]` writes FOLDER/found.json.
"""

from __future__ import annotations

import argparse
import importlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from benchmarks._harness import Measured
from benchmarks._serving_found import Found, Plan, Stage, row, tell
from skerry.core.durable import make_folder, write_file

ROOT = Path(__file__).parents[1]
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
    """

    place: str
    bars: tuple[str, ...]
    limit_s: float


STAGES: Mapping[str, Part] = {
    "cpu": Part(
        place="_serving_cpu:measure_overhead",
        bars=("cpu_overhead",),
        limit_s=600,
    ),
    "null": Part(
        place="_serving_cpu:measure_null",
        bars=("null_cpu_ms", "shm_cpu_ms"),
        limit_s=480,
    ),
    "swap": Part(
        place="_serving_swap:measure_swaps",
        bars=("swap.failed", "swap.gap_ratio"),
        limit_s=480,
    ),
    "bad": Part(
        place="_serving_faults:measure_bad_models",
        bars=("bad_model.failed",),
        limit_s=240,
    ),
    "budget": Part(
        place="_serving_budget:measure_budget",
        bars=("budget.missed", "budget.false"),
        limit_s=480,
    ),
    "hang": Part(
        place="_serving_faults:measure_hangs", bars=("hang.late",), limit_s=240
    ),
    "kill": Part(
        place="_serving_faults:measure_kills", bars=("kill.lost",), limit_s=300
    ),
    "pss": Part(
        place="_serving_memory:measure_pss",
        bars=("pss_mb", "pss_isolated_mb"),
        limit_s=120,
    ),
    "leak": Part(place="_serving_memory:measure_leak", bars=("leak",), limit_s=480),
    "nms": Part(place="_serving_nms:measure_nms", bars=("nms_in_graph",), limit_s=240),
}


def run_stage(name: str, folder: Path, *, quick: bool) -> Found:
    """Run a stage and keep what it found; a failure is a row that says so."""
    part = STAGES[name]
    shutil.rmtree(folder, ignore_errors=True)
    make_folder(folder)
    tell(f"== {name}")
    command = [sys.executable, "-m", "benchmarks._serving_stage", name, str(folder)]
    paths = [str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    child = subprocess.Popen(
        [*command, *(["--quick"] if quick else [])],
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        text=True,
        errors="replace",
        start_new_session=True,  # so that all it started can be ended with it
    )
    try:
        _, said = child.communicate(timeout=QUICK_LIMIT_S if quick else part.limit_s)
        why = f"exit code {child.returncode}: {' '.join(said.split())[-_WORDS:]}"
    except subprocess.TimeoutExpired:
        why = f"it took longer than {QUICK_LIMIT_S if quick else part.limit_s:g} s"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        if child.stderr is not None:
            child.stderr.close()
    found = look(name, folder)
    if found is None:
        tell(f"{name} failed: {why}")
        found = nothing(name, f"failed: {why}")
    return found


def look(name: str, folder: Path) -> Found | None:
    """Read what a stage found before."""
    try:
        found = msgspec.json.decode((folder / FOUND).read_bytes(), type=Found)
    except (OSError, msgspec.DecodeError):
        return None
    wanted = {f"serving.{bar}" for bar in STAGES[name].bars}
    return found if {one.id for one in found.measured} == wanted else None


def nothing(name: str, why: str) -> Found:
    """What stands for a stage that found nothing."""
    bars = STAGES[name].bars
    return Found(
        rows=[row(", ".join(bars), "skerry", note=why)],
        measured=[Measured(id=f"serving.{bar}", figure=None, n=0) for bar in bars],
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one stage here."""
    parser = argparse.ArgumentParser()
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--quick", action="store_true")
    chosen = parser.parse_args(arguments)
    module, _, name = STAGES[chosen.stage].place.partition(":")
    stage: Stage = getattr(importlib.import_module(f"benchmarks.{module}"), name)
    found = stage(Plan(work=chosen.folder.absolute(), quick=chosen.quick))
    write_file(chosen.folder / FOUND, msgspec.json.encode(found))


if __name__ == "__main__":
    main()
