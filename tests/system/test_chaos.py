"""Bad days, with real processes: killed, cut off, two at once, damaged."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx
import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from skerry.app.hub_api import HubApi
from skerry.app.publish.build import make_release
from skerry.app.publish.publisher import Publisher
from skerry.graph import open_model
from skerry.tasks.samples import open_samples
from skerry.tasks.steps import TopK
from skerry.tasks.task import Task, TaskKind, task_to_toml
from tests.models import model_bytes, random_weights

pytestmark = pytest.mark.system

SKERRY = (sys.executable, "-m", "skerry.app.main")
ENVIRONMENT = {
    key: value for key, value in os.environ.items() if not key.startswith("SKERRY_")
}
WIDTH = 1024
N_ROWS = 8
TASK = Task(kind=TaskKind.CLASSIFICATION, metric="top1", post=(TopK(k=1),))
Answer = TypeVar("Answer")


def wait_for(condition: Callable[[], Any], *, timeout_s: float = 30.0) -> Any:
    """Wait until something holds; gives what it gave."""
    until_s = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < until_s, "it never came true"
        time.sleep(0.05)
    return found


class World:
    """A hub and gateways as processes, on ports that survive their restarts."""

    def __init__(self, folder: Path, *, start_s: float = 30.0) -> None:
        self.folder = folder
        self._start_s = start_s
        self.ports = {name: _free_port() for name in ("http", "mqtt", "gw-1")}
        self.rows = np.random.default_rng(0).normal(size=(N_ROWS, 8)).astype("f4")
        self.expected: dict[str, NDArray[np.float32]] = {}
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        np.savez(folder / "rows.npz", x=self.rows, label=np.arange(N_ROWS) % 3)
        (folder / "task.toml").write_text(task_to_toml(TASK))

    def run(self, *words: str, code: int = 0) -> Any:
        """Type a command; gives its result, or its error."""
        done = subprocess.run(
            [*SKERRY, *words, "--json"],
            cwd=self.folder,
            env={**ENVIRONMENT, "SKERRY_HUB": "hub"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        answer = json.loads(done.stdout)
        return answer["result"] if answer["ok"] else answer["error"]

    def talk(self, say: Callable[[HubApi], Awaitable[Answer]]) -> Answer:
        """Speak to the hub as an operator, in this process."""

        async def hold() -> Answer:
            async with HubApi.of_folder(self.folder / "hub") as api:
                return await say(api)

        return asyncio.run(hold())

    def make_publisher(self) -> None:
        """Make the keys, and have the hub trust them."""

        async def begin(api: HubApi) -> None:
            key = await api.online_key()
            made = Publisher.create(self.folder / "skerry-publisher", hub_key=key)
            await api.put_trust(made.metadata())

        self.talk(begin)

    def start_hub(self) -> None:
        """Start the hub, and wait until it is up."""
        ports = (
            "--port",
            str(self.ports["http"]),
            "--mqtt-port",
            str(self.ports["mqtt"]),
        )
        self._start("hub", "hub.json", "hub", "up", "--folder", "hub", *ports)

    def start_gateway(self, name: str = "gw-1", *more: str, waits: bool = True) -> None:
        """Start a gateway."""
        words = ("--folder", name, "--probation-s", "0.3", *more)
        port = str(self.ports.get(name, 0))
        file = "gateway.json" if waits else ""
        self._start(name, file, "gateway", "run", "--port", port, *words)

    def enrol(self, name: str = "gw-1") -> None:
        """Register a gateway and start it."""
        token = self.talk(lambda api: api.create_device(name))
        self.start_gateway(name, "--hub", self.url, "--token", token)

    def kill(self, name: str) -> None:
        """Kill a process as the out-of-memory killer does."""
        self._running[name].kill()
        self._running[name].wait()

    def send(self, name: str, number: signal.Signals) -> subprocess.Popen[bytes]:
        """Send a signal to a process."""
        self._running[name].send_signal(number)
        return self._running[name]

    def stop(self) -> None:
        """Kill what runs; none of them may have said that it found a bug."""
        for name in self._running:
            self.send(name, signal.SIGCONT)
            self.kill(name)
        for file in self.folder.glob("*.log"):
            said = file.read_text()
            assert "Traceback" not in said, said
            assert "bug:" not in said, said

    def publish(self, seed: int, name: str = "meter") -> str:
        """Release a model of its own weights; gives NAME/VERSION."""
        file = self.folder / f"{seed}.onnx"
        file.write_bytes(_net(seed))
        self.expect(file.read_bytes())
        model = open_model(file)
        publisher = Publisher.open(self.folder / "skerry-publisher")
        last = [one.version for one in publisher.releases if one.name == name]
        samples = open_samples(self.folder / "rows.npz", model.inputs, TASK)
        version = max(last, default=0) + 1
        packed = make_release(name, version, model, TASK, samples, golden_from=model)
        self.talk(lambda api: api.publish(publisher.release(*packed)))
        return f"{name}/{version}"

    def expect(self, model: bytes) -> None:
        """Keep what a model answers."""
        session = onnxruntime.InferenceSession(model)
        outputs = session.run(None, {"x": self.rows})[0]
        self.expected[hashlib.sha256(model).hexdigest()] = outputs

    def deliver(self, release: str, *devices: str, **more: Any) -> str:
        """Begin a rollout; gives its id."""
        body = {"release": release, "devices": devices, **more}
        made: str = self.ask("POST", "/rollouts", body)["id"]
        return made

    def state(self, rollout: str) -> dict[str, Any]:
        """A rollout, once it has ended."""

        def ended() -> dict[str, Any] | None:
            found: dict[str, Any] = self.ask("GET", f"/rollouts/{rollout}")
            return None if found["state"] in {"running", "undoing"} else found

        found: dict[str, Any] = wait_for(ended)
        return found

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Ask the hub's API."""
        token = json.loads((self.folder / "hub" / "operator.json").read_text())["token"]
        headers = {"Authorization": f"Bearer {token}"}
        url = f"{self.url}/v1{path}"
        answer = httpx.request(method, url, json=body, headers=headers, timeout=20)
        assert answer.is_success, answer.text
        return answer.json()

    @property
    def url(self) -> str:
        """The hub's address."""
        return f"http://127.0.0.1:{self.ports['http']}"

    def _start(self, name: str, ready: str, *words: str) -> None:
        file = self.folder / name / ready
        if ready:
            file.unlink(missing_ok=True)
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [*SKERRY, *words],
                cwd=self.folder,
                env=ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._running[name] = process
        if ready:
            wait_for(
                lambda: file.exists() or process.poll() is not None,
                timeout_s=self._start_s,
            )
            assert process.poll() is None, (self.folder / f"{name}.log").read_text()


class Load:
    """Asks a gateway all the time over one connection, and checks each answer."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._url = f"http://127.0.0.1:{world.ports['gw-1']}/v2/models/meter/infer"
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.releases: dict[str, str] = {}
        self.n = 0
        self.refused: list[str] = []
        self.unreachable = 0
        self.wrong: list[str] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        with httpx.Client(timeout=10, trust_env=False) as client:
            while not self._stopped.wait(0.01):
                try:
                    self._ask(client)
                except httpx.TransportError:
                    self.unreachable += 1

    def _ask(self, client: httpx.Client) -> None:
        index = self.n % N_ROWS
        row = self._world.rows[index]
        tensor = {"name": "x", "datatype": "FP32", "shape": [1, 8]}
        inputs = [{**tensor, "data": row.tolist()}]
        answer = client.post(self._url, json={"inputs": inputs})
        if answer.status_code != 200:
            self.refused.append(answer.text)
            return
        self.n += 1
        said = answer.json()
        release, blob = (said["parameters"][key] for key in ("release", "blob"))
        got = np.asarray(said["outputs"][0]["data"], np.float32)
        is_its_own = np.allclose(got, self._world.expected[blob][index], atol=1e-4)
        if not is_its_own or self.releases.setdefault(release, blob) != blob:
            self.wrong.append(f"{release} {blob}: {got}")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A hub that is up, with a publisher."""
    made = World(tmp_path)
    try:
        made.start_hub()
        made.make_publisher()
        yield made
    finally:
        made.stop()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def _net(seed: int) -> bytes:
    shapes = {"first": (8, WIDTH), "second": (WIDTH, 256), "third": (256, 3)}
    weights = random_weights(shapes, seed=seed)
    return model_bytes(
        "net (float[batch, 8] x) => (float[batch, 3] y) "
        "{ a = MatMul(x, first) b = Relu(a) c = MatMul(b, second) "
        "d = Tanh(c) y = MatMul(d, third) }",
        weights,
    )


def test_a_gateway_that_is_killed_again_and_again(world: World) -> None:
    """It comes back serving a whole release each time, converges, and never mixes."""
    world.enrol()
    assert world.state(world.deliver(world.publish(1), "gw-1"))["state"] == "succeeded"
    with Load(world) as load:
        for turn, wait_s in enumerate((0.05, 0.25, 0.4, 0.6)):
            release = world.publish(2 + turn)
            rollout = world.deliver(release, "gw-1", on_failure="stop")
            time.sleep(wait_s)
            world.kill("gw-1")
            before = load.n
            world.start_gateway(waits=False)
            wait_for(lambda before=before: load.n > before, timeout_s=15)
            assert world.state(rollout)["state"] == "succeeded"
    assert load.wrong == []
    assert load.refused == []
    assert load.unreachable > 0
    assert len(load.releases) == 5


def test_a_hub_that_is_killed(world: World) -> None:
    """Publication, rollout and reports go on where they were; gateways serve on."""
    world.enrol()
    rollout = world.deliver(world.publish(1), "gw-1")
    world.state(rollout)
    with Load(world) as load:
        for turn, wait_s in enumerate((0.9, 1.1)):
            file = world.folder / f"{10 + turn}.onnx"
            file.write_bytes(_net(10 + turn))
            words = ("release", "create", "meter", file.name, "rows.npz", "--task")
            publication = subprocess.Popen(
                [*SKERRY, *words, "task.toml"],
                cwd=world.folder,
                env={**ENVIRONMENT, "SKERRY_HUB": "hub"},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            time.sleep(wait_s)
            world.kill("hub")
            publication.wait(30)
            world.start_hub()
        release = world.publish(20)
        rollout = world.deliver(release, "gw-1", on_failure="stop")
        time.sleep(0.1)
        world.kill("hub")
        time.sleep(0.5)
        world.start_hub()
        assert world.state(rollout)["state"] == "succeeded"
    assert (load.wrong, load.refused, load.unreachable) == ([], [], 0)
    lines = world.ask("GET", "/devices/gw-1/logs?limit=1000")["events"]
    accepted = [one for one in lines if one["name"] == "release.accepted"]
    assert [one["fields"]["release"] for one in accepted] == ["meter/1", release]


def test_nobody_shares_a_folder_and_nothing_waits_for_the_unenrolled(
    world: World,
) -> None:
    """Each says who is there already; a rollout to all leaves out who cannot answer."""
    ports = ("--port", "0", "--mqtt-port", "0")
    error = world.run("hub", "up", "--folder", "hub", *ports, code=33)
    assert "another hub runs in hub" in error["what"]
    world.enrol()
    error = world.run("gateway", "run", "--folder", "gw-1", code=33)
    assert "another gateway runs in gw-1" in error["what"]
    world.talk(lambda api: api.create_device("not-yet"))
    release = world.publish(1)
    rollout = world.deliver(release)
    assert list(world.state(rollout)["progress"]) == ["gw-1"]
    world.ask("POST", f"/rollouts/{rollout}/undo")
    undone = world.state(rollout)
    assert undone["state"] == "undone"
    assert "nothing to go back to" in undone["progress"]["gw-1"]["reason"]
    names = [f"model-{index}" for index in range(4)]
    releases = [world.publish(30 + i, name) for i, name in enumerate(names)]
    rollouts = [world.deliver(one, "gw-1") for one in releases]
    assert {world.state(one)["state"] for one in rollouts} == {"succeeded"}


def test_a_gateway_whose_trust_is_damaged_serves_on(world: World) -> None:
    """It updates nothing, and says what to do; a new enrolment mends it."""
    world.enrol()
    world.state(world.deliver(world.publish(1), "gw-1"))
    world.kill("gw-1")
    (world.folder / "gw-1" / "trust" / "root.json").write_bytes(b"")
    (world.folder / "gw-1" / "slots.json").write_bytes(b"{")
    world.start_gateway()
    with Load(world) as load:
        release = world.publish(2)
        # What it is told cannot be verified either: to the hub it does not answer.
        failed = world.state(world.deliver(release, "gw-1", gate={"timeout_s": 3}))
        assert failed["state"] == "undone"
        assert "no answer" in failed["reason"]
        assert "enrolled again" in str(world.ask("GET", "/devices/gw-1/logs"))
        wait_for(lambda: load.n)
    assert (load.wrong, load.refused, load.unreachable) == ([], [], 0)
    world.send("gw-1", signal.SIGINT).wait(15)
    (world.folder / "gw-1" / "device.json").write_bytes(b"{")
    error = world.run("gateway", "run", "--folder", "gw-1", code=3)
    assert "enrol the gateway again" in error["hint"]
    (world.folder / "gw-1" / "device.json").unlink()
    world.enrol()
    assert world.state(world.deliver(release, "gw-1"))["state"] == "succeeded"
