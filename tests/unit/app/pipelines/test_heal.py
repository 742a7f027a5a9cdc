from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from skerry.app.pipelines.heal import heal, make_trainer
from skerry.cloud.retraining import Assignment, LabelledSample
from skerry.core.errors import DataError, ModelError, SkerryError
from skerry.core.model import TensorSpec
from skerry.core.release import Blob, Manifest, ReleaseModel
from skerry.core.seams import LoadOptions, Session
from skerry.evolve.drift import DriftWatch, Observation, read_reference
from skerry.graph import open_model
from skerry.runtimes import get_runtime
from tests.clusters import CLASSES, SIZE, draw, net
from tests.unit.app.pipelines.test_embedding import TASK

NAMES = ("a", "b", "c")
_BLOB = Blob(sha256="0" * 64, size_bytes=1)


def _replay(n: int = 400, **more: np.ndarray) -> bytes:
    points, labels = draw(n, np.random.default_rng(1))
    stream = io.BytesIO()
    np.savez_compressed(stream, **{"x": points, "label": labels, **more})  # type: ignore[arg-type]
    return stream.getvalue()


def _assignment(n: int = 100, *, shift: float = 1.0) -> Assignment:
    points, labels = draw(n, np.random.default_rng(2), shift=shift)
    model = ReleaseModel(
        target="any",
        runtime="onnxruntime",
        blob=_BLOB,
        inputs=(TensorSpec(name="x", dtype="float32", shape=("batch", SIZE)),),
        outputs=(),
        embedding="embedding",
    )
    return Assignment(
        manifest=Manifest(
            name="meter",
            version=1,
            created_at_ms=0,
            models=(model,),
            golden=_BLOB,
            task=_BLOB,
        ),
        model=net(),
        task=TASK,
        replay=_replay(),
        samples=tuple(
            LabelledSample(
                id=str(index),
                kind=("random", "uncertain")[index % 2],
                inputs={"x": point[None]},
                label=NAMES[label] if index % 3 else str(label),
            )
            for index, (point, label) in enumerate(zip(points, labels, strict=True))
        ),
    )


def _load(content: bytes, folder: Path) -> Session:
    (folder / "m.onnx").write_bytes(content)
    model = open_model(folder / "m.onnx")
    return get_runtime("onnxruntime").load(model, LoadOptions())


def _accuracy(content: bytes, folder: Path, *, shift: float) -> float:
    points, labels = draw(2000, np.random.default_rng(3), shift=shift)
    session = _load(content, folder)
    got = session.run({"x": points})["logits"].argmax(axis=1)
    session.close()
    return float((got == labels).mean())


def test_a_drifted_model_is_healed(tmp_path: Path) -> None:
    """The candidate is much better in the field and as good as before elsewhere."""
    assignment = _assignment()
    candidate = make_trainer()(assignment)
    assert candidate.passed
    new, old = candidate.blobs["model"], assignment.model
    lost = _accuracy(old, tmp_path, shift=0) - _accuracy(old, tmp_path, shift=1)
    gained = _accuracy(new, tmp_path, shift=1) - _accuracy(old, tmp_path, shift=1)
    assert lost > 0.2
    assert gained > lost / 2
    assert _accuracy(new, tmp_path, shift=0) > _accuracy(old, tmp_path, shift=0) - 0.01
    assert candidate.evidence["n_field"] == 100
    assert candidate.evidence["n_random"] == candidate.evidence["n_uncertain"] == 50
    assert candidate.evidence["n_old"] == 400


def test_the_field_is_usual_for_the_candidate(tmp_path: Path) -> None:
    """Its own drift reference is calm in the field that it was fitted for."""
    candidate = heal(_assignment())
    watch = DriftWatch(read_reference(candidate.blobs["drift"]))
    points, _ = draw(1000, np.random.default_rng(4), shift=1)
    session = _load(candidate.blobs["model"], tmp_path)
    logits = session.run({"x": points})["logits"].astype(np.float64)
    session.close()
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    sure = shares.max(axis=1) / shares.sum(axis=1)
    verdicts = [
        watch.update(
            Observation(embedding=point, confidence=float(one), label=int(label))
        )
        for point, one, label in zip(points, sure, logits.argmax(axis=1), strict=True)
    ]
    assert not any(verdict.is_drift for verdict in verdicts)


def test_the_same_assignment_gives_the_same_candidate() -> None:
    """Chance is seeded."""
    first, second = heal(_assignment()), heal(_assignment())
    assert first.blobs == second.blobs
    assert first.evidence == second.evidence


def test_without_a_drift_the_gate_does_not_hold() -> None:
    """There is nothing to gain, and the reason says so."""
    candidate = heal(_assignment(shift=0.0))
    assert not candidate.passed
    assert "field samples" in candidate.reason


def _with_label(label: str) -> Assignment:
    assignment = _assignment()
    first, *rest = assignment.samples
    return replace(assignment, samples=(replace(first, label=label), *rest))


def _without_embedding() -> Assignment:
    assignment = _assignment()
    (model,) = assignment.manifest.models
    return replace(
        assignment,
        manifest=replace(assignment.manifest, models=(replace(model, embedding=""),)),
    )


@pytest.mark.parametrize(
    ("assignment", "kind", "why"),
    [
        (_with_label("d"), DataError, "no class of the task"),
        (_with_label(str(CLASSES)), DataError, "no class of the task"),
        (_assignment(10), DataError, "at least 20"),
        (replace(_assignment(), samples=()), DataError, "no samples"),
        (replace(_assignment(), replay=b"x"), DataError, "npz"),
        (
            replace(_assignment(), replay=_replay(y=np.zeros(400, np.float32))),
            DataError,
            "'y'",
        ),
        (replace(_assignment(), model=b"x"), ModelError, "ONNX"),
        (replace(_assignment(), model=net(embedding=False)), ModelError, "embedding"),
        (_without_embedding(), ModelError, "names no embedding"),
        (replace(_assignment(), task=b"x"), SkerryError, "TOML"),
    ],
)
def test_what_cannot_be_healed_says_why(
    assignment: Assignment, kind: type[SkerryError], why: str
) -> None:
    """Wrong labels, too few samples, a bad replay set, a bad model."""
    with pytest.raises(kind, match=why):
        heal(assignment)


def test_a_replay_set_needs_labels() -> None:
    """Old samples without labels teach nothing."""
    stream = io.BytesIO()
    np.savez(stream, x=draw(100, np.random.default_rng(0))[0])
    with pytest.raises(DataError, match="no labels"):
        heal(replace(_assignment(), replay=stream.getvalue()))
