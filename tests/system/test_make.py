"""The Makefile says plainly what it lacks, and starts nothing twice."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.system.conftest import REPOSITORY

pytestmark = pytest.mark.system


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder with the Makefile and, as far as it can tell, a whole environment."""
    shutil.copy(REPOSITORY / "Makefile", tmp_path)
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / ".place").write_text(f"{tmp_path}\n")
    for stamp in (".demo", ".dev"):
        (tmp_path / ".venv" / stamp).touch()
    return tmp_path


def make(folder: Path, *arguments: str, **environment: str) -> tuple[int, str, str]:
    """Run make there, as if not below another; gives its exit code and its words."""
    outside = {
        k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))
    }
    done = subprocess.run(
        ["make", *arguments],
        cwd=folder,
        env={**outside, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_a_missing_python_is_one_clear_line(clone: Path) -> None:
    """What is needed, and how to get it."""
    shutil.rmtree(clone / ".venv")
    returncode, _, stderr = make(clone, "check", "PYTHONS=no-python-of-that-name")
    assert returncode != 0
    assert stderr.startswith("Skerry needs Python 3.11 or newer, with its venv module")
    assert not (clone / ".venv").exists()


def test_a_whole_environment_is_left_alone(clone: Path) -> None:
    """The stamps say that nothing is to be installed."""
    assert "pip" not in make(clone, "--dry-run", "check")[1]


@pytest.mark.parametrize("change", ["pyproject.toml", ".venv/.place"])
def test_a_change_installs_again(clone: Path, change: str) -> None:
    """Other requirements, or an environment that was made elsewhere."""
    if change == "pyproject.toml":
        newer = (clone / ".venv" / ".dev").stat().st_mtime + 10
        os.utime(clone / change, (newer, newer))
    else:
        (clone / change).write_text("elsewhere\n")
    assert "pip" in make(clone, "--dry-run", "check")[1]


def test_only_a_name_on_the_command_line_chooses_a_benchmark(clone: Path) -> None:
    """Some systems keep the machine's name in NAME."""
    assert make(clone, "--dry-run", "bench", "NAME=compress_ptq")[1].endswith(
        "benchmarks compress_ptq\n"
    )
    assert "ptq" not in make(clone, "--dry-run", "bench", NAME="ptq")[1]
