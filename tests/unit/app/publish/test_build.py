from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from skerry.app.publish.build import make_release, read_schemas
from skerry.core.budget import Budget
from skerry.core.clock import FakeClock
from skerry.core.errors import DataError, ModelError, UsageError
from skerry.core.model import Model, ModelFormat
from skerry.core.release import LIBRARIES_LEVEL, Manifest
from skerry.core.schemas import SpokenSchemas
from skerry.core.seams import LoadOptions
from skerry.graph import open_model
from skerry.runtimes import DEFAULT_RUNTIMES, get_runtime, open_any
from skerry.runtimes.libraries import machine_abi
from skerry.tasks.golden import check_golden, parse_golden
from skerry.tasks.samples import MemorySource, Sample
from skerry.tasks.steps import Softmax, TopK
from skerry.tasks.task import Task, TaskKind, parse_task
from tests.contents import gallery_bytes
from tests.models import model_bytes
from tests.operators import FOREIGN_LIBRARY, operator_library, operator_net
from tests.schemas import FROM_1
from tests.twins import inputs_for, twin

TASK = Task(
    kind=TaskKind.CLASSIFICATION,
    metric="top1",
    labels=("a", "b"),
    post=(Softmax(), TopK(k=1)),
    golden_tolerance=0.05,
)
EYE = np.eye(2, dtype=np.float32)
SAMPLES = MemorySource(
    samples=tuple(
        Sample(
            inputs={"x": np.eye(2, dtype=np.float32)[[k % 2]]}, label=k % 2, name=str(k)
        )
        for k in range(20)
    )
)


def _model(folder: Path, name: str, graph: str) -> Model:
    path = folder / f"{name}.onnx"
    path.write_bytes(model_bytes(graph))
    return open_model(path)


@pytest.fixture
def source(tmp_path: Path) -> Model:
    """The uncompressed model: doubles, and says what it doubled."""
    graph = "net (float[1, 2] x) => (float[1, 2] y, float[1, 2] old) "
    return _model(tmp_path, "source", graph + "{ y = Add(x, x) old = Identity(x) }")


@pytest.fixture
def model(tmp_path: Path) -> Model:
    """The model of the release: doubles, and gives an embedding."""
    graph = "net (float[1, 2] x) => (float[1, 2] y, float[1, 2] embedding) "
    return _model(tmp_path, "model", graph + "{ y = Add(x, x) embedding = Neg(x) }")


def test_a_release_holds_all_that_a_device_needs(source: Model, model: Model) -> None:
    """Model, golden samples of the uncompressed one, task, drift, budget, signature."""
    manifest, blobs = make_release(
        "meter",
        2,
        model,
        TASK,
        SAMPLES,
        golden_from=source,
        budget=Budget(latency_ms=5),
        embedding="embedding",
        notes="new",
        drift=b"drift",
        clock=FakeClock(unix_ms=7),
    )
    assert (str(manifest.id), manifest.created_at_ms) == ("meter/2", 7)
    assert (manifest.budget, manifest.notes) == (Budget(latency_ms=5), "new")
    parts = manifest.blobs("cortex")
    assert set(parts) == {"model", "golden", "task", "drift"}
    for part in parts.values():
        content = blobs[part.sha256]
        assert hashlib.sha256(content).hexdigest() == part.sha256
        assert len(content) == part.size_bytes
    assert len(blobs) == 4
    assert blobs[parts["model"].sha256] == model.path.read_bytes()
    assert parse_task(blobs[parts["task"].sha256], name="t") == TASK
    released = manifest.models[0]
    assert (released.inputs, released.outputs) == (model.inputs, model.outputs)
    assert (released.runtime, released.embedding) == ("onnxruntime", "embedding")


def test_a_gallery_is_a_blob_of_the_release(
    source: Model, model: Model, tmp_path: Path
) -> None:
    """Read before it is signed: one that is damaged or not there makes no release."""
    path = tmp_path / "gallery.npz"
    path.write_bytes(gallery_bytes())

    def make(gallery: Path) -> tuple[Manifest, dict[str, bytes]]:
        return make_release(
            "meter", 1, model, TASK, SAMPLES, golden_from=source, gallery=gallery
        )

    manifest, blobs = make(path)
    assert manifest.gallery is not None
    assert blobs[manifest.gallery.sha256] == gallery_bytes()
    path.write_bytes(gallery_bytes()[:-9])
    with pytest.raises(DataError, match=r"gallery\.npz"):
        make(path)
    with pytest.raises(UsageError, match="cannot read"):
        make(tmp_path / "none.npz")


def test_golden_samples_hold_what_both_models_give(source: Model, model: Model) -> None:
    """The released model passes its own golden samples, a changed one does not."""
    manifest, blobs = make_release(
        "meter", 1, model, TASK, SAMPLES, golden_from=source, golden_samples=3
    )
    golden = parse_golden(blobs[manifest.golden.sha256], name="g")
    assert golden.tolerance == 0.05
    assert [set(sample.outputs) for sample in golden.samples] == [{"y"}] * 3
    session = get_runtime("onnxruntime").load(model, LoadOptions())
    assert check_golden(session, golden).is_ok
    session.close()
    assert manifest.drift is None
    _, blobs = make_release(
        "meter", 1, model, TASK, SAMPLES, golden_from=source, tolerance=0.5
    )
    found = [blob for blob in blobs.values() if blob.startswith(b"PK")]
    assert parse_golden(found[0], name="g").tolerance == 0.5
    assert len(parse_golden(found[0], name="g").samples) == 8


def test_the_same_release_has_the_same_bytes(source: Model, model: Model) -> None:
    """Made twice at the same time, a release is the same."""

    def made() -> object:
        clock = FakeClock()
        return make_release(
            "m", 1, model, TASK, SAMPLES, golden_from=source, clock=clock
        )

    assert made() == made()


def test_what_cannot_be_released_is_told(
    source: Model, model: Model, tmp_path: Path
) -> None:
    """A name, version, embedding, model file or samples that will not do."""

    def make(
        *,
        name: str = "meter",
        version: int = 1,
        released: Model = model,
        samples: MemorySource = SAMPLES,
        golden_from: Model = source,
        embedding: str = "",
    ) -> None:
        make_release(
            name,
            version,
            released,
            TASK,
            samples,
            golden_from=golden_from,
            embedding=embedding,
        )

    with pytest.raises(UsageError, match="name of a release"):
        make(name="Meter 1")
    with pytest.raises(UsageError, match="version 0"):
        make(version=0)
    with pytest.raises(UsageError, match="no output 'embeding'") as caught:
        make(embedding="embeding")
    assert "'embedding'" in caught.value.hint
    with pytest.raises(DataError, match="no samples"):
        make(samples=MemorySource(samples=()))
    with pytest.raises(UsageError, match="cannot be read"):
        make(released=replace(model, path=tmp_path / "none.onnx"))
    with pytest.raises(DataError, match="has changed"):
        make(released=replace(model, path=source.path))
    with pytest.raises(ModelError, match="in a file beside it"):
        make(released=replace(model, size_bytes=model.size_bytes + 1))
    other = _model(
        tmp_path, "z", "net (float[1, 2] x) => (float[1, 2] z) { z = Abs(x) }"
    )
    with pytest.raises(ModelError, match="no output in common"):
        make(golden_from=other)


def test_libraries_are_parts_of_the_release(tmp_path: Path) -> None:
    """Each for the machine it says; golden outputs are made with those for here."""
    path = tmp_path / "inverse.onnx"
    path.write_bytes(operator_net())
    foreign = tmp_path / "foreign.so"
    foreign.write_bytes(FOREIGN_LIBRARY)
    model = open_model(path)
    samples = MemorySource(samples=(Sample(inputs={"x": EYE}, label=0, name="eye"),))

    def make(*libraries: Path) -> tuple[Manifest, dict[str, bytes]]:
        return make_release(
            "inverse", 1, model, TASK, samples, golden_from=model, libraries=libraries
        )

    manifest, blobs = make(foreign, operator_library())
    abis = [library.abi for library in manifest.models[0].libraries]
    assert abis == ["linux-riscv64", machine_abi()]
    assert manifest.requires == LIBRARIES_LEVEL
    parts = manifest.blobs("any")
    assert blobs[parts["library.0"].sha256] == FOREIGN_LIBRARY
    assert blobs[parts["library.1"].sha256] == operator_library().read_bytes()
    with pytest.raises(ModelError, match="Inverse"):
        make(foreign)
    with pytest.raises(UsageError, match="is not a shared library"):
        make(path)
    with pytest.raises(UsageError, match="cannot read"):
        make(tmp_path / "none.so")


@pytest.mark.parametrize("wanted", [ModelFormat.TFLITE, ModelFormat.NCNN])
def test_other_formats_are_released_as_one_file(
    wanted: ModelFormat, tmp_path: Path
) -> None:
    """It says how it is written, and loads from what was released alone."""
    model = twin(wanted, tmp_path)
    samples = MemorySource(
        samples=tuple(
            Sample(inputs=inputs_for(model, seed), label=0, name=str(seed))
            for seed in range(4)
        )
    )
    runtime = DEFAULT_RUNTIMES[wanted]
    manifest, blobs = make_release(
        "twin", 1, model, TASK, samples, golden_from=model, runtime=runtime
    )
    (released,) = manifest.models
    assert (released.format, released.runtime) == (wanted, runtime)
    assert manifest.requires == 1
    path = tmp_path / "slot.onnx"
    path.write_bytes(blobs[released.blob.sha256])
    session = get_runtime(runtime).load(open_any(path), LoadOptions())
    golden = parse_golden(blobs[manifest.golden.sha256], name="golden")
    assert check_golden(session, golden).is_ok


def test_a_file_of_schemas(tmp_path: Path) -> None:
    """TOML as people write it; an unknown key is named."""
    path = tmp_path / "schemas.toml"
    path.write_text(
        """
schema = "skerry.schemas/1"
input = "2"

[[input_adapters]]
version = "1"
to = "2"
tensors = [{ name = "raw", dtype = "uint8", shape = ["N", 2] }]
changes = [{ tensor = "x", source = "raw", factor = 0.00392156862745098 }]
"""
    )
    assert read_schemas(path) == SpokenSchemas(input="2", input_adapters=(FROM_1,))
    path.write_text('input = "2"\nadapters = []\n')
    with pytest.raises(UsageError, match="adapters"):
        read_schemas(path)
