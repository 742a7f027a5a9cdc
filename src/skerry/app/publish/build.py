"""Make a release out of a model: golden samples, task, manifest."""

from __future__ import annotations

import hashlib

from skerry.core.budget import Budget
from skerry.core.clock import Clock, SystemClock
from skerry.core.errors import DataError, ModelError, UsageError
from skerry.core.model import Model
from skerry.core.names import check_name, did_you_mean
from skerry.core.release import ANY_TARGET, Blob, Manifest, ReleaseModel
from skerry.core.seams import LoadOptions
from skerry.runtimes import get_runtime
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
    gallery: bytes | None = None,
    clock: Clock | None = None,
) -> tuple[Manifest, dict[str, bytes]]:
    """Make a release of one model.

    Args:
        name: The release's name.
        version: Its version.
        model: What devices will run; one file, as `graph.open_model` describes it.
        task: Pre- and post-processing, labels, metric.
        samples: Where golden samples are taken from, spread over all of it.
        golden_from: The uncompressed model, whose outputs are right by definition; it
            runs in onnxruntime. Outputs that only one of the two models has are not
            compared.
        budget: What must hold on the device.
        target: What the model is for.
        runtime: What runs it on the device.
        embedding: The output that is watched for drift, or empty.
        notes: What is new, for people.
        tolerance: Largest relative squared error on a golden sample, as a fraction;
            the task's where None.
        golden_samples: How many to keep.
        drift: What embeddings and confidences were like (`skerry.drift/1`), or None.
        gallery: Whom a task with `embed_match` knows (an `.npz`), or None.
        clock: When it is.

    Returns:
        The manifest, and the blobs that it names by their SHA-256.

    Raises:
        UsageError: The name or version cannot be one, the model has no output of the
            embedding's name, or its file cannot be read.
        DataError: There are no samples, they do not fit the uncompressed model, or the
            gallery is none.
        ModelError: The models share no output, the uncompressed one gives NaN, or the
            model is more than one file.
        RuntimeFailure: onnxruntime failed.
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
    golden = _make_golden(
        golden_from,
        samples,
        outputs=outputs,
        n=golden_samples,
        tolerance=task.golden_tolerance if tolerance is None else tolerance,
    )
    parts = {
        "model": _read_model(model),
        "golden": golden,
        "task": task_to_toml(task).encode(),
    }
    if drift is not None:
        parts["drift"] = drift
    if gallery is not None:
        read_gallery(gallery, name="the gallery")
        parts["gallery"] = gallery
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
            ),
        ),
        golden=blobs["golden"],
        task=blobs["task"],
        drift=blobs.get("drift"),
        gallery=blobs.get("gallery"),
        budget=budget or Budget(),
        notes=notes,
    )
    return manifest, {blobs[part].sha256: parts[part] for part in parts}


def _make_golden(
    model: Model,
    samples: SampleSource,
    *,
    outputs: set[str],
    n: int,
    tolerance: float,
) -> bytes:
    shared = {spec.name for spec in model.outputs} & outputs
    if not shared:
        raise ModelError(
            "the model and the uncompressed one have no output in common: "
            f"{sorted(outputs)} and {sorted(spec.name for spec in model.outputs)}",
            hint="Compress the model without renaming its outputs.",
        )
    session = get_runtime("onnxruntime").load(model, LoadOptions())
    try:
        golden = make_golden(session, samples, n, tolerance=tolerance, outputs=shared)
    finally:
        session.close()
    return golden_to_bytes(golden)


def _read_model(model: Model) -> bytes:
    try:
        content = model.path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"the model {model.path} cannot be read: {error.strerror or error}",
            hint="Check the path and its permissions.",
        ) from error
    if hashlib.sha256(content).hexdigest() != model.sha256:
        raise DataError(
            f"the model {model.path} has changed since it was opened",
            hint="Open it again.",
        )
    if len(content) != model.size_bytes:
        raise ModelError(
            f"the model {model.path} keeps weights in a file beside it",
            hint="A release's model is one file: save it with its weights inside.",
        )
    return content
