"""Quantization-aware training inside the user's own loop."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from inspect import signature

from skerry.compress.ptq.quantize import Quantize
from skerry.compress.train.qat.fake import Ranges
from skerry.compress.train.qat.net import START, QuantizedNet, quantized_net
from skerry.core.errors import DataError
from skerry.runtimes.torch import Tensor, nn, output_tensors, torch
from skerry.tasks.evaluate import Progress
from skerry.tasks.sample import MemorySource, Sample


@contextmanager
def quantization_aware(
    module: nn.Module,
    samples: Iterable[Tensor | tuple[Tensor, ...]],
    *,
    weight_bits: int | None = None,
    step: Quantize = START,
    ranges: Ranges = "learned",
    inputs: tuple[str, ...] = (),
    outputs: tuple[str, ...] = (),
    progress: Progress | None = None,
) -> Iterator[QuantizedNet]:
    """Give a network that trains with rounded numbers, for a loop of one's own.

    ```python
    from skerry.compress import quantization_aware

    with quantization_aware(module, samples, weight_bits=4) as net:
        optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4)
        for pictures, labels in batches:
            loss(net(pictures), labels).backward()
            optimizer.step()
            optimizer.zero_grad()
    model = net.export("small.onnx")
    ```

    The network is in training mode inside and in eval mode behind; there it computes
    what the exported model computes.

    Args:
        module: The float network; it is left as it was.
        samples: Real inputs, with a batch axis, for the ranges that training begins
            with; a tuple of tensors where the network takes several.
        weight_bits: 8 or 4; None takes that of `step`.
        step: What is rounded, and how.
        ranges: How scales follow training.
        inputs: What the inputs are called in the exported model; by default as the
            arguments of the module's `forward`.
        outputs: What the outputs are called; by default `output`, or `output_0` and so
            on.
        progress: Told of each sample that is calibrated with.

    Raises:
        DataError: There are no samples, or they do not fit.
        ModelError: The network cannot be exported or quantized, is quantized already,
            has an operator that cannot go back into torch, or is no longer finite when
            the loop ends.
    """
    batches = [one if isinstance(one, tuple) else (one,) for one in samples]
    if not batches:
        raise DataError(
            "there are no samples to choose ranges from",
            hint="Give some batches of real inputs.",
        )
    names = inputs or _argument_names(module, len(batches[0]))
    net = quantized_net(
        module,
        batches[0],
        _rows(batches, names),
        step=step if weight_bits is None else replace(step, weight_bits=weight_bits),
        ranges=ranges,
        inputs=names,
        outputs=outputs or _output_names(module, batches[0]),
        progress=progress,
    )
    yield net.train()
    net.eval()
    net.check_finite()


def _argument_names(module: nn.Module, count: int) -> tuple[str, ...]:
    names = tuple(signature(module.forward).parameters)[:count]
    if len(names) < count:
        raise DataError(
            f"the samples have {count} tensors, the module takes {len(names)}",
            hint="Give one tensor for each argument of the module.",
        )
    return names


def _output_names(module: nn.Module, batch: tuple[Tensor, ...]) -> tuple[str, ...]:
    with torch.no_grad():
        count = len(output_tensors(copy.deepcopy(module).eval()(*batch)))
    return ("output",) if count == 1 else tuple(f"output_{i}" for i in range(count))


def _rows(
    batches: Sequence[tuple[Tensor, ...]], names: tuple[str, ...]
) -> MemorySource:
    """The rows of batches as samples, each with a batch axis of 1."""
    rows: list[Sample] = []
    for batch in batches:
        counts = {len(tensor) for tensor in batch}
        if len(batch) != len(names) or len(counts) != 1:
            raise DataError(
                f"a batch has {len(batch)} tensors of {sorted(counts)} rows, expected "
                f"{len(names)} of as many rows each",
                hint="Give one tensor for each argument of the module.",
            )
        arrays = [tensor.numpy(force=True) for tensor in batch]
        for index in range(counts.pop()):
            inputs = {
                name: array[index : index + 1]
                for name, array in zip(names, arrays, strict=True)
            }
            rows.append(Sample(inputs=inputs, label=None, name=f"row {len(rows)}"))
    return MemorySource(samples=tuple(rows))
