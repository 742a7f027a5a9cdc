"""The task's metric as a process, for quantizers that steer by it.

`python -m benchmarks._compress_ptq_metric CASE`: on standard input, for each sample,
its index in the selection part and the length of an `.npz` of the outputs (two int64),
then that file, its arrays named after the outputs' positions; an index of −1 asks for
the score. The answer is a line of JSON: the metric, turned so that higher is better;
one score a sample, where the metric is their mean; and the CPU seconds since the last
answer.
"""

from __future__ import annotations

import argparse
import io
import json
import struct
import sys
import time
from pathlib import Path
from typing import IO, Any

import numpy as np

from benchmarks.nets.case import Case
from skerry.tasks.metrics import value_over
from skerry.tasks.tally import Quotient

HEAD = struct.Struct("<qq")


def answer(case: Case, source: IO[bytes], to: IO[str]) -> None:
    """Score outputs until the input ends."""
    samples = list(case.selection)
    names = [spec.name for spec in case.model.outputs]
    metric = case.task.scoring
    predictions: list[Any] = []
    labels: list[Any] = []
    began_s = time.process_time()
    while head := source.read(HEAD.size):
        index, length = HEAD.unpack(head)
        if index >= 0:
            with np.load(io.BytesIO(source.read(length))) as arrays:
                outputs = {name: arrays[str(at)] for at, name in enumerate(names)}
            sample = samples[index]
            predictions.append(case.task.decode(outputs, sample.inputs))
            labels.append(sample.label)
            continue
        tally = metric.tally(predictions, labels)
        value = value_over(tally)
        sign = 1 if metric.higher_is_better else -1
        each = None
        if isinstance(tally, Quotient) and (tally.weights == 1).all():
            each = [sign * float(score) for score in tally.scores]
        cpu_s = time.process_time() - began_s
        told = {"value": sign * value, "per_sample": each, "cpu_s": cpu_s}
        print(json.dumps(told), file=to, flush=True)
        predictions, labels, began_s = [], [], time.process_time()


def main() -> None:
    """Answer on the standard streams."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks._compress_ptq_metric")
    parser.add_argument("case", type=Path)
    chosen = parser.parse_args()
    answer(Case.read(chosen.case), sys.stdin.buffer, sys.stdout)


if __name__ == "__main__":
    main()
