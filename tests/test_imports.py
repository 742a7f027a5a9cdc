"""What starts quickly stays quick: heavy libraries wait until they are needed."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {
    "PIL",
    "matplotlib",
    "numpy",
    "onnx",
    "onnx_ir",
    "onnxruntime",
    "openvino",
    "torch",
}
STARTS = {
    "the package": "import skerry",
    "the help": "from skerry.app.main import main; main(['--help'])",
    "the version": "from skerry.app.main import main; main(['--version'])",
    "a mistyped command": "from skerry.app.main import main; main(['comprss'])",
}


@pytest.mark.parametrize("start", STARTS)
def test_nothing_heavy_is_imported(start: str) -> None:
    """A fresh process that does only this has loaded none of the heavy libraries."""
    report = "import sys; print('\\0', *sys.modules, file=sys.stderr, sep='\\n')"
    done = subprocess.run(
        [sys.executable, "-c", f"{STARTS[start]}\n{report}"],
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = done.stderr.partition("\0")[2].split()
    assert "skerry" in loaded
    assert HEAVY.isdisjoint(loaded)
