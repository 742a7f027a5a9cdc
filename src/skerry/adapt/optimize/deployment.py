"""How a model is run, and what might make it run faster."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from skerry.core.model import Model
from skerry.core.seams import LoadOptions, Runtime, Session


class Kind(StrEnum):
    """What a remedy changes."""

    REWRITE = "rewrite"
    LAYOUT = "layout"
    PRECISION = "precision"
    RUNTIME = "runtime"
    THREADS = "threads"


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """A model file and how it is run.

    Attributes:
        model: The file.
        runtime: What runs it.
        options: How it is loaded.
        target: The target it is compiled for; empty for this machine.
        remedies: Names of those that led here from the first one, in order.
    """

    model: Model
    runtime: Runtime
    options: LoadOptions = field(default_factory=LoadOptions)
    target: str = ""
    remedies: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """In a few words: `m.onnx on openvino, 2 threads, float32`."""
        if self.target:
            return f"{self.model.path.name} on {self.target}"
        threads = self.options.threads
        words = [f"{self.model.path.name} on {self.runtime.name}"]
        words.append("1 thread" if threads == 1 else f"{threads} threads")
        if self.options.precision != "default":
            words.append(self.options.precision)
        return ", ".join(words)

    def load(self) -> Session:
        """Load the model so.

        Raises:
            SkerryError: As `Runtime.load`.
        """
        return self.runtime.load(self.model, self.options)


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedy:
    """A change of a deployment that might make it faster.

    Attributes:
        name: What reports call it; unique among those of one profile.
        kind: What it changes.
        why: What in the profile speaks for it, in a few words.
        expected: The latency it hopes for ÷ that of now; below 1.
        change: Makes the changed deployment of the one at hand; it raises an error of
            ours where that cannot be done.
    """

    name: str
    kind: Kind
    why: str
    expected: float
    change: Callable[[Deployment], Deployment] = field(repr=False)
