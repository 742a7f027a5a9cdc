"""The project file: written once, read for ever, completed by flags."""

from __future__ import annotations

from pathlib import Path

import pytest

from skerry.app.project import (
    PROJECT_FILE,
    Project,
    complete,
    read_project,
    require,
    require_model,
    write_project,
)
from skerry.core.errors import UsageError
from skerry.tasks.steps import Softmax, TopK
from skerry.tasks.task import Task, TaskKind, task_to_toml

TASK = Task(
    kind=TaskKind.CLASSIFICATION,
    metric="top1",
    labels=("cat", "dog"),
    post=(Softmax(), TopK()),
)
GOLDEN = Path(__file__).parents[2] / "golden" / "project-1.toml"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project in a folder, with its file written."""
    project = Project(model=tmp_path / "m.onnx", samples=tmp_path / "photos", task=TASK)
    write_project(project, tmp_path / PROJECT_FILE)
    return project


def test_round_trip_with_relative_paths(project: Project, tmp_path: Path) -> None:
    """The file is read back the same; the folder may be moved."""
    assert read_project(tmp_path / PROJECT_FILE) == project
    assert str(tmp_path) not in (tmp_path / PROJECT_FILE).read_text()


def test_a_path_elsewhere_stays_whole(tmp_path: Path) -> None:
    """A model outside the project's folder is named by its whole path."""
    path = tmp_path / "inner" / PROJECT_FILE
    path.parent.mkdir()
    write_project(Project(model=tmp_path / "m.onnx", samples=tmp_path, task=TASK), path)
    assert read_project(path).model == tmp_path / "m.onnx"


def test_the_golden_file_is_readable_for_ever() -> None:
    """A project that version 1 wrote still says what it said."""
    read = read_project(GOLDEN)
    assert read.model == GOLDEN.parent / "model.onnx"
    assert read.samples == GOLDEN.parent / "photos"
    assert read.task == TASK


@pytest.mark.parametrize(
    "text",
    [
        "",
        'schema = "skerry.project/2"',
        'schema = "skerry.project/1"',
        'schema = "skerry.project/1"\nmodel = "m"\nsamples = 1\ntask = {}',
        'schema = "skerry.project/1"\nmodel = "m"\nsamples = "s"\ntask = {}',
        'schema = "skerry.project/1"\nmodell = "m"',
        "schema = [",
    ],
)
def test_what_is_no_project(text: str, tmp_path: Path) -> None:
    """Another file, another schema, a misspelt or missing key: an error."""
    (tmp_path / PROJECT_FILE).write_text(text)
    with pytest.raises(UsageError):
        complete(None, None, None, folder=tmp_path)


def test_a_flag_goes_before_the_file(project: Project, tmp_path: Path) -> None:
    """What is typed wins; the rest is from the file."""
    assert require(complete(None, None, None, folder=tmp_path)) == project
    other = tmp_path / "task.toml"
    other.write_text(task_to_toml(Task(kind=TASK.kind, metric="top1", post=(TopK(),))))
    given = complete(Path("n.onnx"), None, other, folder=tmp_path)
    assert given.model == Path("n.onnx")
    assert given.samples == project.samples
    assert given.task is not None
    assert given.task.labels == ()
    assert require_model(None, folder=tmp_path) == project.model
    assert require_model(Path("n.onnx"), folder=tmp_path) == Path("n.onnx")


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    """Without a file, everything must be given; the error says what is not."""
    with pytest.raises(UsageError, match="no samples and task given"):
        require(complete(Path("m.onnx"), None, None, folder=tmp_path))
    with pytest.raises(UsageError, match="no model given"):
        require_model(None, folder=tmp_path)
