"""What the scripts share: the samples, the task's metric, limits and the cost."""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import struct
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Inputs = dict[str, Any]


@dataclass(frozen=True)
class Asked:
    """What a script is asked to do.

    Attributes:
        folder: `model.onnx`, `asked.json` and one folder of arrays a part of the data.
        out: Where the model goes.
        inputs: Names of the model's inputs, in order.
        metric: The command that scores outputs on the selection samples.
    """

    folder: Path
    out: Path
    inputs: tuple[str, ...]
    metric: tuple[str, ...]

    @property
    def model(self) -> Path:
        """The float model."""
        return self.folder / "model.onnx"

    def samples(self, part: str) -> Samples:
        """The samples of one part, `calibration` or `selection`."""
        return Samples(self.folder / part, self.inputs)


class Samples(Sequence[Inputs]):
    """Samples on disk, each with a batch axis of one, read when they are reached."""

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self._arrays = {
            name: np.load(folder / f"{index}.npy", mmap_mode="r")
            for index, name in enumerate(names)
        }

    def __len__(self) -> int:
        return len(next(iter(self._arrays.values())))

    def __getitem__(self, index: Any) -> Any:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return {
            name: np.array(array[index : index + 1])
            for name, array in self._arrays.items()
        }


class Reader:
    """Samples as onnxruntime and those who followed it ask for them."""

    def __init__(self, samples: Samples) -> None:
        self._samples = samples
        self._left: Iterator[Inputs] = iter(samples)

    def __len__(self) -> int:
        return len(self._samples)

    def get_next(self) -> Inputs | None:
        """Return the next sample's inputs, None after the last one."""
        return next(self._left, None)

    def rewind(self) -> None:
        """Begin again."""
        self._left = iter(self._samples)


class Metric:
    """The task's metric, computed by a process of Skerry's.

    What that process spends on decoding and scoring is told, to be counted as the
    quantizer's own: another metric would have cost it as much.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.cpu_s = 0.0

    def score(
        self, outputs: Iterator[tuple[int, Mapping[str, Any]]]
    ) -> tuple[float, list[float] | None]:
        """Score outputs by the index of their sample.

        Returns:
            The metric, turned so that higher is better, and a score a sample where the
            metric is their mean.
        """
        to, back = self._process.stdin, self._process.stdout
        if to is None or back is None:
            raise RuntimeError("the metric's process has no pipes")
        for index, arrays in outputs:
            packed = io.BytesIO()
            np.savez(packed, **arrays)
            content = packed.getvalue()
            to.write(struct.pack("<qq", index, len(content)) + content)
        to.write(struct.pack("<qq", -1, 0))
        to.flush()
        told = json.loads(back.readline())
        self.cpu_s += told["cpu_s"]
        return told["value"], told["per_sample"]

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def run(settings: Mapping[str, Callable[[Asked], float | None]]) -> None:
    """Do what the command line asks, within its limits, and write what it cost.

    Args:
        settings: By name, what writes the model; it returns CPU seconds that other
            processes spent for it, if any.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("setting", choices=settings)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    chosen = parser.parse_args()
    asked = json.loads((chosen.folder / "asked.json").read_text())
    memory, cpu = asked["most_memory_bytes"], asked["most_cpu_s"]
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu))
    elsewhere = settings[chosen.setting](
        Asked(
            folder=chosen.folder,
            out=chosen.out,
            inputs=tuple(asked["inputs"]),
            metric=tuple(asked["metric"]),
        )
    )
    used = resource.getrusage(resource.RUSAGE_SELF)
    cost = {
        "cpu_s": used.ru_utime + used.ru_stime + (elsewhere or 0.0),
        "peak_rss_bytes": used.ru_maxrss * 1024,
    }
    (chosen.out / "cost.json").write_text(json.dumps(cost))
    # Some libraries hang or crash while they are taken down; the work is done.
    os._exit(0)
