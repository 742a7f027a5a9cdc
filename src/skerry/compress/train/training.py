"""What training needs beside a module: batches, a loss, samples to score it on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from skerry.core.budget import Budget
from skerry.core.errors import UsageError
from skerry.core.model import Model, TensorSpec
from skerry.core.seams import Runtime, Tensors
from skerry.runtimes.torch import (
    Optimizer,
    Tensor,
    TorchSession,
    nn,
    torch,
)
from skerry.tasks.evaluate import Progress, Scores, evaluate
from skerry.tasks.sample import SampleSource
from skerry.tasks.task import Task

Batch = tuple[tuple[Tensor, ...], Any]
"""The inputs of a module, and labels: whatever the loss takes."""

LatencyOf = Callable[[Model, Tensors], float]
"""How long one inference of a model takes, in milliseconds."""

BATCH = "batch"
"""What the first dimension of inputs and outputs is called."""


def adamw(parameters: Iterable[nn.Parameter], learning_rate: float) -> Optimizer:
    """Make the usual optimizer, AdamW (Loshchilov & Hutter, ICLR 2019)."""
    return torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=1e-2)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Training:
    """A trained module, and all that is needed to train it further.

    Attributes:
        module: The module, with its weights; no step changes it.
        example: One batch of inputs to export with; axis 0 is the batch. The module
            is scored on so many samples at once.
        inputs: What the inputs are called in the exported model, in order.
        outputs: What the outputs are called, in order.
        batches: From the number of an epoch, from 0, to its batches; the same epoch
            gives the same ones. Tensors lie where the module does.
        loss: From what the module returns and labels to a scalar.
        calibration: Real inputs, for the ranges of activations.
        selection: Labelled samples that steps may look at.
        report: Labelled samples that only the report looks at.
        task: How outputs are decoded and scored.
        optimizer: From parameters and a learning rate to an optimizer.
        learning_rate: At which fine-tuning begins.

    Raises:
        UsageError: The names do not fit the example, or two are the same.
    """

    module: nn.Module
    example: tuple[Tensor, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    batches: Callable[[int], Iterable[Batch]]
    loss: Callable[[Any, Any], Tensor]
    calibration: SampleSource
    selection: SampleSource
    task: Task
    report: SampleSource | None = None
    optimizer: Callable[[Iterable[nn.Parameter], float], Optimizer] = adamw
    learning_rate: float = 1e-3

    def __post_init__(self) -> None:
        if not self.inputs or len(self.inputs) != len(self.example):
            raise UsageError(
                f"there are {len(self.inputs)} names of inputs and "
                f"{len(self.example)} tensors in the example",
                hint="Give one tensor and one name for each argument of the module.",
            )
        if not self.outputs:
            raise UsageError(
                "the outputs have no names",
                hint="Name what the module returns, in order.",
            )
        names = (*self.inputs, *self.outputs)
        if len(set(names)) != len(names):
            raise UsageError(
                f"the names {', '.join(names)} are not all different",
                hint="Give each input and output a name of its own.",
            )

    def session(self, module: nn.Module) -> TorchSession:
        """Take a module, of the same signature as this one's, for a loaded model.

        Raises:
            RuntimeFailure: The module does not run on the example, or returns another
                number of tensors than there are names of outputs.
        """
        specs = tuple(map(_spec, self.inputs, self.example))
        names = tuple(
            TensorSpec(name=name, dtype="float32", shape=()) for name in self.outputs
        )
        arrays = TorchSession(module, specs, names).run(
            {
                name: tensor.numpy(force=True)
                for name, tensor in zip(self.inputs, self.example, strict=True)
            }
        )
        outputs = tuple(
            TensorSpec(name=name, dtype=array.dtype.name, shape=_shape(array.shape))
            for name, array in arrays.items()
        )
        return TorchSession(module, specs, outputs)

    def score(self, module: nn.Module, progress: Progress | None = None) -> Scores:
        """Score a module on the selection samples; it is in eval mode afterwards.

        Raises:
            DataError: Samples do not fit the module or the task.
            RuntimeFailure: The module failed.
        """
        return evaluate(
            self.session(module),
            self.selection,
            self.task,
            progress,
            batch=len(self.example[0]),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainContext:
    """What a step that trains may use beside the module.

    Attributes:
        training: Batches, loss and samples; its module is the one that the first step
            was given.
        budget: What must hold.
        seed: Makes training repeatable.
        progress: Told of what is under way.
        runtime: What the result is to run on, for steps that measure latencies.
        latency_ms: From a model's file and one sample to the time of an inference where
            the result is to run; None times it here.
    """

    training: Training
    budget: Budget
    seed: int = 0
    progress: Progress | None = None
    runtime: Runtime | None = None
    latency_ms: LatencyOf | None = None

    def evaluate(self, module: nn.Module) -> Scores:
        """Score a module on the selection samples; it is in eval mode afterwards.

        Raises:
            DataError: Samples do not fit the module or the task.
            RuntimeFailure: The module failed.
        """
        return self.training.score(module, self.progress)


def _spec(name: str, tensor: Tensor) -> TensorSpec:
    dtype = str(tensor.dtype).removeprefix("torch.")
    return TensorSpec(name=name, dtype=dtype, shape=_shape(tuple(tensor.shape)))


def _shape(sizes: tuple[int, ...]) -> tuple[int | str, ...]:
    """A shape whose first dimension may be of any size."""
    return (BATCH, *sizes[1:]) if sizes else ()
