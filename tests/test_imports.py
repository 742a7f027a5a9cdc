"""What starts quickly stays quick: heavy libraries wait until they are needed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {
    "PIL",
    "asyncio",
    "cryptography",
    "fastapi",
    "grpc",
    "httpx",
    "matplotlib",
    "numpy",
    "onnx",
    "onnx_ir",
    "onnxruntime",
    "openvino",
    "sqlalchemy",
    "torch",
    "tuf",
    "uvicorn",
}
NOT_A_GATEWAYS = {
    "alembic",
    "fastapi",
    "grpc",
    "jinja2",
    "matplotlib",
    "onnx",
    "obstore",
    "onnx_ir",
    "openvino",
    "pydantic",
    "skerry.adapt",
    "skerry.cloud",
    "skerry.compress",
    "skerry.graph",
    "sqlalchemy",
    "starlette",
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
    loaded = loaded_by(STARTS[start])
    assert "skerry" in loaded
    assert HEAVY.isdisjoint(loaded)


def test_quantizing_numbers_needs_numpy_alone() -> None:
    """Models and runtimes are read in when a function that needs them is called."""
    assert HEAVY & loaded_by("import skerry.compress") <= {"numpy"}


def test_a_gateway_imports_what_it_uses(tmp_path: Path) -> None:
    """Up to its enrolment it loads its own parts, and none of a hub's or a bench's."""
    words = ["gateway", "run", "--folder", str(tmp_path / "gw")]
    loaded = loaded_by(f"from skerry.app.main import main; main({words})")
    assert {"skerry.edge.gateway", "skerry.comms.mqtt", "uvicorn"} <= loaded
    assert NOT_A_GATEWAYS.isdisjoint(loaded)


def test_serving_a_file_imports_what_it_uses(tmp_path: Path) -> None:
    """`skerry serve` needs what a gateway needs, until it meets an ONNX file."""
    words = ["serve", str(tmp_path / "nowhere.tflite")]
    loaded = loaded_by(f"from skerry.app.main import main; main({words})")
    assert {"skerry.edge.faces", "skerry.runtimes.files", "uvicorn"} <= loaded
    assert NOT_A_GATEWAYS.isdisjoint(loaded)


def loaded_by(code: str) -> set[str]:
    """The modules that a fresh process has loaded after some code."""
    report = "import sys; print('\\0', *sys.modules, file=sys.stderr, sep='\\n')"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stderr.partition("\0")[2].split())
