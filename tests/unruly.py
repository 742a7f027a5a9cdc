"""A runtime for worker processes that does them every harm, as it is told.

The model file is JSON: `load` names what goes wrong while it is loaded, `once` a file
that is made the first time something does; with it there, nothing does. The first
number of the input `x` names what goes wrong in an inference, by its place in `HARMS`.
Where nothing does, `y` is `x` times `gain`, or 2; `load_s` is how long loading takes,
`sour` refuses all inputs that begin with less than it, `nan` answers NaN.
"""

from __future__ import annotations

import ctypes
import json
import re
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from skerry.core.errors import MissingExtraError, ModelError, RuntimeFailure
from skerry.core.model import Model, ModelFormat, TensorSpec
from skerry.core.seams import LoadOptions, Tensors
from skerry.runtimes.null import NullRuntime, NullSession

HARMS = (
    *("", "crash", "hang", "freeze", "hog", "swell", "raise", "fail", "exit", "odd"),
    "nap",
)


class UnrulyRuntime(NullRuntime):
    """Does what the model file and the inputs say."""

    name = "unruly"
    version = "7"

    def load(self, model: Model, options: LoadOptions) -> NullSession:
        super().load(model, options)
        script = json.loads(model.path.read_bytes())
        time.sleep(script.get("load_s", 0))
        harm(script.get("load", ""), script)
        gain = np.float32("nan" if script.get("nan") else script.get("gain", 2))

        def answer(inputs: Tensors) -> dict[str, Any]:
            x = inputs["x"]
            number = int(x.flat[0]) if x.size else 0
            kind = HARMS[number] if 0 <= number < len(HARMS) else ""
            if kind == "odd":
                return {"y": np.array(["a"])}
            harm(kind, script)
            if number < script.get("sour", -np.inf):
                harm("fail", {})
            return {"y": (x * gain).astype(x.dtype)}

        return NullSession(model, answer)


class ThreadedRuntime(UnrulyRuntime):
    """Begins a thread when it is made: its process cannot be forked."""

    def __init__(self) -> None:
        super().__init__()
        threading.Thread(target=threading.Event().wait, daemon=True).start()


class MissingRuntime(UnrulyRuntime):
    """Lacks its library."""

    def __init__(self) -> None:
        raise MissingExtraError("unruly", extra="unruly")


def harm(kind: str, script: dict[str, Any]) -> None:
    """Do some harm, unless it was to be done once and has been."""
    if kind and "once" in script:
        flag = Path(script["once"])
        if flag.exists():
            return
        flag.touch()
    if kind == "crash":
        ctypes.string_at(0)
    elif kind in {"hang", "nap"}:
        time.sleep(600 if kind == "hang" else 0.03)
    elif kind == "freeze":  # holds the interpreter's lock
        re.match(r"(a+)+$", "a" * 60 + "b")
    elif kind == "hog":
        held = []
        while True:
            held.append(np.ones(1 << 23, np.uint8))
            time.sleep(0.002)
    elif kind == "swell":
        np.ones(1 << 42, np.uint8)
    elif kind == "raise":
        raise ZeroDivisionError("a secret of the runtime's")
    elif kind == "fail":
        raise (ModelError if script.get("load") else RuntimeFailure)(
            "it stumbled", hint="Wait."
        )
    elif kind == "exit":
        raise SystemExit(3)


def unruly_model(
    folder: Path, name: str = "m", *, dtype: str = "float32", **script: Any
) -> Model:
    """A model file; `x` and `y` have two axes of any size."""
    path = folder / f"{name}.json"
    path.write_text(json.dumps(script), "utf-8")
    shape = ("N", "M")
    return Model(
        path=path,
        format=ModelFormat.ONNX,
        inputs=(TensorSpec(name="x", dtype=dtype, shape=shape),),
        outputs=(TensorSpec(name="y", dtype=dtype, shape=shape),),
        sha256="",
        size_bytes=path.stat().st_size,
    )


def x_for(kind: str) -> dict[str, Any]:
    """The inputs that have some harm done."""
    return {"x": np.full((1, 4), HARMS.index(kind), np.float32)}
