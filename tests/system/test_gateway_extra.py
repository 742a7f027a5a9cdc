"""A gateway gets what it needs, on its own kind of processor, and nothing heavy."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.commands import Typist, make_parts, running
from tests.system.conftest import run

UNWANTED = {"grpcio", "onnx", "onnx-ir", "torch", "fastapi", "sqlalchemy", "openvino"}
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


def test_the_extra_alone_is_a_whole_gateway(
    wheel: Path,
    install: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It enrols, fetches a signed release, checks it and serves it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SKERRY_HUB", "hub")
    make_parts(tmp_path)
    python = install(f"{wheel}[gateway]") / "python"
    listed = run(
        *(sys.executable, "-m", "pip", "--python", python, "list", "--format=json"),
        cwd=tmp_path,
    ).stdout
    assert not {entry["name"].lower() for entry in json.loads(listed)} & UNWANTED
    typist, hub_json = Typist(capsys), tmp_path / "hub" / "hub.json"
    hub = ("hub", "up", "--folder", "hub", "--port", "0", "--mqtt-port", "0")
    with running(*hub, cwd=tmp_path, ready=hub_json):
        typist.ask("release", "init")
        token = typist.ask("device", "create", "gw-1")["token"]
        url = json.loads(hub_json.read_text())["address"]
        first = ("--hub", url, "--token", token, "--probation-s", "0.1")
        gateway = ("gateway", "run", "--folder", "gw-1", *first)
        ready = tmp_path / "gw-1" / "gateway.json"
        with running(*gateway, cwd=tmp_path, ready=ready, python=python):
            parts = ("mlp.onnx", "rows.npz", "--task", "task.toml")
            typist.ask("release", "create", "meter", *parts)
            begun = typist.ask("rollout", "create", "meter/1", "gw-1")
            ended = typist.ask("rollout", "watch", begun["id"])
            assert ended["rollout"]["state"] == "succeeded"
