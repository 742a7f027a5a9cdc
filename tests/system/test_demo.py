"""`skerry demo --keep` from end to end, once: what it shows, and what it leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from skerry.app.demo.infer import Client
from skerry.app.demo.workshop import OUTPUT, Workshop, deal_out
from skerry.app.hub_api import HubApi
from skerry.core.fleet import RolloutState
from skerry.core.release import ReleaseId

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]
DEMO = (sys.executable, "-m", "skerry.app.main", "demo")


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The demo's result; what it kept is stopped at the end, as it says itself."""
    out = tmp_path_factory.mktemp("demo") / "out"
    done = subprocess.run(
        [*DEMO, "--json", "--keep", "--out", out],
        capture_output=True,
        text=True,
        check=False,
    )
    answer = json.loads(done.stdout or "{}")
    assert answer.get("ok"), f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    yield answer["result"]
    subprocess.run(["sh", "-c", answer["result"]["kept"]["stop"]], check=True)
    pids = answer["result"]["kept"]["pids"].values()
    until_s = time.monotonic() + 20
    while any(map(is_there, pids)) and time.monotonic() < until_s:
        time.sleep(0.1)
    assert not any(map(is_there, pids))


def is_there(pid: int) -> bool:
    """Whether a process still runs; one that nobody waits for has ended as well."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text("utf-8")
    except OSError:
        return False


def test_no_request_is_lost(shown: dict[str, Any]) -> None:
    """The swap, the refusals and the cure cost none; the naive swap costs some."""
    assert shown["requests_total"] >= 2000
    assert shown["requests_failed"] == shown["answers_wrong"] == 0
    assert shown["naive_failed"] > 0
    assert shown["swap"]["disagreement"] >= 0.01
    assert len(shown["swap"]["both"]) == 3


def test_every_bad_release_is_refused_for_its_own_reason(
    shown: dict[str, Any],
) -> None:
    """Five reasons; the latency is measured against what is allowed."""
    refused = {one["reason"]: one for one in shown["refused"]}
    assert set(refused) == {"golden", "latency", "corrupt", "untrusted", "replayed"}
    slow = refused["latency"]
    assert slow["measured"] > slow["allowed"] > 0
    assert slow["gateway"] == "gateway-3"
    assert "2 updated" in slow["rollout"]
    assert shown["killed_converged"] is True


def test_the_fleet_heals_itself(shown: dict[str, Any]) -> None:
    """At most 100 samples bring back most of what the fog took, by a small delta."""
    field = shown["accuracy_field"]
    assert field["drifted"] < field["before"] - 0.1
    assert field["after"] > field["drifted"] + 0.1
    assert 0 < shown["drift_found_after"] < 200
    assert 0 < shown["samples_sent"] <= 100
    assert shown["delta_bytes"] < 0.2 * shown["full_bytes"]


def test_the_workbench_keeps_its_promise(shown: dict[str, Any]) -> None:
    """Plain INT8 breaks the OCR net; the measured choice does not."""
    assert shown["text_plain_per_tensor"] < 0.2
    assert shown["text_int8"] >= shown["text_fp32"] - 0.05
    assert shown["accuracy_int8"] >= shown["accuracy_fp32"] - 0.01
    assert shown["size_int8_bytes"] < 0.4 * shown["size_fp32_bytes"]


def test_the_page_stands_alone(shown: dict[str, Any]) -> None:
    """It has the day's charts, and asks for nothing from outside."""
    page = Path(shown["page"]).read_text("utf-8")
    for words in ("One fleet, one bad day", "gateway-3", "the lens fogs", "<svg"):
        assert words in page
    assert "http://" not in page
    assert "<script" not in page


def test_what_is_kept_can_be_used(shown: dict[str, Any]) -> None:
    """An outside client asks a gateway, and rolls the spare release out."""
    import asyncio

    import numpy as np

    from skerry.app.demo.digits import read_digits, split_digits

    kept = shown["kept"]
    pictures = deal_out(split_digits(read_digits()), np.random.default_rng(0))

    token = json.loads(Path(kept["credentials"]).read_text("utf-8"))["token"]

    async def case() -> None:
        client = Client(
            kept["gateways"]["gateway-2"], model=Workshop.NAME, output=OUTPUT
        )
        answer = await client.infer("picture", pictures.clear.pictures[:1])
        assert answer.release == kept["running"]
        async with HubApi(kept["hub"], token) as api:
            rollout = await api.create_rollout(ReleaseId.parse(kept["spare"]))
            async with asyncio.timeout(60):
                while rollout.state is RolloutState.RUNNING:
                    await asyncio.sleep(0.2)
                    rollout = await api.rollout(rollout.id)
        assert rollout.state is RolloutState.SUCCEEDED
        answer = await client.infer("picture", pictures.clear.pictures[:1])
        assert answer.release == kept["spare"]
        client.close()

    asyncio.run(case())


def test_a_kept_fleet_is_not_trodden_on(shown: dict[str, Any]) -> None:
    """A second demo in the same folder says so before it does any work."""
    done = subprocess.run(
        [*DEMO, "--json", "--out", Path(shown["page"]).parent],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    failure = json.loads(done.stdout)["error"]
    assert "still runs" in failure["what"]
    assert failure["hint"] == f"Stop it: {shown['kept']['stop']}"


def test_ctrl_c_leaves_nobody_behind(tmp_path: Path) -> None:
    """Interrupted as soon as the hub is up, it stops the hub."""
    demo = subprocess.Popen(
        [sys.executable, "-m", "tests.system.interrupted", tmp_path],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    told, until_s = tmp_path / "fleet" / "hub" / "hub.json", time.monotonic() + 60
    while not told.exists() and time.monotonic() < until_s:
        time.sleep(0.05)
    pid = json.loads(told.read_text("utf-8"))["pid"]
    assert is_there(pid)
    os.kill(demo.pid, signal.SIGTERM)
    assert demo.wait(30) != 0
    assert not is_there(pid)
