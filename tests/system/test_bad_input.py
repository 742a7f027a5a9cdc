"""Bad input, a bad disk and Ctrl-C: one line, one hint, and nothing half-written."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skerry.app.main import main
from skerry.compress.search.cache import CACHE_FOLDER
from skerry.core.durable import TEMPORARY_SUFFIX, RealDisk
from skerry.core.errors import (
    DataError,
    ModelError,
    RuntimeFailure,
    SkerryError,
    StorageError,
    UsageError,
)
from skerry.tasks.steps import TopK
from skerry.tasks.task import Task, TaskKind, task_to_toml
from tests import models

Capture = pytest.CaptureFixture[str]
Patch = pytest.MonkeyPatch
Refused = Callable[..., str]

ROWS = 24
CLASSES = 3
CANCELLED = 130
UNKNOWN_OPERATOR = "net (float[1, 8] x) => (float[1, 8] y) { y = Frobnicate(x) }"
FOREIGN_OPERATOR = """net (float[1, 8] x) => (float[1, 3] y) {
  h = com.example.Frobnicate(x)
  y = MatMul(h, w)
}"""


def rows(**changed: Any) -> dict[str, Any]:
    """Arrays that fit the model, but for those that are changed."""
    values = np.random.default_rng(0).normal(size=(ROWS, 8)).astype(np.float32)
    return {"x": values, "label": np.arange(ROWS) % CLASSES, **changed}


def with_nan() -> Any:
    """Values of which one is NaN."""
    values = rows()["x"]
    values[ROWS // 2, 3] = np.nan
    return values


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: Patch) -> Path:
    """The current folder: a model, labelled samples, a task, an empty `out`.

    Temporary files go to `temporary`, so that what is left of them is seen.
    """
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.onnx").write_bytes(models.mlp())
    np.savez(tmp_path / "rows.npz", **rows())
    task = Task(kind=TaskKind.CLASSIFICATION, metric="top1", post=(TopK(k=1),))
    (tmp_path / "task.toml").write_text(task_to_toml(task))
    for name in ("out", "temporary"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    return tmp_path


def compress(*more: str, out: str = "out") -> list[str]:
    """The words of a compress command."""
    words = ["compress", "m.onnx", "--evaluation", "rows.npz", "--task", "task.toml"]
    return [*words, "--out", out, *more]


def evaluate(*more: str) -> list[str]:
    """The words of an evaluate command."""
    return ["evaluate", "m.onnx", "rows.npz", "--task", "task.toml", *more]


INSPECT = ["inspect", "m.onnx"]
RUN_MODEL = [compress(), evaluate()]
READ_MODEL = [*RUN_MODEL, INSPECT]


@pytest.fixture
def refused(folder: Path, capfd: pytest.CaptureFixture[str]) -> Refused:
    """Run a command that must fail cleanly; gives its line."""

    def run(words: list[str], code: int | type[SkerryError]) -> str:
        exit_code = code if isinstance(code, int) else code.exit_code
        capfd.readouterr()
        assert main(words) == exit_code
        said = capfd.readouterr()
        lines = said.err.splitlines()
        assert len(lines) == 2, said.err
        assert lines[0].startswith("error: ")
        assert lines[1].startswith("hint: ")
        assert len(lines[1]) > len("hint: ")
        assert "Traceback" not in said.err
        assert said.out == ""
        assert left(folder) == []
        return lines[0]

    return run


def left(folder: Path) -> list[Path]:
    """What lies where only whole results, or nothing, may lie.

    What was measured before a failure stays in the cache, each entry of it whole.
    """
    found = [
        path for name in ("out", "temporary") for path in (folder / name).glob("*")
    ]
    kept = [path for path in found if path.name == CACHE_FOLDER]
    halves = [path for cache in kept for path in cache.glob(f"*{TEMPORARY_SUFFIX}")]
    return [path for path in found if path not in kept] + halves


@pytest.mark.parametrize("words", READ_MODEL)
@pytest.mark.parametrize(
    "content", [b"", b"not a model", b"PK\x03\x04 a zip", bytes(200)]
)
def test_not_a_model(
    words: list[str], content: bytes, folder: Path, refused: Refused
) -> None:
    """Another file is a ModelError that names it."""
    (folder / "m.onnx").write_bytes(content)
    assert "m.onnx" in refused(words, ModelError)


@pytest.mark.parametrize("words", READ_MODEL)
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.99])
def test_a_truncated_model(
    words: list[str], kept: float, folder: Path, refused: Refused
) -> None:
    """A model that is cut short is a ModelError that names it."""
    content = models.mlp()
    (folder / "m.onnx").write_bytes(content[: int(len(content) * kept)])
    assert "m.onnx" in refused(words, ModelError)


@pytest.mark.parametrize("words", READ_MODEL)
def test_a_model_that_is_not_there(
    words: list[str], folder: Path, refused: Refused
) -> None:
    """A mistyped path is the user's error."""
    (folder / "m.onnx").unlink()
    assert "m.onnx" in refused(words, UsageError)


@pytest.mark.parametrize("words", READ_MODEL)
def test_an_unknown_operator(words: list[str], folder: Path, refused: Refused) -> None:
    """An operator that the standard lacks is named."""
    (folder / "m.onnx").write_bytes(models.model_bytes(UNKNOWN_OPERATOR))
    assert "Frobnicate" in refused(words, ModelError)


@pytest.mark.parametrize("words", RUN_MODEL)
def test_an_operator_that_the_runtime_lacks(
    words: list[str], folder: Path, refused: Refused
) -> None:
    """An operator of somebody's own domain is named, as what cannot be run."""
    content = models.model_bytes(
        FOREIGN_OPERATOR,
        models.random_weights({"w": (8, 3)}),
        domains=', "com.example": 1',
    )
    (folder / "m.onnx").write_bytes(content)
    assert "Frobnicate" in refused(words, RuntimeFailure)


@pytest.mark.parametrize("words", RUN_MODEL)
@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"x": rows()["x"][:, :7]}, "got x float32[1×7]"),
        ({"x": rows()["x"][:, :, None]}, "got x float32[1×8×1]"),
        ({"x": rows()["x"].astype(np.float64)}, "float64"),
        ({"x": np.zeros((ROWS, 8), np.uint8)}, "uint8"),
        ({"x": with_nan()}, "NaN"),
        ({"x": np.full((ROWS, 8), np.inf, np.float32)}, "infinite"),
        ({"x": rows()["x"][:0], "label": rows()["label"][:0]}, "rows.npz"),
        ({"label": np.full(ROWS, CLASSES)}, f"is {CLASSES}"),
        ({"label": np.full(ROWS, -1)}, "is -1"),
        ({"label": np.array(["cat"] * ROWS)}, "cat"),
        ({"label": np.arange(ROWS - 1) % CLASSES}, "label"),
        ({"label": np.linspace(0, 1, ROWS)}, "label"),
    ],
)
def test_data_that_does_not_fit(
    words: list[str], changed: dict[str, Any], told: str, folder: Path, refused: Refused
) -> None:
    """Wrong shape, dtype, values or labels: a DataError that says which."""
    np.savez(folder / "rows.npz", **rows(**changed))
    assert told in refused(words, DataError)


def test_data_without_labels(
    folder: Path, refused: Refused, capfd: pytest.CaptureFixture[str]
) -> None:
    """Without labels nothing can be scored; outputs are compared, and that is said."""
    np.savez(folder / "rows.npz", x=rows()["x"])
    assert "label" in refused(evaluate(), DataError)
    assert main(compress()) == 0
    assert "There are no labels" in " ".join(capfd.readouterr().out.split())


def test_calibration_that_does_not_fit(folder: Path, refused: Refused) -> None:
    """Calibration samples are checked as the others are."""
    np.savez(folder / "few.npz", x=with_nan())
    assert "NaN" in refused(compress("--calibration", "few.npz"), DataError)


def refuse_writes(
    patch: Patch, folder: Path, number: int, refusal: BaseException
) -> None:
    """Let a write into a folder fail half-way, and all after it."""
    write, seen = RealDisk.write, [0]

    def refusing(disk: RealDisk, path: Path, content: bytes) -> None:
        seen[0] += path.parent.resolve() == folder
        if path.parent.resolve() == folder and seen[0] >= number:
            write(disk, path, content[: len(content) // 2])
            raise refusal
        write(disk, path, content)

    patch.setattr(RealDisk, "write", refusing)


@pytest.mark.parametrize("number", [1, 2, 4])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_disk_that_refuses(
    number: int, code: int, folder: Path, refused: Refused, monkeypatch: Patch
) -> None:
    """A full, read-only or forbidden folder is left without any of the files."""
    refusal = OSError(code, os.strerror(code))
    refuse_writes(monkeypatch, folder / "out", number, refusal)
    assert os.strerror(code) in refused(compress(), StorageError)


def test_a_full_disk_for_temporary_files(refused: Refused, monkeypatch: Patch) -> None:
    """The work folder may be what is full: nothing is left there either."""
    write, seen = RealDisk.write, [0]

    def refusing(disk: RealDisk, path: Path, content: bytes) -> None:
        seen[0] += 1
        if seen[0] >= 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(disk, path, content)

    monkeypatch.setattr(RealDisk, "write", refusing)
    assert os.strerror(errno.ENOSPC) in refused(compress(), StorageError)


def test_a_file_where_the_folder_should_be(folder: Path, refused: Refused) -> None:
    """A file is not replaced by a folder, nor is one made beneath it."""
    (folder / "taken").write_bytes(b"mine")
    for out in ("taken", "taken/deeper"):
        refused(compress(out=out), StorageError)
    assert (folder / "taken").read_bytes() == b"mine"


def test_an_earlier_result_outlives_a_failure(
    folder: Path, capsys: Capture, monkeypatch: Patch
) -> None:
    """What stood in the folder is as it was when the new result cannot be written."""
    (folder / "out" / "model.onnx").write_bytes(b"earlier")
    refusal = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    refuse_writes(monkeypatch, folder / "out", 2, refusal)
    assert main(compress()) == StorageError.exit_code
    assert capsys.readouterr().err.startswith("error: ")
    assert left(folder) == [folder / "out" / "model.onnx"]
    assert (folder / "out" / "model.onnx").read_bytes() == b"earlier"


def interrupt(*_: object, **__: object) -> None:
    """Press Ctrl-C."""
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("words", "place"),
    [
        (compress(), "skerry.app.output._ignore"),
        (compress(), "skerry.compress.search.scoring.answers"),
        (compress(), "skerry.compress.search.evidence.evaluate"),
        (compress(), "skerry.compress.search.evidence.measure_latency"),
        (evaluate(), "skerry.app.output._ignore"),
        (evaluate(), "skerry.tasks.evaluate.evaluate"),
    ],
)
def test_ctrl_c(
    words: list[str], place: str, refused: Refused, monkeypatch: Patch
) -> None:
    """Whatever is under way, Ctrl-C ends it with one line and nothing left."""
    monkeypatch.setattr(place, interrupt)
    assert "cancelled" in refused(words, CANCELLED)


@pytest.mark.parametrize("number", [1, 3])
def test_ctrl_c_while_writing(
    number: int, folder: Path, refused: Refused, monkeypatch: Patch
) -> None:
    """Ctrl-C half-way through a file leaves neither it nor those before it."""
    refuse_writes(monkeypatch, folder / "out", number, KeyboardInterrupt())
    assert "cancelled" in refused(compress(), CANCELLED)


def spoil_model(folder: Path, patch: Patch) -> None:
    """Make the model none."""
    del patch
    (folder / "m.onnx").write_bytes(b"not a model")


def spoil_data(folder: Path, patch: Patch) -> None:
    """Put a NaN among the samples."""
    del patch
    np.savez(folder / "rows.npz", **rows(x=with_nan()))


def spoil_disk(folder: Path, patch: Patch) -> None:
    """Fill the disk."""
    refusal = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    refuse_writes(patch, folder / "out", 2, refusal)


def spoil_mood(folder: Path, patch: Patch) -> None:
    """Press Ctrl-C while the model is scored."""
    del folder
    patch.setattr("skerry.compress.search.evidence.evaluate", interrupt)


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (spoil_model, ("ModelError", ModelError.exit_code)),
        (spoil_data, ("DataError", DataError.exit_code)),
        (spoil_disk, ("StorageError", StorageError.exit_code)),
        (spoil_mood, ("Cancelled", CANCELLED)),
    ],
)
def test_as_json(
    spoil: Callable[[Path, Patch], None],
    expected: tuple[str, int],
    folder: Path,
    capfd: Capture,
    monkeypatch: Patch,
) -> None:
    """With --json a failure is one object on stdout and not a word on stderr."""
    spoil(folder, monkeypatch)
    name, code = expected
    assert main(compress("--json")) == code
    said = capfd.readouterr()
    assert said.err == ""
    (line,) = said.out.splitlines()
    answer = json.loads(line)
    assert answer["ok"] is False
    assert answer["error"]["code"] == name
    assert answer["error"]["what"]
    assert answer["error"]["hint"]
    assert left(folder) == []
