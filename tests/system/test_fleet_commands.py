"""The commands of a fleet, as a person types them: a real hub and a real gateway."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest

from tests.commands import SKERRY, Typist, make_parts, running, wait_for

pytestmark = pytest.mark.system

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: a model, samples and a task."""
    monkeypatch.chdir(tmp_path)
    make_parts(tmp_path)
    return tmp_path


def release(*flags: str) -> tuple[str, ...]:
    """The command line that releases the model."""
    return ("release", "create", "meter", "mlp.onnx", "rows.npz", *flags)


def test_a_fleet_by_hand(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """From an empty folder to a gateway that runs, refuses, and says why."""
    typist = Typist(capsys)
    hub_json, gateway_json = folder / "hub" / "hub.json", folder / "gw-1/gateway.json"
    error = typist.ask("device", "ls", code=2)
    assert "skerry hub up" in error["hint"]
    monkeypatch.setenv("SKERRY_HUB", "hub")
    hub = ("hub", "up", "--folder", "hub", "--port", "0", "--mqtt-port", "0")
    with running(*hub, cwd=folder, ready=hub_json):
        url = json.loads(hub_json.read_text())["address"]
        made = typist.ask("release", "init")
        token = typist.ask("device", "create", "gw-1", "--label", "site=lab")["token"]
        assert token.endswith(made["root_sha256"])
        assert "not enrolled" in typist.see("device", "ls")
        gateway = ("gateway", "run", "--folder", "gw-1", "--probation-s", "0.2")
        first = ("--hub", url, "--token", token)
        with running(*gateway, *first, cwd=folder, ready=gateway_json) as process:
            wait_for(lambda: "online" in typist.see("device", "ls"))
            assert "site=lab" in typist.see("device", "ls")
            assert typist.ask("device", "ping", "gw-1")["round_trip_ms"] > 0
            a_release_arrives(typist)
            a_slow_release_is_refused(typist)
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
            assert process.stdout is not None
            assert "has stopped" in process.stdout.read()
        wait_for(lambda: "offline" in typist.see("why", "gw-1"))
        error = typist.ask("device", "ping", "gw-1", code=60)
        assert "gw-1" in error["what"]


def a_release_arrives(typist: Typist) -> None:
    """A model is signed, published, rolled out, and runs."""
    published = typist.ask(*release("--task", "task.toml", "--notes", "the first"))
    assert published["release"] == "meter/1"
    assert published["delta_bytes"] is None
    assert "the first" in typist.see("release", "ls")
    assert typist.ask("release", "show", "meter/1")["version"] == 1
    begun = typist.ask("rollout", "create", "meter/1", "gw-1")
    ended = typist.ask("rollout", "watch", begun["id"])
    assert ended["rollout"]["state"] == "succeeded"
    assert "1 updated" in typist.see("rollout", "ls")
    shadow = typist.ask("shadow", "show", "gw-1")
    assert shadow["reported"]["releases"]["meter"]["version"] == 1
    assert "release.accepted" in typist.see("device", "logs", "gw-1")
    assert "meter" in typist.see("device", "show", "gw-1")
    assert typist.ask("fleet", "show")["running"] == {"meter/1": 1}


def a_slow_release_is_refused(typist: Typist) -> None:
    """It is over its budget here: the reason is everywhere, and the old one runs."""
    typist.ask(*release("--task", "task.toml", "--latency-ms", "0.0000001"))
    begun = typist.ask("rollout", "create", "meter/2", "--wave", "gw-1")
    ended = typist.ask("rollout", "watch", begun["id"], code=1)
    assert ended["rollout"]["state"] == "undone"
    assert "latency" in typist.see("rollout", "show", begun["id"])
    assert "runs meter/1" in typist.see("why", "gw-1")
    assert "release.refused" in typist.see("device", "logs", "gw-1")
    assert "to meter/2" in typist.see("release", "deltas", "meter")
    error = typist.ask("rollout", "create", "meter/9", "gw-1", code=2)
    assert "meter/9" in error["what"]
    error = typist.ask("shadow", "set", "gw-1", "{}", "--version", "1", code=33)
    assert "version" in error["what"]
    typist.ask("shadow", "set", "gw-1", '{"collect": {"most": 4}}')
    shadow = typist.ask("shadow", "show", "gw-1")
    assert shadow["desired"]["collect"] == {"most": 4}


def test_a_url_needs_a_token(capsys: Capture) -> None:
    """Where there is no folder to read it from, the variable is named."""
    error = Typist(capsys).ask("device", "ls", "--hub", "http://127.0.0.1:9", code=2)
    assert "SKERRY_TOKEN" in error["hint"]


def test_a_hub_that_is_not_there_is_a_link_error(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """The exit code says that later it may work."""
    monkeypatch.setenv("SKERRY_TOKEN", "t")
    error = Typist(capsys).ask("why", "gw", "--hub", "http://127.0.0.1:9", code=60)
    assert "127.0.0.1:9" in error["what"]


def test_a_port_in_use_is_named(folder: Path) -> None:
    """A second hub does not start, and says which port it is."""
    hub_json = folder / "one" / "hub.json"
    words = ("hub", "up", "--mqtt-port", "0", "--folder")
    with running(*words, "one", "--port", "0", cwd=folder, ready=hub_json):
        port = json.loads(hub_json.read_text())["address"].rpartition(":")[2]
        done = subprocess.run(
            [*SKERRY, *words, "two", "--port", port],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 30, done.stderr
    assert f"127.0.0.1:{port}" in done.stderr


def test_a_label_without_a_value_is_refused(capsys: Capture) -> None:
    """It says how one is written."""
    words = ("device", "create", "gw-1", "--label", "lab")
    assert "KEY=VALUE" in Typist(capsys).ask(*words, code=2)["hint"]
