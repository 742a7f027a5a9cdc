"""The command line as a process: Ctrl-C, exit codes, and quick help."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests import models

pytestmark = pytest.mark.system
SKERRY = (sys.executable, "-m", "skerry.app.main")


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_ctrl_c_in_the_midst_of_work(flags: list[str], tmp_path: Path) -> None:
    """Ctrl-C ends long work with one line and 130, and leaves nothing behind."""
    (tmp_path / "mlp.onnx").write_bytes(models.mlp())
    words = ["compare", "mlp.onnx", "--runtime", "onnxruntime", *flags]
    words += ["--repeats", "100000000"]
    with subprocess.Popen(
        [*SKERRY, *words],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as started:
        assert started.stderr is not None
        try:
            # It says so just before the work begins.
            assert "random numbers" in started.stderr.readline()
            time.sleep(1.5)
            started.send_signal(signal.SIGINT)
            out, err = started.communicate(timeout=60)
        finally:
            started.kill()
    assert started.returncode == 130
    assert "Traceback" not in err
    if flags:
        assert json.loads(out)["error"]["code"] == "Cancelled"
    else:
        assert out == ""
        assert err.startswith("error: cancelled; nothing was half-written\n")
    assert [path.name for path in tmp_path.iterdir()] == ["mlp.onnx"]


def test_an_error_is_the_exit_code(tmp_path: Path) -> None:
    """The process ends with the error's own code, its line on stderr."""
    (tmp_path / "bad.onnx").write_bytes(np.random.default_rng(0).bytes(999))
    done = subprocess.run(
        [*SKERRY, "inspect", "bad.onnx"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 10
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 2


def test_help_is_quick() -> None:
    """Help costs little more than starting Python does."""
    environment = {**os.environ, "PYTHONPROFILEIMPORTTIME": "1"}
    done = subprocess.run(
        [*SKERRY, "--help"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line.split("|") for line in done.stderr.splitlines() if "|" in line]
    imported = {line[2].strip() for line in lines}
    assert "skerry.app.table" in imported
    assert not {"numpy", "onnx", "onnxruntime", "openvino", "PIL"} & imported
    assert not {name for name in imported if name.startswith("skerry.app.commands.")}
