"""Damaged files of every kind through the whole of `skerry compress`.

An error is one of our tree, with its exit code, and what stood in the folder of the
results still does; whatever is not refused ends in four files. Never a bug (70).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from skerry.app.commands import compress as command
from skerry.app.main import BUG_EXIT_CODE, main
from skerry.compress.ptq.quantize import Quantize
from skerry.compress.recipe_files import recipe_to_toml
from skerry.compress.search import choose, evidence, trials
from skerry.compress.search.candidates import recipe_of
from skerry.core.errors import BudgetError, DataError, UsageError
from skerry.tasks.measure import Ratio
from skerry.tasks.steps import TopK
from skerry.tasks.task import Task, TaskKind, task_to_toml
from tests import models

CASES = 30
MOST_S = 3.0
"""Time for one kind of damage; what is not tried then is tried on a faster machine."""

OUTPUTS = ("model.onnx", "recipe.toml", "report.html", "report.json")
OLD = b"what a run before has left"
TASK = Task(kind=TaskKind.CLASSIFICATION, metric="top1", post=(TopK(k=1),))
WORDS = (
    *("compress", "net.onnx", "--calibration", "few.npz"),
    *("--evaluation", "labelled.npz", "--task", "task.toml"),
    *("--cache", "kept", "--json"),
)
PIECES = (
    *(b"[[step]]", b"[[post]]", b'"', b"=", b"[", b"{", b"\x00", b"\xff", b"\n"),
    *(b'step = "half"', b'step = "codebook"', b"bits = 3", b"bits = -1", b"nan"),
    *(b'step = "quantize"', b"per_channel = 3", b"method = 7", b'operators = ["a"]'),
    *(b"weight_bits = 4", b"activation_bits = 16", b'keep_float = ["none"]', b"inf"),
    *(b'rounding = "odd"', b"k = 0", b"k = 99999", b"'" * 3, b"1e999", b"true"),
)

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A net, its samples, its task and a recipe; a short search of two candidates."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.onnx").write_bytes(models.mlp())
    rows = np.random.default_rng(0).normal(size=(24, 8)).astype(np.float32)
    np.savez(tmp_path / "few.npz", x=rows[16:])
    np.savez(tmp_path / "labelled.npz", x=rows[:16], label=np.arange(16) % 3)
    (tmp_path / "task.toml").write_text(task_to_toml(TASK))
    (tmp_path / "recipe.toml").write_text(recipe_to_toml(recipe_of(Quantize())))
    (tmp_path / "out").mkdir()
    monkeypatch.setattr(command, "other_runtimes", lambda _: ((), {}))
    monkeypatch.setattr(choose, "PLAIN", {"plain": Quantize(operators="all")})
    monkeypatch.setattr(choose, "WEIGHTS", {"weights": Quantize()})
    monkeypatch.setattr(choose, "FUSED", {"fused": Quantize(operators="fused")})
    monkeypatch.setattr(evidence, "REPORT_REPEATS", 2)
    monkeypatch.setattr(evidence, "PROFILE_REPEATS", 1)
    half = {"candidate": Ratio(median=0.5, low=0.5, high=0.5)}
    monkeypatch.setattr(trials, "time_models", lambda *_: half)
    return tmp_path


Run = Callable[..., int]


@pytest.fixture
def run(folder: Path, capsys: Capture) -> Run:
    """Run the command over what a run before has left; gives its exit code."""
    out = folder / "out"

    def compress(*more: str) -> int:
        for path in out.iterdir():
            path.unlink()
        for name in OUTPUTS:
            (out / name).write_bytes(OLD)
        capsys.readouterr()
        code = main([*WORDS, *more])
        said = capsys.readouterr()
        answer: Any = json.loads(said.out)
        assert code != BUG_EXIT_CODE, answer
        assert "Traceback" not in said.err
        is_done = code in (0, BudgetError.exit_code)
        assert answer["ok"] is is_done
        left = {path.name: path.read_bytes() == OLD for path in out.iterdir()}
        assert left == dict.fromkeys(OUTPUTS, not is_done)
        if not is_done:
            assert answer["error"]["what"]
            assert answer["error"]["hint"]
        return code

    return compress


def damage(content: bytes, seed: int) -> bytes:
    """Flip, cut, double or splice a few bytes."""
    rng = np.random.default_rng(seed)
    found = bytearray(content)
    for _ in range(rng.integers(1, 5)):
        place = int(rng.integers(0, len(found) + 1))
        kind = int(rng.integers(0, 5))
        if kind == 0 and place < len(found):
            found[place] = int(rng.integers(0, 256))
        elif kind == 1:
            del found[place : place + int(rng.integers(1, 40))]
        elif kind == 2:
            found[place:place] = found[place : place + int(rng.integers(1, 40))]
        elif kind == 3:
            found[place:place] = PIECES[int(rng.integers(0, len(PIECES)))]
        elif rng.random() < 0.2:
            del found[place:]
    return bytes(found)


def in_time() -> Iterator[int]:
    """Seeds, for as long as there is time."""
    until_s = time.monotonic() + MOST_S
    for seed in range(CASES):
        if time.monotonic() > until_s:
            return
        yield seed


@pytest.mark.parametrize(
    "name", ["net.onnx", "few.npz", "labelled.npz", "task.toml", "recipe.toml"]
)
def test_damaged_files(name: str, folder: Path, run: Run) -> None:
    """Of each kind: refused, or compressed all the same, and nothing in between."""
    path = folder / name
    content = path.read_bytes()
    more = ("--recipe", name) if name == "recipe.toml" else ()
    codes = set()
    for seed in in_time():
        path.write_bytes(damage(content, seed))
        codes.add(run(*more))
    assert codes - {0, BudgetError.exit_code}


@pytest.mark.parametrize("kept", [0, 1, 100, 511])
def test_weights_that_are_cut_short(kept: int, folder: Path, run: Run) -> None:
    """Weights beside the model of which a part is missing."""
    model = onnx.load_from_string(models.mlp())
    path = folder / "net.onnx"
    onnx.save(
        model,
        path,
        save_as_external_data=True,
        location="net.weights",
        size_threshold=0,
    )
    assert run() in (0, BudgetError.exit_code)
    weights = folder / "net.weights"
    weights.write_bytes(weights.read_bytes()[:kept])
    assert run() not in (0, BudgetError.exit_code)


PARAMS: tuple[tuple[str, str], ...] = (
    *(("quantize", line) for line in ("methd = 'mse'", "method = 7", "method = 'odd'")),
    *(("quantize", line) for line in ("per_channel = 3", "per_channel = 'yes'")),
    *(("quantize", line) for line in ("keep_float = 'abc'", "keep_float = ['none']")),
    *(("quantize", line) for line in ("weight_bits = 5", "weight_bits = true")),
    *(("quantize", line) for line in ("weight_bits = 1e999", "runtime = 'odd'")),
    *(("quantize", line) for line in ("activation_bits = '8'", "operators = ['all']")),
    *(("quantize", line) for line in ("equalize = false", "rounding = -1", "x = {}")),
    *(("half", line) for line in ("dtype = 16", "dtype = 'float8'", "compute = 1")),
    *(("codebook", line) for line in ("bits = 0", "bits = 4.5", "kind = []")),
    *((name, "") for name in ("quantise", "", "a" * 9999, "../half", "\\u0000")),
)


@pytest.mark.parametrize(("step", "line"), PARAMS)
def test_wrong_parameters(step: str, line: str, folder: Path, run: Run) -> None:
    """Well-formed recipes of what no step takes are refused, each with a hint."""
    head = 'schema = "skerry.recipe/1"'
    text = f'{head}\n[[step]]\nstep = "{step}"\n{line}\n'
    (folder / "recipe.toml").write_text(text)
    assert run("--recipe", "recipe.toml") in (UsageError.exit_code, DataError.exit_code)


def test_garbage_in_the_cache(folder: Path, run: Run) -> None:
    """Entries damaged, emptied, or folders in their place: all is made anew."""
    assert run() in (0, BudgetError.exit_code)
    entries = sorted((folder / "kept").iterdir())
    assert len(entries) > 3
    for index, path in enumerate(entries):
        content = path.read_bytes()
        path.unlink()
        if index % 3 == 0:
            path.write_bytes(b"")
        else:
            path.write_bytes(damage(content, index))
    assert run() in (0, BudgetError.exit_code)


def test_a_file_in_place_of_the_cache(folder: Path, run: Run) -> None:
    """What stands there is left alone, and the disk's refusal is told."""
    (folder / "kept").write_bytes(b"mine")
    assert run() not in (0, BudgetError.exit_code)
    assert (folder / "kept").read_bytes() == b"mine"


def test_random_words_for_numbers(run: Run) -> None:
    """Options that no number, or none that makes sense, was given for."""
    for words in (
        ("--accuracy-drop", "nan"),
        ("--accuracy-drop", "-1"),
        ("--output-distance", "nan"),
        ("--threads", "0"),
        ("--threads", "-3"),
        ("--integer-share", "7"),
        ("--size-bytes", "-1"),
        ("--latency-ms", "0"),
        ("--condition", "dark"),
        ("--condition", "odd=0.1"),
    ):
        run(*words)
