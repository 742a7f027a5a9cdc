import os
import subprocess
import sys
from pathlib import Path

import pytest

from skerry.core.model import ModelFormat
from tests.twins import twin

# Telemetry starts a thread that forks a process that opens a socket: each is an event
# of the interpreter. What is native leaves no event, but an identifier in the home.
WATCHED_RUN = """
import sys

def tell(event, arguments):
    if event.startswith(("socket.", "subprocess.", "os.fork", "os.posix_spawn")):
        print(event, flush=True)

sys.addaudithook(tell)

from pathlib import Path
import numpy as np
from skerry.core.model import Model, ModelFormat, TensorSpec
from skerry.core.seams import LoadOptions
from skerry.runtimes import get_runtime

shape = tuple(map(int, sys.argv[4].split("x")))
model = Model(
    path=Path(sys.argv[2]),
    format=ModelFormat(sys.argv[3]),
    inputs=(TensorSpec(name="x", dtype="float32", shape=shape),),
    outputs=(TensorSpec(name="y", dtype="float32", shape=(1, 3)),),
    sha256="",
    size_bytes=0,
)
session = get_runtime(sys.argv[1]).load(model, LoadOptions())
session.run({"x": np.ones(shape, np.float32)})
session.close()
"""


@pytest.mark.parametrize(
    ("runtime", "taken"),
    [
        ("onnxruntime", ModelFormat.ONNX),
        ("openvino", ModelFormat.ONNX),
        ("openvino", ModelFormat.TFLITE),
        ("litert", ModelFormat.TFLITE),
        ("ncnn", ModelFormat.NCNN),
    ],
)
def test_a_runtime_tells_nobody_that_it_runs(
    runtime: str, taken: ModelFormat, tmp_path: Path
) -> None:
    """Loading and running opens no connection, and leaves nothing in the home."""
    home = tmp_path / "home"
    home.mkdir()
    model = twin(taken, tmp_path)
    shape = "x".join(map(str, model.inputs[0].shape))
    # A continuous integration's marks would silence the libraries by themselves.
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    run = subprocess.run(
        [sys.executable, "-c", WATCHED_RUN, runtime, str(model.path), taken, shape],
        env={**kept, "HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    assert list(home.rglob("*")) == []
