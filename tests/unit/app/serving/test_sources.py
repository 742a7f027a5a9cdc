"""What is served: read whole, copied, and the next version once it has changed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from skerry.app.serving.given import Given, find_sources
from skerry.app.serving.repository import SourceRepository
from skerry.app.serving.sources import (
    ModelSource,
    ReleaseSource,
    find_releases,
    name_of,
)
from skerry.core.budget import Budget
from skerry.core.durable import hold
from skerry.core.errors import (
    ConflictError,
    DataError,
    ModelError,
    RefusedError,
    TrustError,
    UsageError,
)
from skerry.core.release import NOTHING, Blob, read_manifest, write_manifest
from skerry.edge.slots import Slots
from skerry.edge.vault import SEAL_FILE
from skerry.tasks.golden import load_golden
from tests import models
from tests.commands import make_parts
from tests.releases import NAME, small_release


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """A folder with a model, samples and a task."""
    make_parts(tmp_path)
    return tmp_path


def _repository(
    folder: Path, *sources: ModelSource | ReleaseSource, loaded: tuple[int, ...] = ()
) -> SourceRepository:
    (folder / "copies").mkdir()
    return SourceRepository(sources, folder / "copies", loaded=lambda _: loaded)


def test_a_file_is_a_release_of_version_1(parts: Path) -> None:
    """It is a copy, unproven and said to be, with the task and budget as given."""
    source = ModelSource(
        name="rows",
        path=parts / "mlp.onnx",
        task=parts / "task.toml",
        budget=Budget(latency_ms=50),
    )
    repository = _repository(parts, source)
    installed = repository.find("rows")
    assert str(installed.id) == "rows/1"
    assert installed.manifest.golden == NOTHING
    assert installed.manifest.task != NOTHING
    assert installed.manifest.budget.latency_ms == 50
    assert installed.model.runtime == "onnxruntime"
    (parts / "mlp.onnx").unlink()
    assert Blob.of(installed.files["model"].read_bytes()) == installed.model.blob
    (made_up,) = load_golden(installed.files["golden"]).samples
    assert made_up.outputs == {}
    assert set(made_up.inputs) == {"x"}


def test_nobody_outside_may_claim_to_need_no_proof() -> None:
    """A manifest that names the stand-in for golden samples cannot be read."""
    manifest = small_release(1).manifest
    with pytest.raises(DataError, match="0 bytes"):
        read_manifest(write_manifest(replace(manifest, golden=NOTHING)))


def test_a_change_is_the_next_version(parts: Path) -> None:
    """Unchanged it is the same; changed, in model or task, it is one version more."""
    path = parts / "mlp.onnx"
    source = ModelSource(name="rows", path=path, task=parts / "task.toml")
    repository = _repository(parts, source)
    first = repository.find("rows")
    assert repository.find("rows") is first
    path.write_bytes(models.mlp(seed=2))
    second = repository.find("rows", 2)
    assert second.id.version == 2
    text = (parts / "task.toml").read_text()
    (parts / "task.toml").write_text(text.replace("k = 1", "k = 2"))
    assert repository.find("rows").id.version == 3
    assert [installed.id.version for installed in repository.index()] == [3]
    # Of what is not loaded only the one before is kept.
    assert not first.files["model"].exists()
    assert second.files["model"].exists()
    with pytest.raises(UsageError, match="version 1 of 'rows'"):
        repository.find("rows", 1)


def test_what_serves_is_kept(parts: Path) -> None:
    """A copy that is loaded stays, however many versions have come after it."""
    repository = _repository(
        parts, ModelSource(name="rows", path=parts / "mlp.onnx"), loaded=(1,)
    )
    first = repository.find("rows")
    for seed in (2, 3, 4):
        (parts / "mlp.onnx").write_bytes(models.mlp(seed=seed))
        repository.find("rows")
    assert first.files["model"].exists()


def test_a_file_that_is_no_model(parts: Path) -> None:
    """At the start it is the model's fault; later it is refused, and may be mended."""
    path = parts / "mlp.onnx"
    good = path.read_bytes()
    repository = _repository(parts, ModelSource(name="rows", path=path))
    path.write_bytes(b"no model")
    with pytest.raises(ModelError):
        repository.find("rows")
    path.write_bytes(good)
    repository.find("rows")
    path.write_bytes(b"no model")
    with pytest.raises(RefusedError, match="cannot be loaded"):
        repository.find("rows")
    path.write_bytes(good)
    assert repository.find("rows").id.version == 1
    with pytest.raises(UsageError, match="no model 'colums'"):
        repository.find("colums")


def test_a_task_that_does_not_fit_is_told_at_the_start(parts: Path) -> None:
    """Who starts a server hears what its clients would be told."""
    task = parts / "task.toml"
    task.write_text(
        'schema = "skerry.task/1"\nkind = "embedding"\nmetric = "lfw_accuracy"\n'
        '[[post]]\nstep = "embed_match"\nthreshold = 0.5\n'
    )
    source = ModelSource(name="rows", path=parts / "mlp.onnx", task=task)
    with pytest.raises(UsageError):
        source.read()


def _put_release(folder: Path) -> None:
    made = small_release(1)
    slots = Slots(folder, target="any")
    blobs = made.manifest.blobs("any")
    by_hash = {Blob.of(content): content for content in made.contents.values()}
    contents = {role: by_hash[blob] for role, blob in blobs.items()}
    installed = slots.install(made.signed, contents)
    slots.switch(installed.id, rollout="r-1")


def test_a_sealed_gateways_folder(tmp_path: Path) -> None:
    """Only its gateway serves it; the record is not made anew for want of a key."""
    gateway = tmp_path / "gw"
    _put_release(gateway)
    (gateway / SEAL_FILE).touch()
    before = (gateway / "slots.json").read_bytes()
    with pytest.raises(TrustError, match="is sealed"):
        find_releases(gateway)
    assert (gateway / "slots.json").read_bytes() == before


def test_a_gateways_folder_and_a_slot_of_it(tmp_path: Path) -> None:
    """The active release of each name is served, with the proof that it came with."""
    gateway = tmp_path / "gw"
    gateway.mkdir()
    _put_release(gateway)
    (source,) = find_releases(gateway)
    assert source.name == NAME
    installed = _repository(tmp_path, source).find(NAME)
    assert installed.manifest.golden != NOTHING
    assert installed.files["golden"].exists()
    assert find_releases(source.folder) == [source]
    (source.folder / "golden.npz").write_bytes(b"damaged")
    with pytest.raises(DataError, match="not what its manifest says"):
        source.read()
    with (
        hold(gateway / "gateway.lock", who="gateway"),
        pytest.raises(ConflictError, match="another gateway runs"),
    ):
        find_releases(gateway)


def test_options_are_for_one_or_for_all(parts: Path) -> None:
    """`NAME=VALUE` is for one model, a bare value for all that have none."""
    (parts / "other.onnx").write_bytes(models.mlp())
    one, other = (str(parts / name) for name in ("mlp.onnx", "other.onnx"))
    given = Given(
        options={
            "task": (f"first={parts / 'task.toml'}",),
            "runtime": ("openvino", "other=null"),
        }
    )
    first, second = find_sources([f"first={one}", other], given)
    assert isinstance(first, ModelSource)
    assert isinstance(second, ModelSource)
    assert (first.name, first.task) == ("first", parts / "task.toml")
    assert (second.name, second.task) == ("other", None)
    assert (first.runtime, second.runtime) == ("openvino", "null")
    with pytest.raises(UsageError, match="two models"):
        find_sources([one, one], Given(options={}))
    with pytest.raises(UsageError, match="names 'mpl'"):
        find_sources([one], Given(options={"task": ("mpl=t.toml",)}))
    with pytest.raises(UsageError, match="single model"):
        find_sources([one, other], Given(options={}, shapes=("x=1x8",)))


def test_the_project_file_says_what_is_served(
    parts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a model it is that of skerry.toml, with its task and its budget."""
    monkeypatch.chdir(parts)
    with pytest.raises(UsageError, match="no model given"):
        find_sources([], Given(options={}))
    (parts / "skerry.toml").write_text(
        'schema = "skerry.project/1"\nmodel = "mlp.onnx"\nsamples = "rows.npz"\n'
        "[budget]\nlatency_ms = 7.0\n[task]\n" + (parts / "task.toml").read_text()
    )
    (source,) = find_sources([], Given(options={}))
    assert isinstance(source, ModelSource)
    assert source.budget.latency_ms == 7
    found = source.read()
    assert set(found.contents) == {"model", "task", "golden"}


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("PP-OCRv4_rec.onnx", "pp-ocrv4-rec"),
        ("out/model.onnx", "out"),
        ("__.tflite", "model"),
        ("a" * 90 + ".onnx", "a" * 63),
    ],
)
def test_a_file_has_a_name(path: str, name: str) -> None:
    """What stands in paths and topics is made of the file's name."""
    assert name_of(Path(path)) == name
