"""Releases without a neural network: their model multiplies, or fails as it is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np

from skerry.core.budget import Budget
from skerry.core.errors import ModelError, RuntimeFailure
from skerry.core.model import Model, TensorSpec
from skerry.core.release import ANY_TARGET, Blob, Manifest, ReleaseModel
from skerry.core.seams import Array, LoadOptions, Tensors
from skerry.runtimes.null import NullRuntime, NullSession
from skerry.tasks.golden import Golden, GoldenSample, golden_to_bytes
from skerry.tasks.steps import TopK
from skerry.tasks.task import Task, TaskKind, task_to_toml

GAIN_INPUTS: Tensors = {"x": np.arange(1, 5, dtype=np.float32).reshape(1, 4)}
"""Something to ask of such a release."""

_INPUTS = (TensorSpec(name="x", dtype="float32", shape=("N", 4)),)
_OUTPUTS = (TensorSpec(name="y", dtype="float32", shape=("N", 4)),)
_TASK = Task(kind=TaskKind.CLASSIFICATION, metric="top1", post=(TopK(),))


@dataclass(frozen=True, slots=True, kw_only=True)
class GainModel:
    """A model that answers `y = gain · x`, x and y float32 [N, 4].

    Attributes:
        gain: What it multiplies by.
        latency_ms: How long an inference takes, by the simulated clock.
        is_broken: Whether no runtime can load it.
        fails_after: After how many inferences it begins to fail, or None.
        ballast_bytes: How much its file is larger than it must be.
    """

    gain: float = 2.0
    latency_ms: float = 0.0
    is_broken: bool = False
    fails_after: int | None = None
    ballast_bytes: int = 0

    def to_bytes(self) -> bytes:
        """Its file; those of two models differ by a few bytes whatever the ballast."""
        ballast = np.random.default_rng(0).bytes(self.ballast_bytes)
        return json.dumps(asdict(self)).encode() + b"\n" + ballast


class GainRuntime(NullRuntime):
    """Runs such models.

    Args:
        work: Told how many seconds an inference takes.
    """

    def __init__(self, work: Callable[[float], None] | None = None) -> None:
        super().__init__()
        self._work = work

    def load(self, model: Model, options: LoadOptions) -> NullSession:
        """Load a model.

        Raises:
            UsageError: The file is not there, or the options make no sense.
            ModelError: The file is no such model, or a broken one.
        """
        super().load(model, options)
        try:
            gain = GainModel(**json.loads(model.path.read_bytes().split(b"\n")[0]))
        except (ValueError, TypeError) as error:
            raise ModelError(
                f"{model.path} is no model that multiplies", hint="Make another."
            ) from error
        if gain.is_broken:
            raise ModelError(f"{model.path} is broken", hint="Make another.")
        return NullSession(model, _Multiply(gain, self._work))


class _Multiply:
    def __init__(self, model: GainModel, work: Callable[[float], None] | None) -> None:
        self._model = model
        self._work = work
        self._runs = 0

    def __call__(self, inputs: Tensors) -> dict[str, Array]:
        model = self._model
        self._runs += 1
        if self._work is not None:
            self._work(model.latency_ms / 1000)
        if model.fails_after is not None and self._runs > model.fails_after:
            raise RuntimeFailure("it stumbled, as it was told", hint="Roll it back.")
        return {"y": inputs["x"] * np.float32(model.gain)}


def make_gain_release(
    name: str,
    version: int,
    model: GainModel | None = None,
    *,
    promised_gain: float | None = None,
    budget: Budget | None = None,
    requires: int = 1,
    target: str = ANY_TARGET,
) -> tuple[Manifest, dict[str, bytes]]:
    """Make a release of a model that multiplies.

    Args:
        name: The release's name.
        version: Its version.
        model: The model.
        promised_gain: What its golden samples were made with; the model's where None.
        budget: What must hold on the device.
        requires: The lowest agent level that understands it.
        target: What the model is for.

    Returns:
        The manifest, and the blobs that it names by their SHA-256.
    """
    model = model or GainModel()
    gain = np.float32(model.gain if promised_gain is None else promised_gain)
    x = GAIN_INPUTS["x"]
    sample = GoldenSample(name="s0", inputs={"x": x}, outputs={"y": x * gain})
    parts = {
        "model": model.to_bytes(),
        "golden": golden_to_bytes(Golden(samples=(sample,), tolerance=0.01)),
        "task": task_to_toml(_TASK).encode(),
    }
    blobs = {role: Blob.of(content) for role, content in parts.items()}
    manifest = Manifest(
        name=name,
        version=version,
        created_at_ms=0,
        models=(
            ReleaseModel(
                target=target,
                runtime="null",
                blob=blobs["model"],
                inputs=_INPUTS,
                outputs=_OUTPUTS,
            ),
        ),
        golden=blobs["golden"],
        task=blobs["task"],
        budget=budget or Budget(),
        requires=requires,
    )
    return manifest, {blobs[role].sha256: parts[role] for role in parts}
