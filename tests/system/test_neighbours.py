"""Two gateways of one site: what one has, the other need not fetch from the hub."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest

from tests.commands import Typist, make_parts, running, wait_for
from tests.models import model_bytes, random_weights

pytestmark = pytest.mark.system

HIDDEN = 8000
SHAPES = {"first": (8, HIDDEN), "second": (HIDDEN, 3)}
MODEL_BYTES = 4 * HIDDEN * (8 + 3)


def wide_net() -> bytes:
    """One that is worth asking a neighbour for."""
    text = """wide (float[1, 8] x) => (float[1, 3] y) {
        hidden = MatMul(x, first)
        active = Tanh(hidden)
        y = MatMul(active, second)
    }"""
    return model_bytes(text, random_weights(SHAPES, seed=1))


@pytest.fixture
def typist(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Typist:
    """Types commands where a model, samples and a task lie."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SKERRY_HUB", "hub")
    make_parts(tmp_path)
    (tmp_path / "wide.onnx").write_bytes(wide_net())
    return Typist(capsys)


def roll_out(typist: Typist, device: str) -> None:
    """Bring the release to one device."""
    begun = typist.ask("rollout", "create", "meter/1", device)
    ended = typist.ask("rollout", "watch", begun["id"])
    assert ended["rollout"]["state"] == "succeeded", ended


def test_a_neighbour_has_it_already(tmp_path: Path, typist: Typist) -> None:
    """Even one whose own folder is sealed: what it gives is as it was signed."""
    hub_json = tmp_path / "hub" / "hub.json"
    hub = ("hub", "up", "--folder", "hub", "--port", "0", "--mqtt-port", "0")
    typist.ask("gateway", "seal", "--folder", "gw-1", "--seal-key", "gw-1.key")
    with contextlib.ExitStack() as stack:
        stack.enter_context(running(*hub, cwd=tmp_path, ready=hub_json))
        url = json.loads(hub_json.read_text())["address"]
        typist.ask("release", "init")
        for name, flags in (("gw-1", ("--seal-key", "gw-1.key")), ("gw-2", ())):
            made = typist.ask("device", "create", name, "--label", "site=lab")
            words = ("gateway", "run", "--folder", name, "--peers", *flags)
            first = ("--hub", url, "--token", made["token"], "--probation-s", "0.2")
            ready = tmp_path / name / "gateway.json"
            stack.enter_context(running(*words, *first, cwd=tmp_path, ready=ready))
        typist.ask(
            *("release", "create", "meter", "wide.onnx", "rows.npz"),
            *("--task", "task.toml"),
        )
        roll_out(typist, "gw-1")
        roll_out(typist, "gw-2")

        def agent(name: str) -> dict[str, object]:
            shown = typist.ask("device", "show", name)
            found: dict[str, object] = shown["shadow"]["reported"]["agent"]
            return found

        def received(name: str) -> dict[str, int]:
            return dict(agent(name).get("received_bytes") or {})  # type: ignore[call-overload]

        wait_for(lambda: received("gw-1") and received("gw-2"))
        assert received("gw-1")["hub"] > MODEL_BYTES
        assert received("gw-2")["peer"] > MODEL_BYTES
        assert received("gw-2")["hub"] < MODEL_BYTES / 10
        assert (agent("gw-1")["sealed"], agent("gw-2")["sealed"]) == ("file", "none")
    content = wide_net()[-1000:]
    for name, is_clear in (("gw-1", False), ("gw-2", True)):
        lies = [path for path in (tmp_path / name).rglob("*") if path.is_file()]
        assert any(content in path.read_bytes() for path in lies) == is_clear
