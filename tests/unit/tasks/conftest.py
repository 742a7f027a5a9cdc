"""A session whose model is a Python function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import pytest

from skerry.core.model import TensorSpec
from skerry.core.seams import Array, Tensors
from skerry.tasks.samples import MemorySource, Sample
from skerry.tasks.steps import TopK
from skerry.tasks.task import Task, TaskKind


@dataclass(frozen=True)
class FunctionSession:
    """Runs a function of the only input `x`; the only output is `y`."""

    function: Callable[[Array], Array]

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """One row of four numbers."""
        return (TensorSpec(name="x", dtype="float32", shape=("N", 4)),)

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """One row of four scores."""
        return (TensorSpec(name="y", dtype="float32", shape=("N", 4)),)

    def run(self, inputs: Tensors) -> dict[str, Array]:
        """Apply the function."""
        return {"y": self.function(inputs["x"])}

    def close(self) -> None:
        """Give back nothing."""


@pytest.fixture
def make_session() -> type[FunctionSession]:
    """Make a session from a function."""
    return FunctionSession


@pytest.fixture
def four_classes() -> Task:
    """Four classes whose scores are the output as it is."""
    return Task(kind=TaskKind.CLASSIFICATION, metric="top1", post=(TopK(),))


@pytest.fixture
def one_hot() -> MemorySource:
    """Eight samples of four classes: a one-hot row and its index."""
    eye = np.eye(4, dtype=np.float32)
    return MemorySource(
        samples=tuple(
            Sample(inputs={"x": eye[[k % 4]]}, label=k % 4, name=f"s{k}")
            for k in range(8)
        )
    )


@pytest.fixture
def font_path() -> Path:
    """A font of the `demo` extra."""
    fonts = distribution("font-source-sans-pro")
    file = "font_source_sans_pro/files/SourceSansPro-Regular.otf"
    return Path(str(fonts.locate_file(file)))
