"""Releases whose answers anybody can work out, and releases with every fault.

Version V of any name answers `y = V * x`, exactly: both are small whole numbers. Names
that begin with `native` are ONNX models, whose loop runs as often as the first number
of `x` says; all others are scripts of `tests.unruly`.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np

from skerry.core.budget import Budget
from skerry.core.errors import UsageError
from skerry.core.release import Blob, ReleaseModel
from skerry.core.seams import Array
from skerry.edge.installed import Installed
from tests.models import model_bytes
from tests.serving import INPUTS, OUTPUTS, golden_bytes, install_files
from tests.unruly import HARMS

HARMLESS = np.full((1, 4), -1, np.float32)
SOUR_BELOW = -500
FAULTS = ("corrupt", "signature", "golden", "nan", "size", "latency", "runtime")
SCRIPTED_FAULTS = (*FAULTS, "crash", "hog", "raise")

_LOOP = """net (float[N, 4] x) => (float[N, 4] y) {
  flat = Reshape(x, whole)
  first = Gather(flat, zero)
  steps = Cast<to = 7>(first)
  still = Loop<body = step (int64 i, bool go, float[N, 4] before)
    => (bool on, float[N, 4] after) { on = Identity(go) after = Identity(before) }
  >(steps, yes, x)
  y = Mul(still, gain)
}"""
_WEIGHTS = {
    "whole": np.array([-1], np.int64),
    "zero": np.array(0, np.int64),
    "yes": np.ones((), np.bool_),
}


def native_bytes(gain: float) -> bytes:
    """An ONNX model that multiplies by a gain, after a loop as long as asked for."""
    return model_bytes(_LOOP, {**_WEIGHTS, "gain": np.array(gain, np.float32)})


def is_native(name: str) -> bool:
    """Whether releases of a name are ONNX models."""
    return name.startswith("native")


def harmful_x(name: str, harm: str) -> Array:
    """Inputs that do harm: `hang` and `nap` everywhere, of scripts all of `HARMS`."""
    if is_native(name):
        return np.full((1, 4), {"hang": 1e12, "nap": 15_000}[harm], np.float32)
    return np.full((1, 4), HARMS.index(harm), np.float32)


class Shelf:
    """Makes releases; `find` makes the next good one of a name.

    Args:
        folder: Where their files lie.
        load_s: How long each script takes to load.
    """

    def __init__(self, folder: Path, *, load_s: float = 0.0) -> None:
        self._folder = folder
        self._load_s = load_s
        self._versions = itertools.count(1)
        self.sour: set[tuple[str, int]] = set()

    def index(self) -> tuple[Installed, ...]:
        return ()

    def find(self, name: str, version: int | None = None) -> Installed:
        if version is not None:
            raise UsageError(f"no version {version} lies here", hint="Ask for none.")
        return self.good(name)

    def good(self, name: str, *, load_s: float | None = None) -> Installed:
        """Make a good release."""
        version = next(self._versions)
        load_s = self._load_s if load_s is None else load_s
        return self._install(name, version, load_s=load_s)

    def spoiled(self, name: str) -> Installed:
        """Make one that passes every check and then fails half of the requests."""
        version = next(self._versions)
        self.sour.add((name, version))
        return self._install(name, version, sour=SOUR_BELOW)

    def bad(self, name: str, fault: str) -> Installed:
        """Make one that must be refused."""
        version = next(self._versions)
        if fault in {"crash", "hog", "raise"}:
            return self._install(name, version, load=fault)
        return self._install(name, version, fault=fault)

    def _install(
        self, name: str, version: int, *, fault: str = "", **script: object
    ) -> Installed:
        gain = float("nan") if fault == "nan" else version
        if is_native(name):
            content, runtime = native_bytes(gain), "onnxruntime"
        else:
            content = json.dumps(
                {**script, "gain": version, "nan": fault == "nan"}
            ).encode()
            runtime = "unruly"
        if fault == "corrupt":
            content = content[: len(content) // 2]
        inputs = INPUTS
        if fault == "signature":
            inputs = (OUTPUTS[0],)  # it asks for `x`, and is told of `y`
        budgets = {
            "size": Budget(size_bytes=len(content) - 1),
            "latency": Budget(latency_ms=1e-6),
        }
        expected = -version if fault == "golden" else version
        return install_files(
            self._folder / f"{name}-{version}",
            {"model": content, "golden": golden_bytes(expected, x=HARMLESS)},
            ReleaseModel(
                target="any",
                runtime="nowhere" if fault == "runtime" else runtime,
                blob=Blob.of(content),
                inputs=inputs,
                outputs=OUTPUTS,
            ),
            version=version,
            name=name,
            budget=budgets.get(fault),
        )
