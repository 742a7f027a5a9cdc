"""Quantization-aware training: the depthwise net on Fashion-MNIST.

How far the exported model's codes are from those of the simulation it was trained in,
and what four bits of weights lose, beside post-training quantization.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks._found import tell
from benchmarks._harness import Measured, Row
from benchmarks._train_net import (
    SEEDS,
    Case,
    Right,
    make_case,
    right_in_file,
    right_in_torch,
)
from benchmarks.nets.places import fashion, keep
from skerry.compress.ptq.quantize import ACCURATE, Quantize
from skerry.compress.train.qat.net import QuantizedNet, quantized_net
from skerry.compress.train.qat.step import Qat
from skerry.compress.train.training import TrainContext
from skerry.core.budget import Budget
from skerry.core.durable import write_file
from skerry.core.model import Model
from skerry.core.seams import LoadOptions
from skerry.graph import write_graph
from skerry.runtimes import get_runtime
from skerry.runtimes.torch import Tensor, nn, torch

LSB_BAR, LOST_BAR = "train.qat.lsb_off", "train.qat.int4_lost"
INPUTS = 1000
QUICK_INPUTS = 200
PART = 100
"""How many pictures are run at once."""

INT8 = Qat(epochs=1, learning_rate=3e-4)
INT4 = Qat(epochs=2, learning_rate=3e-4, weight_bits=4)
INT4_TENSOR = replace(INT4, per_channel=False, learning_rate=1e-3)
PTQ = {
    "minmax": Quantize(weight_bits=4),
    "minmax, one scale a tensor": Quantize(weight_bits=4, per_channel=False),
    "adaptive rounding": replace(ACCURATE, weight_bits=4),
}
"""Post-training quantization beside it: the plain ones, and our best."""

FLOAT, TRAINED = "float32", "INT4 in training"
TRAINED_TENSOR = "INT4 in training, one scale a tensor"

Array = NDArray[np.generic]


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
    by: dict[int, int]
    answers: int
    inputs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OfSeed:
    """What one seed came to.

    Attributes:
        offs: How far the codes of each net are from its simulation's.
        right: By net, whether it tells each test picture right, 0 or 1.
    """

    offs: dict[str, Off]
    right: dict[str, list[int]]


def measure(
    work: Path, *, quick: bool, seeds: int = SEEDS
) -> tuple[list[Row], list[Measured]]:
    """Train the net with rounded numbers, then look at both bars.

    Args:
        work: Where trained nets, and what each seed came to, are kept.
        quick: One seed, fewer pictures.
        seeds: How many.
    """
    if (why := fashion()) is not None:
        bars = (LSB_BAR, LOST_BAR)
        return [], [Measured(id=one, figure=None, n=0, unmet=why) for one in bars]
    rows: list[Row] = []
    found: list[OfSeed] = []
    for seed in range(1 if quick else seeds):

        def make(path: Path, seed: int = seed) -> None:
            one = _of_seed(work, make_case(work, seed, quick=quick), quick=quick)
            write_file(path, msgspec.json.encode(one))

        path = keep(work / "made" / f"qat-seed{seed}{'-quick' * quick}.json", make)
        found.append(msgspec.json.decode(path.read_bytes(), type=OfSeed))
        rows += [_codes_row(what, seed, off) for what, off in found[-1].offs.items()]
        rows += _answer_rows(seed, found[-1].right)
    offs = [one.offs["INT8"] for one in found]
    drops = [lost_points(one.right, TRAINED) for one in found]
    return rows, [_lsb_bar(offs), _lost_bar(drops)]


def _of_seed(work: Path, case: Case, *, quick: bool) -> OfSeed:
    path = work / f"codes-{case.seed}.onnx"
    pictures = case.pictures[: QUICK_INPUTS if quick else INPUTS].numpy()
    net = _tuned(case, INT8, "INT8", quick=quick)
    offs = {"INT8": codes_off(net, pictures, path)}
    for quantizer in net.quantizers.values():
        quantizer.layer = None
    offs["INT8, simulated with float sums"] = codes_off(net, pictures, path)
    tuned = {TRAINED: _tuned(case, INT4, TRAINED, quick=quick)}
    offs["INT4"] = codes_off(tuned[TRAINED], pictures, path)
    if case.seed == 0:
        tuned[TRAINED_TENSOR] = _tuned(case, INT4_TENSOR, TRAINED_TENSOR, quick=quick)
    right = {
        what: one.astype(int).tolist()
        for what, one in _right_answers(case, tuned, path).items()
    }
    return OfSeed(offs=offs, right=right)


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
) -> dict[str, Right]:
    """Which pictures each net tells right: float, after training, in training."""
    training = case.training
    right = {FLOAT: right_in_torch(training.module, case)}
    for name, step in PTQ.items():
        tell(f"seed {case.seed}: INT4 after training, {name}")
        rounded = quantized_net(
            training.module,
            training.example,
            training.calibration,
            step=step,
            inputs=training.inputs,
            outputs=training.outputs,
        )
        model = write_graph(rounded.to_graph(), path)
        right[f"INT4 after training, {name}"] = right_in_file(model, case)
    for name, net in tuned.items():
        right[name] = right_in_file(write_graph(net.to_graph(), path), case)
    return right


def lost_points(right: Mapping[str, Sequence[int]], what: str) -> NDArray[np.float64]:
    """By picture: 100 where only the float net is right, -100 where it is not."""
    before, after = (np.array(right[one], np.float64) for one in (FLOAT, what))
    return np.asarray(100 * (before - after), np.float64)


def _answer_rows(seed: int, right: Mapping[str, Sequence[int]]) -> list[Row]:
    return [
        {
            "what": name,
            "net": f"depthwise, seed {seed}",
            "figure": 100 * float(np.mean(one)),
            "unit": "% top-1",
            "n": len(one),
            "note": f"{lost_points(right, name).mean():.2f} points lost",
        }
        for name, one in right.items()
    ]


def _tuned(case: Case, step: Qat, what: str, *, quick: bool) -> QuantizedNet:
    tell(f"seed {case.seed}: {what}")
    epochs = 1 if quick else step.epochs
    context = TrainContext(training=case.training, budget=Budget(), seed=case.seed)
    return replace(step, epochs=epochs).apply(case.training.module, context)


def _lsb_bar(offs: Sequence[Off]) -> Measured:
    codes, far = sum(one.codes for one in offs), sum(one.by[2] for one in offs)
    answers, inputs = (
        sum(getattr(one, of) for one in offs) for of in ("answers", "inputs")
    )
    unmet = [f"{far} codes off by more than one"] if far else []
    unmet += [f"{answers} of {inputs} answers differ"] if answers else []
    return Measured(
        id=LSB_BAR,
        figure=100 * (sum(one.by[1] for one in offs) + far) / codes,
        n=inputs,
        unmet="; ".join(unmet),
    )


def _lost_bar(drops: Sequence[NDArray[np.float64]]) -> Measured:
    points = np.concatenate(drops)
    mean, spread = float(points.mean()), 1.96 * float(points.std()) / len(points) ** 0.5
    return Measured(
        id=LOST_BAR,
        figure=mean,
        n=len(points),
        interval=(mean - spread, mean + spread),
        peer="post-training quantization: rows",
    )
