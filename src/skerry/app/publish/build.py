"""Make a release out of a model: golden samples, task, manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from skerry.core.budget import Budget
from skerry.core.clock import Clock, SystemClock
from skerry.core.config import from_table, read_toml
from skerry.core.errors import ModelError, UsageError
from skerry.core.files import read_file
from skerry.core.model import Model
from skerry.core.names import check_name, did_you_mean
from skerry.core.release import (
    ANY_TARGET,
    Blob,
    Library,
    Manifest,
    ReleaseModel,
    check_schemas,
)
from skerry.core.schemas import SpokenSchemas
from skerry.core.seams import LoadOptions
from skerry.runtimes import DEFAULT_RUNTIMES, get_runtime, model_content
from skerry.runtimes.libraries import library_abi, machine_abi
from skerry.tasks.golden import golden_to_bytes, make_golden
from skerry.tasks.matching import read_gallery
from skerry.tasks.samples import SampleSource
from skerry.tasks.task import Task, task_to_toml

GOLDEN_SAMPLES = 8
"""How many golden samples a release carries unless told otherwise."""


def make_release(
    name: str,
    version: int,
    model: Model,
    task: Task,
    samples: SampleSource,
    *,
    golden_from: Model,
    budget: Budget | None = None,
    target: str = ANY_TARGET,
    runtime: str = "onnxruntime",
    embedding: str = "",
    notes: str = "",
    tolerance: float | None = None,
    golden_samples: int = GOLDEN_SAMPLES,
    drift: bytes | None = None,
    libraries: Sequence[Path] = (),
    gallery: Path | None = None,
    schemas: SpokenSchemas | None = None,
    clock: Clock | None = None,
) -> tuple[Manifest, dict[str, bytes]]:
    """Make a release of one model.

    Args:
        name: The release's name.
        version: Its version.
        model: What devices will run; as `runtimes.open_any` describes it.
        task: Pre- and post-processing, labels, metric.
        samples: Where golden samples are taken from, spread over all of it.
        golden_from: The uncompressed model, whose outputs are right by definition; it
            runs in what is usual for its format, ONNX in onnxruntime. Outputs that only
            one of the two models has are not compared.
        budget: What must hold on the device.
        target: What the model is for.
        runtime: What runs it on the device.
        embedding: The output that is watched for drift, or empty.
        notes: What is new, for people.
        tolerance: Largest relative squared error on a golden sample, as a fraction;
            the task's where None.
        golden_samples: How many to keep.
        drift: What embeddings and confidences were like (`skerry.drift/1`), or None.
        libraries: Shared libraries with operators that the model needs; what machine
            each is for is read from it.
        gallery: Whom a task with `embed_match` knows (an `.npz`), or None.
        schemas: Which versions go in and out, and the adapters to older ones; version 1
            of both where None.
        clock: When it is.

    Returns:
        The manifest, and the blobs that it names by their SHA-256.

    Raises:
        UsageError: The name or version cannot be one, the model has no output of the
            embedding's name, a file cannot be read, or a library is none.
        DataError: There are no samples, they do not fit the uncompressed model, the
            gallery is none, or an adapter does not lead to the model.
        ModelError: The models share no output, the uncompressed one gives NaN, or the
            model is more than one file, and not of ncnn.
        RuntimeFailure: The runtime of the uncompressed model failed.
    """
    check_name(name, kind="release")
    if version < 1:
        raise UsageError(
            f"a release cannot have version {version}", hint="Versions begin at 1."
        )
    outputs = {spec.name for spec in model.outputs}
    if embedding and embedding not in outputs:
        raise UsageError(
            f"the model has no output {embedding!r} to watch for drift",
            hint=did_you_mean(embedding, outputs),
        )
    shared = {path: _read_library(path) for path in libraries}
    golden = _make_golden(
        golden_from,
        samples,
        outputs=outputs,
        n=golden_samples,
        tolerance=task.golden_tolerance if tolerance is None else tolerance,
        runtime=DEFAULT_RUNTIMES[golden_from.format],
        libraries=shared,
    )
    parts = {
        "model": model_content(model),
        "golden": golden,
        "task": task_to_toml(task).encode(),
    }
    if drift is not None:
        parts["drift"] = drift
    if gallery is not None:
        parts["gallery"] = read_file(gallery)
        read_gallery(parts["gallery"], name=str(gallery))
    blobs = {part: Blob.of(content) for part, content in parts.items()}
    manifest = Manifest(
        name=name,
        version=version,
        created_at_ms=(clock or SystemClock()).unix_ms(),
        models=(
            ReleaseModel(
                target=target,
                runtime=runtime,
                blob=blobs["model"],
                inputs=model.inputs,
                outputs=model.outputs,
                embedding=embedding,
                format=model.format,
                libraries=tuple(map(_as_library, shared.values())),
            ),
        ),
        golden=blobs["golden"],
        task=blobs["task"],
        drift=blobs.get("drift"),
        gallery=blobs.get("gallery"),
        budget=budget or Budget(),
        notes=notes,
    )
    manifest = _speaking(manifest, schemas or SpokenSchemas())
    contents = (*parts.values(), *shared.values())
    return manifest, {Blob.of(content).sha256: content for content in contents}


def read_schemas(path: Path) -> SpokenSchemas:
    """Read a file of schemas, TOML; whether they fit a model is another question.

    Raises:
        UsageError: It is missing, not TOML, or a key or a value makes no sense.
    """
    return from_table(SpokenSchemas, read_toml(path), name=str(path))


def _speaking(manifest: Manifest, spoken: SpokenSchemas) -> Manifest:
    """The same with its schemas, for agents that know of them if need be."""
    manifest = replace(
        manifest,
        input_schema=spoken.input,
        output_schema=spoken.output,
        input_adapters=spoken.input_adapters,
        output_adapters=spoken.output_adapters,
    )
    check_schemas(manifest, name=str(manifest.id))
    return replace(manifest, requires=manifest.needs_level)


def _make_golden(
    model: Model,
    samples: SampleSource,
    *,
    outputs: set[str],
    n: int,
    tolerance: float,
    runtime: str,
    libraries: Mapping[Path, bytes],
) -> bytes:
    shared = {spec.name for spec in model.outputs} & outputs
    if not shared:
        raise ModelError(
            "the model and the uncompressed one have no output in common: "
            f"{sorted(outputs)} and {sorted(spec.name for spec in model.outputs)}",
            hint="Compress the model without renaming its outputs.",
        )
    here = machine_abi()
    usable = tuple(path for path in libraries if library_abi(libraries[path]) == here)
    session = get_runtime(runtime).load(model, LoadOptions(libraries=usable))
    try:
        golden = make_golden(session, samples, n, tolerance=tolerance, outputs=shared)
    finally:
        session.close()
    return golden_to_bytes(golden)


def _as_library(content: bytes) -> Library:
    return Library(abi=library_abi(content), blob=Blob.of(content))


def _read_library(path: Path) -> bytes:
    """A library's bytes, once it is sure that it is one."""
    content = read_file(path)
    library_abi(content, name=str(path))
    return content
