"""`skerry profile --on`: over a real sshd, and on a real gateway of a real hub."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import models
from tests.commands import SKERRY, Typist, make_parts, running, wait_for
from tests.sshds import Board, sshd

pytestmark = pytest.mark.system

Capture = pytest.CaptureFixture[str]
Patch = pytest.MonkeyPatch


@pytest.fixture
def board(tmp_path: Path, monkeypatch: Patch) -> Iterator[Board]:
    """A device that is reached by ssh; a model lies in the current folder."""
    monkeypatch.chdir(tmp_path)
    Path("net.onnx").write_bytes(models.conv_net(size=32))
    keys = tmp_path / "keys"
    keys.mkdir(mode=0o700)
    with sshd(keys) as found:
        monkeypatch.setenv("PATH", found.path)
        yield found


def test_over_ssh(board: Board, capsys: Capture) -> None:
    """Operators, memory, peaks; two runtimes in turns; and nothing is left there."""
    runtimes = ("--runtime", "onnxruntime", "--runtime", "openvino")
    typist = Typist(capsys)
    argv = ("profile", "net.onnx", *runtimes, "--on", board.url, "--repeats", "12")
    found = ask(typist, *argv)
    first, second = found["profiles"]
    assert (first["runtime"], second["runtime"]) == ("onnxruntime", "openvino")
    assert first["device"] == board.url
    assert {each["op_type"] for each in first["operators"]} >= {"Conv", "Gemm"}
    assert sum(each["macs"] or 0 for each in first["operators"]) > 0
    assert first["memory_bytes"] > 0
    assert first["inference"]["cpu_ms"] > 0
    assert second["operators"]
    assert found["peaks"]["gops"] > 0
    assert set(first["before"]) == {"temperature_c", "clock_mhz"}
    assert board.left() == []


def ask(typist: Typist, *words: str) -> dict[str, object]:
    """What a profile found, on a machine that may be restless."""
    from skerry.app.main import main

    typist._capsys.readouterr()
    assert main([*words, "--json"]) in (0, 30)
    found: dict[str, object] = json.loads(typist._capsys.readouterr().out)["result"]
    return found


def test_what_ssh_finds_missing(board: Board, capsys: Capture) -> None:
    """A port where nobody listens, a model that is none there, a folder left behind."""
    typist = Typist(capsys)
    argv = ("profile", "net.onnx", "--on")
    error = typist.ask(*argv, "ssh://127.0.0.1:1", code=60)
    assert "cannot be reached" in error["what"]
    stale = board.folder / "skerry-profile.stale"
    stale.mkdir()
    (stale / "pid").write_text("999999999")
    error = typist.ask(
        "profile", "net.onnx", "--on", board.url, "--runtime", "ncnn", code=2
    )
    assert "not measured on devices" in error["what"]
    Path("odd.onnx").write_bytes(
        models.model_bytes(
            "net (float[1, 4] x) => (float[1, 4] y) { y = com.example.Odd(x) }",
            domains=', "com.example": 1',
        )
    )
    error = typist.ask("profile", "odd.onnx", "--on", board.url, code=11)
    assert "does not take the model" in error["what"]
    assert board.left() == []


def test_whoever_asked_is_killed(board: Board) -> None:
    """The runner on the device notices, ends, and leaves nothing behind."""
    argv = (*SKERRY, "profile", "net.onnx", "--on", board.url, "--repeats", "1000000")
    with subprocess.Popen(argv, stderr=subprocess.DEVNULL) as asking:
        wait_for(lambda: any(board.folder.glob("*/model-0.onnx")))
        asking.send_signal(signal.SIGKILL)
    wait_for(lambda: board.left() == [])


def test_the_runner_is_killed(board: Board) -> None:
    """As the kernel does when memory runs out: said, and nothing is left."""
    argv = (*SKERRY, "profile", "net.onnx", "--on", board.url, "--repeats", "1000000")
    with subprocess.Popen(
        (*argv, "--json"), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as asking:
        wait_for(lambda: any(board.folder.glob("*/model-0.onnx")))
        (folder,) = board.folder.iterdir()
        shell = (folder / "pid").read_text().strip()
        children = Path(f"/proc/{shell}/task/{shell}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGKILL)
        assert asking.stdout is not None
        said = json.loads(asking.stdout.read())
    assert said["error"]["code"] == "WorkerLostError"
    assert "signal 9" in said["error"]["what"]
    assert board.left() == []


def test_on_a_gateway(tmp_path: Path, monkeypatch: Patch, capsys: Capture) -> None:
    """A model that it serves is profiled there; any other it refuses to run."""
    monkeypatch.chdir(tmp_path)
    make_parts(tmp_path)
    Path("other.onnx").write_bytes(models.mlp(seed=5))
    typist = Typist(capsys)
    hub_json, gateway_json = tmp_path / "hub/hub.json", tmp_path / "gw-1/gateway.json"
    monkeypatch.setenv("SKERRY_HUB", "hub")
    hub = ("hub", "up", "--folder", "hub", "--port", "0", "--mqtt-port", "0")
    with running(*hub, cwd=tmp_path, ready=hub_json):
        url = json.loads(hub_json.read_text())["address"]
        typist.ask("release", "init")
        token = typist.ask("device", "create", "gw-1")["token"]
        gateway = ("gateway", "run", "--folder", "gw-1", "--probation-s", "0.2")
        first = ("--hub", url, "--token", token)
        with running(*gateway, *first, cwd=tmp_path, ready=gateway_json):
            release = ("release", "create", "meter", "mlp.onnx", "rows.npz")
            typist.ask(*release, "--task", "task.toml")
            wait_for(lambda: "online" in typist.see("device", "ls"))
            begun = typist.ask("rollout", "create", "meter/1", "gw-1")
            typist.ask("rollout", "watch", begun["id"])
            on = ("--on", "device://gw-1")
            error = typist.ask("profile", "other.onnx", *on, code=2)
            assert "serves no release" in error["what"]
            assert "signed" in error["hint"]
            error = typist.ask(
                "profile", "mlp.onnx", *on, "--runtime", "openvino", code=2
            )
            assert "its release" in error["what"]
            found = ask(typist, "profile", "mlp.onnx", *on, "--repeats", "6")
            (profile,) = found["profiles"]  # type: ignore[misc]
            assert profile["model"] == "meter/1"
            assert profile["device"] == "device://gw-1"
            assert {each["op_type"] for each in profile["operators"]} >= {"Gemm"}
            error = typist.ask("profile", "mlp.onnx", "--on", "device://gw-2", code=2)
            assert "gw-2" in error["what"]
