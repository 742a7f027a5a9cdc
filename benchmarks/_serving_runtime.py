"""A runtime for the benchmark's worker processes: onnxruntime, with faults on request.

The model file is JSON: `onnx` names the file that is run, or none for a model that
answers zeros; `load_s` is how long loading takes beside; `gain` multiplies the outputs;
`on_load` and `on_run` name what goes wrong. The first number of the first input has an
inference hang, where it is one of `TRIGGERS`.
"""

from __future__ import annotations

import ctypes
import re
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from skerry.core.errors import ModelError
from skerry.core.model import Model, TensorSpec
from skerry.core.seams import Array, LoadOptions, Session, Tensors
from skerry.runtimes.null import NullRuntime
from skerry.runtimes.onnxruntime import OnnxRuntime

NAME = "scripted"
PLACE = "benchmarks._serving_runtime:ScriptedRuntime"
TRIGGERS: Mapping[float, str] = {7777.0: "hang", 7778.0: "freeze"}
_LONG_S = 600.0


class ScriptedRuntime:
    """Runs what a script names, and spoils it as the script says."""

    name = NAME
    version = "1"

    def load(self, model: Model, options: LoadOptions) -> Session:
        """Load a script.

        Raises:
            ModelError: It is none, or says that it is broken.
        """
        try:
            script: dict[str, Any] = msgspec.json.decode(model.path.read_bytes())
        except msgspec.DecodeError as error:
            raise ModelError(f"it is no script: {error}", hint="") from error
        time.sleep(script.get("load_s", 0))
        harm(script.get("on_load", ""))
        if script.get("onnx"):
            path = Path(script["onnx"])
            inner = OnnxRuntime().load(replace(model, path=path), options)
        else:
            inner = NullRuntime().load(model, options)
        return ScriptedSession(inner, script)


class ScriptedSession:
    """A model that is loaded, and what goes wrong with it."""

    def __init__(self, inner: Session, script: Mapping[str, Any]) -> None:
        self._inner = inner
        self._first = inner.inputs[0].name
        self._gain = np.float32(script.get("gain", 1))
        self._harm = script.get("on_run", "")

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The model's inputs."""
        return self._inner.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The model's outputs."""
        return self._inner.outputs

    def run(self, inputs: Tensors) -> dict[str, Array]:
        """Run one inference, if nothing goes wrong."""
        harm(TRIGGERS.get(float(inputs[self._first].flat[0]), ""))
        harm(self._harm)
        outputs = self._inner.run(inputs)
        if self._harm == "nan":
            return {name: array * np.float32("nan") for name, array in outputs.items()}
        if self._harm == "misshape":
            return {name: array.ravel() for name, array in outputs.items()}
        if self._gain != 1:
            return {name: array * self._gain for name, array in outputs.items()}
        return outputs

    def close(self) -> None:
        """Give the model back."""
        self._inner.close()


def harm(kind: str) -> None:
    """Let something go wrong."""
    if kind == "broken":
        raise ModelError("it is broken", hint="Mend it.")
    if kind == "crash":
        ctypes.string_at(0)
    elif kind == "hang":
        time.sleep(_LONG_S)
    elif kind == "freeze":  # holds the interpreter's lock, as native code may
        re.match(r"(a+)+$", "a" * 60 + "b")
    elif kind == "slow":
        time.sleep(0.4)
    elif kind == "hog":
        held = []
        while True:
            held.append(np.ones(1 << 23, np.uint8))
            time.sleep(0.001)
