"""Quantization-aware training: the depthwise net on Fashion-MNIST.

How far the exported model's codes are from those of the simulation it was trained in,
and what four bits of weights lose, beside post-training quantization.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks._found import tell
from benchmarks._harness import Measured, Row
from benchmarks.nets.depthwise import (
    FASHION,
    QUICK_TRAINING,
    fashion_task,
    read_pictures,
)
from benchmarks.nets.places import keep
from benchmarks.nets.torch_depthwise import (
    BATCH,
    DepthwiseNet,
    train,
)
from benchmarks.nets.torch_depthwise import (
    read_pictures as read_tensors,
)
from skerry.compress.ptq.quantize import ACCURATE, Quantize
from skerry.compress.train.qat.net import QuantizedNet, quantized_net
from skerry.compress.train.qat.step import Qat
from skerry.compress.train.training import Batch, TrainContext, Training
from skerry.core.budget import Budget
from skerry.core.model import Model
from skerry.core.seams import LoadOptions
from skerry.graph import Graph, write_graph
from skerry.runtimes import get_runtime
from skerry.runtimes.torch import Tensor, functional, nn, torch
from skerry.tasks.sample import MemorySource, Sample

SEEDS = (0, 1, 2)
INPUTS = 1000
QUICK_INPUTS = 200
PART = 100
"""How many pictures are run at once."""

INT8 = Qat(epochs=2, learning_rate=3e-4)
INT4 = Qat(epochs=3, learning_rate=3e-4, weight_bits=4)
INT4_TENSOR = replace(INT4, per_channel=False, learning_rate=1e-3)
PTQ = {
    "minmax": Quantize(weight_bits=4),
    "minmax, one scale a tensor": Quantize(weight_bits=4, per_channel=False),
    "adaptive rounding": replace(ACCURATE, weight_bits=4),
}
"""Post-training quantization beside it: the plain ones, and our best."""

Array = NDArray[np.generic]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Case:
    """One trained net, and its pictures."""

    seed: int
    training: Training
    pictures: NDArray[np.float32]
    labels: NDArray[np.int64]


def missing() -> str | None:
    """Say what is not there; None where all is."""
    return None if FASHION.is_dir() else "dataset-fashion-mnist: apt-get install it"


def measure(work: Path, *, quick: bool) -> tuple[list[Row], list[Measured]]:
    """Train the net, then look at both bars.

    Args:
        work: Where trained nets are kept.
        quick: One seed, fewer pictures.
    """
    if (why := missing()) is not None:
        lost = Measured(id="train.qat.int4_lost", figure=None, n=0, unmet=why)
        return [], [replace(lost, id="train.qat.lsb_off"), lost]
    rows: list[Row] = []
    offs: list[Off] = []
    count = QUICK_INPUTS if quick else INPUTS
    drops: list[NDArray[np.float64]] = []
    for seed in SEEDS[:1] if quick else SEEDS:
        case = make_case(work, seed, quick=quick)
        tell(f"seed {seed}: INT8")
        path, pictures = work / f"codes-{seed}.onnx", case.pictures[:count]
        net = _tuned(case, INT8, quick=quick)
        offs.append(codes_off(net, pictures, path))
        rows.append(_codes_row("INT8", seed, offs[-1]))
        for quantizer in net.quantizers.values():
            quantizer.layer = None
        plain = codes_off(net, pictures, path)
        rows.append(_codes_row("INT8, simulated with float sums", seed, plain))
        tell(f"seed {seed}: INT4")
        net = _tuned(case, INT4, quick=quick)
        rows.append(_codes_row("INT4", seed, codes_off(net, pictures, path)))
        whole = _tuned(case, INT4_TENSOR, quick=quick)
        tuned = {"INT4 in training": net, "INT4 in training, one scale a tensor": whole}
        right = _right_answers(case, tuned, path)
        rows += _answer_rows(case, right)
        drops.append(100 * (right["float32"] - right["INT4 in training"]))
    return rows, [_lsb_bar(offs), _lost_bar(drops)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Off:
    """How far codes are from those of the simulation.

    Attributes:
        codes: How many were compared.
        by: How many are off by one, and by two or more.
        answers: How many pictures were classed otherwise.
        inputs: Of how many.
    """

    codes: int
    by: Mapping[int, int]
    answers: int
    inputs: int


def codes_off(net: QuantizedNet, pictures: NDArray[np.float32], path: Path) -> Off:
    """Compare all codes of an exported model with those of its simulation.

    Args:
        net: The trained network.
        pictures: `[n, 1, 28, 28]`.
        path: Where the model is put whose codes can be read; the plain one, whose
            answers are compared, is beside it.
    """
    graph = net.to_graph()
    scales = {
        str(node.outputs[0].name): str(node.inputs[1].name)
        for node in graph.nodes
        if node.op_type == "QuantizeLinear" and node.inputs[1] is not None
    }
    plain = net.export(path.with_suffix(".plain.onnx"))
    graph.add_outputs(scales)
    by, codes, answers = {1: 0, 2: 0}, 0, 0
    told = zip(
        _runs(write_graph(graph, path), pictures), _runs(plain, pictures), strict=True
    )
    for start, (found, answer) in zip(range(0, len(pictures), PART), told, strict=True):
        part = torch.from_numpy(pictures[start : start + PART])
        expected, logits = _simulated(net, part)
        answers += int((answer["logits"].argmax(1) != logits.argmax(1)).sum())
        for name, scale in scales.items():
            off = np.abs(found[name].astype(np.int64) - expected[scale])
            codes += off.size
            by[1] += int((off == 1).sum())
            by[2] += int((off > 1).sum())
    return Off(codes=codes, by=by, answers=answers, inputs=len(pictures))


def _simulated(
    net: QuantizedNet, part: Tensor
) -> tuple[dict[str, NDArray[np.int64]], Array]:
    """The codes of each scale in the simulation, and the logits."""
    codes: dict[str, NDArray[np.int64]] = {}
    watched = []
    for name, quantizer in net.quantizers.items():

        def keep_codes(
            module: nn.Module, _: object, made: Tensor, name: str = name
        ) -> None:
            steps = (made / module.step()).round() + module.zero_point
            codes[name] = steps.numpy().astype(np.int64)

        if not quantizer.is_weights:
            watched.append(quantizer.register_forward_hook(keep_codes))
    with torch.inference_mode():
        logits = net(part).numpy()
    for one in watched:
        one.remove()
    return codes, logits


def _runs(model: Model, pictures: NDArray[np.float32]) -> Iterator[dict[str, Array]]:
    session = get_runtime("onnxruntime").load(model, LoadOptions(threads=1))
    for start in range(0, len(pictures), PART):
        yield session.run({"picture": pictures[start : start + PART]})
    session.close()


def _codes_row(what: str, seed: int, off: Off) -> Row:
    return {
        "what": f"codes off: {what}",
        "net": f"depthwise, seed {seed}",
        "figure": 100 * (off.by[1] + off.by[2]) / off.codes,
        "unit": "%",
        "n": off.codes,
        "note": f"{off.by[2]} by more than one; {off.answers} answers differ",
    }


def _right_answers(
    case: Case, tuned: Mapping[str, QuantizedNet], path: Path
) -> dict[str, NDArray[np.float64]]:
    """Which pictures each net classes right: float, after training, in training."""
    training = case.training
    right = {"float32": _right_in_torch(case)}
    for name, step in PTQ.items():
        rounded = quantized_net(
            training.module,
            training.example,
            training.calibration,
            step=step,
            inputs=training.inputs,
            outputs=training.outputs,
        )
        key = f"INT4 after training, {name}"
        right[key] = _right(case, rounded.to_graph(), path)
    for name, net in tuned.items():
        right[name] = _right(case, net.to_graph(), path)
    return right


def _answer_rows(case: Case, right: Mapping[str, NDArray[np.float64]]) -> list[Row]:
    return [
        {
            "what": name,
            "net": f"depthwise, seed {case.seed}",
            "figure": 100 * float(one.mean()),
            "unit": "% top-1",
            "n": len(one),
            "note": f"{100 * float((right['float32'] - one).mean()):.2f} points lost",
        }
        for name, one in right.items()
    ]


def _right(case: Case, graph: Graph, path: Path) -> NDArray[np.float64]:
    """Which pictures the model classes right, by onnxruntime."""
    runs = _runs(write_graph(graph, path), case.pictures)
    answers = np.concatenate([one["logits"].argmax(1) for one in runs])
    return (answers == case.labels).astype(np.float64)


def _right_in_torch(case: Case) -> NDArray[np.float64]:
    with torch.inference_mode():
        answers = [
            case.training.module(part).argmax(1)
            for part in torch.from_numpy(case.pictures).split(PART)
        ]
    return (torch.cat(answers).numpy() == case.labels).astype(np.float64)


def _tuned(case: Case, step: Qat, *, quick: bool) -> QuantizedNet:
    epochs = 1 if quick else step.epochs
    context = TrainContext(training=case.training, budget=Budget(), seed=case.seed)
    return replace(step, epochs=epochs).apply(case.training.module, context)


def make_case(work: Path, seed: int, *, quick: bool) -> Case:
    """The net that this seed trains, from the folder where it is there already."""
    files = [
        FASHION / f"train-{one}-ubyte.gz" for one in ("images-idx3", "labels-idx1")
    ]
    pictures, labels = read_tensors(*files)
    first = QUICK_TRAINING if quick else len(labels)
    pictures, labels = pictures[:first], labels[:first]

    def make(path: Path) -> None:
        tell(f"seed {seed}: float32")
        torch.save(train(pictures, labels, seed).state_dict(), path)

    kept = keep(work / f"depthwise-seed{seed}{'-quick' * quick}.pt", make)
    module = DepthwiseNet()
    module.load_state_dict(torch.load(kept, weights_only=True))
    parts = read_pictures(seed, quick=quick)

    def batches(epoch: int) -> Sequence[Batch]:
        order = np.random.default_rng([seed, epoch]).permutation(first)
        return [
            ((pictures[some],), labels[some])
            for some in torch.from_numpy(order).split(BATCH)
        ]

    report, right = parts["report"]
    return Case(
        seed=seed,
        training=Training(
            module=module.eval(),
            example=(pictures[:2],),
            inputs=("picture",),
            outputs=("logits",),
            batches=batches,
            loss=functional.cross_entropy,
            calibration=_source(*parts["calibration"]),
            selection=_source(*parts["selection"]),
            task=fashion_task(),
        ),
        pictures=report.astype(np.float32),
        labels=right.astype(np.int64),
    )


def _source(pictures: Array, labels: Array) -> MemorySource:
    return MemorySource(
        samples=tuple(
            Sample(inputs={"picture": one[None]}, label=int(label), name=f"{index}")
            for index, (one, label) in enumerate(zip(pictures, labels, strict=True))
        )
    )


def _lsb_bar(offs: Sequence[Off]) -> Measured:
    codes, far = sum(one.codes for one in offs), sum(one.by[2] for one in offs)
    answers, inputs = (
        sum(getattr(one, of) for one in offs) for of in ("answers", "inputs")
    )
    unmet = [f"{far} codes off by more than one"] if far else []
    unmet += [f"{answers} of {inputs} answers differ"] if answers else []
    return Measured(
        id="train.qat.lsb_off",
        figure=100 * (sum(one.by[1] for one in offs) + far) / codes,
        n=inputs,
        unmet="; ".join(unmet),
    )


def _lost_bar(drops: Sequence[NDArray[np.float64]]) -> Measured:
    points = np.concatenate(drops)
    mean, spread = float(points.mean()), 1.96 * float(points.std()) / len(points) ** 0.5
    return Measured(
        id="train.qat.int4_lost",
        figure=mean,
        n=len(points),
        interval=(mean - spread, mean + spread),
        peer="post-training quantization: rows",
    )
