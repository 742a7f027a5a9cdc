import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.models import conv_net

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

model = Model(
    path=Path(sys.argv[2]),
    format=ModelFormat.ONNX,
    inputs=(TensorSpec(name="x", dtype="float32", shape=(1, 3, 16, 16)),),
    outputs=(TensorSpec(name="y", dtype="float32", shape=(1, 4)),),
    sha256="",
    size_bytes=0,
)
session = get_runtime(sys.argv[1]).load(model, LoadOptions())
session.run({"x": np.ones((1, 3, 16, 16), np.float32)})
session.close()
"""


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_runtime_tells_nobody_that_it_runs(runtime: str, tmp_path: Path) -> None:
    """Loading and running opens no connection, and leaves nothing in the home."""
    home = tmp_path / "home"
    home.mkdir()
    path = tmp_path / "net.onnx"
    path.write_bytes(conv_net())
    # A continuous integration's marks would silence the libraries by themselves.
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    run = subprocess.run(
        [sys.executable, "-c", WATCHED_RUN, runtime, str(path)],
        env={**kept, "HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    assert list(home.rglob("*")) == []
