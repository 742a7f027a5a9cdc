"""Six real gateways that are killed again and again while they update.

A hub and the gateways are processes of their own, as `tests/system/test_chaos.py`
starts them; each release is a network that onnxruntime runs. A gateway is bricked where
it does not come back serving a whole release, or does not come to the last one.
"""

from __future__ import annotations

import os
import time
from typing import Any

import httpx
import numpy as np

from benchmarks._faults_fleet import quick_folder
from benchmarks._found import Found, Plan, row, tell
from benchmarks._harness import Measured
from skerry.core.release import Blob
from tests.system.test_chaos import World, _free_port

NAMES = tuple(f"gw-{number}" for number in range(1, 7))
BACK_S = 120.0
"""How long a gateway may take to come back on a busy machine."""

FIRST_SEED = 100


class Kills:
    """The gateways, and what became of them.

    Args:
        world: The hub, with a publisher.
        seed: Of the moments.

    Attributes:
        count: How many were killed.
        bricked: By gateway, what was wrong with it first.
        back_s: How long each took to serve again.
    """

    def __init__(self, world: World, seed: int) -> None:
        self.count = 0
        self.bricked: dict[str, str] = {}
        self.back_s: list[float] = []
        self._world = world
        self._rng = np.random.default_rng(seed)
        self._blobs: set[str] = set()

    def begin(self) -> None:
        """Enrol all, and bring the first release to them."""
        world = self._world
        for name in NAMES:
            world.ports[name] = _free_port()
            token = world.talk(lambda api, name=name: api.create_device(name))
            enrolment = ("--hub", world.url, "--token", token)
            world.start_gateway(name, *enrolment, waits=False)
        self._wait_started()
        self._end(self._deliver(0))
        for name in NAMES:
            self._wait_served(name)

    def live(self, turn: int) -> None:
        """Deliver a release, and kill each gateway somewhere on its way."""
        world = self._world
        rollout = self._deliver(turn)
        for name in self._rng.permutation(NAMES):
            time.sleep(float(self._rng.uniform(0, 0.5)))
            world.kill(name)
            self.count += 1
            world.start_gateway(name, waits=False)
        for name in NAMES:
            self._wait_served(name)
        tell(f"{self.count} kills; the rollout {self._end(rollout)}")

    def end(self, turn: int) -> None:
        """A release that nobody disturbs comes to everybody."""
        self._end(self._deliver(turn))
        last = self._world.folder / f"{FIRST_SEED + turn}.onnx"
        self._blobs = {Blob.of(last.read_bytes()).sha256}
        for name in NAMES:
            self._wait_served(name)

    def _wait_started(self) -> None:
        until_s = time.monotonic() + BACK_S
        files = [self._world.folder / name / "gateway.json" for name in NAMES]
        while not all(file.exists() for file in files):
            if time.monotonic() > until_s:
                raise RuntimeError("a gateway has not started")
            time.sleep(0.2)

    def _deliver(self, turn: int) -> str:
        world = self._world
        release = world.publish(FIRST_SEED + turn)
        self._blobs = set(world.expected)
        body = {
            "release": release,
            "waves": [list(NAMES)],
            "gate": {"success_ratio": 0.0},
            "on_failure": "stop",
            "supersede": True,
        }
        made: str = world.ask("POST", "/rollouts", body)["id"]
        return made

    def _end(self, rollout: str) -> str:
        until_s = time.monotonic() + 2 * BACK_S
        while time.monotonic() < until_s:
            found: Any = self._world.ask("GET", f"/rollouts/{rollout}")
            if found["state"] not in {"running", "undoing"}:
                return str(found["state"])
            time.sleep(0.2)
        return "has not ended"

    def _wait_served(self, name: str) -> None:
        began_s = time.monotonic()
        said = "no answer"
        while time.monotonic() < began_s + BACK_S:
            said = self._ask(name)
            if not said:
                self.back_s.append(time.monotonic() - began_s)
                return
            time.sleep(0.1)
        self.bricked.setdefault(name, said)
        tell(f"{name}: {said}")

    def _ask(self, name: str) -> str:
        """Ask for one inference: what is wrong with the answer, or empty."""
        world = self._world
        url = f"http://127.0.0.1:{world.ports[name]}/v2/models/meter/infer"
        tensor = {"name": "x", "datatype": "FP32", "shape": [1, 8]}
        body = {"inputs": [{**tensor, "data": world.rows[0].tolist()}]}
        try:
            answer = httpx.post(url, json=body, timeout=20, trust_env=False)
        except httpx.TransportError as error:
            return repr(error)
        if not answer.is_success:
            return answer.text[:200]
        said = answer.json()
        blob = said["parameters"]["blob"]
        got = np.asarray(said["outputs"][0]["data"], np.float32)
        if blob not in self._blobs:
            return f"serves {said['parameters']['release']}"
        is_right = np.allclose(got, world.expected[blob][0], atol=1e-4)
        return "" if is_right else f"wrong answer of {blob[:12]}"


def measure_processes(plan: Plan) -> Found:
    """Kill them, turn by turn."""
    turns = plan.count(9, 1)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with quick_folder() as folder:
        world = World(folder, start_s=BACK_S)
        try:
            world.start_hub()
            world.make_publisher()
            kills = Kills(world, seed=5)
            kills.begin()
            for turn in range(1, turns + 1):
                kills.live(turn)
            kills.end(turns + 1)
        finally:
            world.stop()
    why = [f"{name}: {what}" for name, what in sorted(kills.bricked.items())]
    rows = [
        row(
            f"{len(NAMES)} gateways, {kills.count} SIGKILLs: bricked",
            "skerry",
            figure=len(kills.bricked),
            unit="gateways",
            n=kills.count,
            note="; ".join(why) or None,
        ),
        row(
            "from the start of a killed gateway to its first answer",
            "skerry",
            figure=float(np.median(kills.back_s)),
            unit="s, median",
            n=len(kills.back_s),
            high=max(kills.back_s),
        ),
    ]
    measured = Measured(
        id="update.real.bricked",
        figure=float(len(kills.bricked)),
        n=kills.count,
        unmet="; ".join(why)[:200],
    )
    return Found(rows=rows, measured=[measured])
