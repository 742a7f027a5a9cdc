"""A gateway gets what it needs, on its own kind of processor, and nothing heavy."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.system.conftest import run

pytestmark = pytest.mark.system

UNWANTED = {"onnx", "onnx-ir", "torch", "fastapi", "sqlalchemy", "openvino"}
PLATFORMS = [f"manylinux{tag}_aarch64" for tag in ("_2_28", "_2_27", "_2_17", "2014")]


def test_the_extra_resolves_to_aarch64_wheels(wheel: Path, tmp_path: Path) -> None:
    """Nothing is compiled on the gateway, and nothing unwanted comes along."""
    report = tmp_path / "report.json"
    run(
        *(sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed"),
        *("--quiet", "--no-input", "--disable-pip-version-check"),
        *("--target", tmp_path / "none", "--report", report),
        *("--only-binary=:all:", "--python-version=3.11", "--implementation=cp"),
        *(f"--platform={platform}" for platform in PLATFORMS),
        f"{wheel}[gateway]",
        cwd=tmp_path,
    )
    installed = json.loads(report.read_text())["install"]
    names = {entry["metadata"]["name"].lower() for entry in installed}
    assert {"skerry", "numpy", "onnxruntime", "pillow"} <= names
    assert not names & UNWANTED
    native = [entry["download_info"]["url"] for entry in installed]
    assert any("aarch64" in url for url in native)
    assert not any("x86_64" in url for url in native)


def test_the_extra_alone_can_run_models(
    wheel: Path, install: Callable[[str], Path], tmp_path: Path
) -> None:
    """The runtime and the tasks of a gateway import without the unwanted packages."""
    python = install(f"{wheel}[gateway]") / "python"
    listed = run(
        *(sys.executable, "-m", "pip", "--python", python, "list", "--format=json"),
        cwd=tmp_path,
    ).stdout
    assert not {entry["name"].lower() for entry in json.loads(listed)} & UNWANTED
    code = (
        "import skerry.tasks, skerry.tasks._image\n"
        "from skerry.runtimes import get_runtime\n"
        "print(get_runtime('onnxruntime').version)"
    )
    assert run(python, "-c", code, cwd=tmp_path).stdout.startswith("1.")
