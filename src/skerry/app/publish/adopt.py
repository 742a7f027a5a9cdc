"""Make a release out of what a hub has learnt: same release, other model."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from skerry.core.clock import Clock, SystemClock
from skerry.core.durable import write_file
from skerry.core.errors import UsageError
from skerry.core.release import Blob, Manifest
from skerry.core.seams import LoadOptions, Session
from skerry.graph import open_model
from skerry.runtimes import get_runtime
from skerry.tasks.golden import (
    Golden,
    GoldenSample,
    check_finite,
    golden_to_bytes,
    parse_golden,
)


def adopt(
    manifest: Manifest,
    *,
    version: int,
    model: bytes,
    golden: bytes,
    drift: bytes | None = None,
    libraries: Sequence[bytes] = (),
    notes: str = "",
    clock: Clock | None = None,
) -> tuple[Manifest, dict[str, bytes]]:
    """Make the next version of a release out of a retraining's candidate.

    The golden samples keep their inputs; their outputs are what the candidate gives
    for them here. What it must be worth was for the gates of the retraining to judge,
    golden samples only tell whether a device computes the same.

    Args:
        manifest: The release that was retrained; of one model.
        version: Of the new release.
        model: The candidate.
        golden: The golden samples of the old release.
        drift: What is usual now (`skerry.drift/1`), or None to keep the old.
        libraries: The libraries of operators that the model needs here.
        notes: What is new, for people.
        clock: When it is.

    Returns:
        The manifest, and the blobs that are new by their SHA-256.

    Raises:
        UsageError: The release has several models.
        DataError: The golden samples are damaged or do not fit the candidate.
        ModelError: The candidate is no model, or gives NaN.
        RuntimeFailure: The runtime failed.
    """
    if len(manifest.models) != 1:
        raise UsageError(
            f"{manifest.id} has {len(manifest.models)} models, one was expected",
            hint="Release a model for each target by hand.",
        )
    (old,) = manifest.models
    kept = parse_golden(golden, name=f"the golden samples of {manifest.id}")
    with tempfile.TemporaryDirectory(prefix="skerry-") as folder:
        path = Path(folder) / "candidate.onnx"
        write_file(path, model)
        opened = open_model(path)
        shared = [Path(folder) / f"{place}.so" for place in range(len(libraries))]
        for library, content in zip(shared, libraries, strict=True):
            write_file(library, content)
        options = LoadOptions(libraries=tuple(shared))
        with closing(get_runtime(old.runtime).load(opened, options)) as session:
            answered = _answer(session, kept)
    parts = {"model": model, "golden": golden_to_bytes(answered)}
    if drift is not None:
        parts["drift"] = drift
    blobs = {role: Blob.of(content) for role, content in parts.items()}
    adopted = replace(
        manifest,
        version=version,
        created_at_ms=(clock or SystemClock()).unix_ms(),
        models=(
            replace(
                old, blob=blobs["model"], inputs=opened.inputs, outputs=opened.outputs
            ),
        ),
        golden=blobs["golden"],
        drift=blobs.get("drift", manifest.drift),
        notes=notes,
    )
    return adopted, {blobs[role].sha256: parts[role] for role in parts}


def _answer(session: Session, golden: Golden) -> Golden:
    samples = []
    for sample in golden.samples:
        outputs = session.run(sample.inputs)
        kept = {name: outputs[name] for name in sample.outputs if name in outputs}
        check_finite(kept, sample=sample.name)
        samples.append(
            GoldenSample(name=sample.name, inputs=sample.inputs, outputs=kept)
        )
    return replace(golden, samples=tuple(samples))
