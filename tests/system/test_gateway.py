from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient, InferInput

from skerry.app.publish.build import make_release
from skerry.core.release import Blob, Library, Manifest
from skerry.edge import LocalClient, sealed_folder
from skerry.graph import open_model
from skerry.runtimes.libraries import library_abi
from skerry.tasks.samples import MemorySource, Sample
from skerry.tasks.steps import TopK
from skerry.tasks.task import Task, TaskKind
from tests.mini_hub import MiniHub, until
from tests.operators import FOREIGN_LIBRARY, operator_library, operator_net
from tests.releases import NAME, SIZE

pytestmark = pytest.mark.system

DOWN, UP = "skerry/1/main/gw/down", "skerry/1/main/gw/up"
RUN = """
import asyncio, os, sys
from pathlib import Path
from skerry.core.errors import SkerryError
from skerry.edge.gateway import GatewaySettings, run_gateway
from skerry.edge.sealed_folder import find_key
folder, hub, token, probation_s, isolation = sys.argv[1:]
settings = GatewaySettings(
    folder=Path(folder), hub=hub, token=token or None, probation_s=float(probation_s),
    grpc_port=0, shared_memory=True, local=True,
    isolation=isolation, accept_unsigned=True,
    seal_key=find_key(None, os.environ, folder=Path(folder)),
)
try:
    asyncio.run(run_gateway(settings, ready=lambda address: print(address, flush=True)))
except SkerryError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
"""
REQUEST = {
    "inputs": [
        {"name": "x", "datatype": "FP32", "shape": [1, SIZE], "data": [0.0] * SIZE}
    ]
}


async def start(
    folder: Path,
    hub: str,
    token: str = "",
    *,
    probation_s: float = 0.2,
    isolation: str = "process",
    key: Path | None = None,
) -> asyncio.subprocess.Process:
    """Start a gateway."""
    names = ("PATH", "HOME", "PYTHONPATH")
    kept = {name: os.environ[name] for name in names if name in os.environ}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        RUN,
        str(folder),
        hub,
        token,
        str(probation_s),
        isolation,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**kept, **({"SKERRY_SEAL_KEY": str(key)} if key else {})},
    )


async def address_of(process: asyncio.subprocess.Process) -> str:
    """Where it serves, once it is ready."""
    assert process.stdout is not None
    async with asyncio.timeout(30):
        return (await process.stdout.readline()).decode().strip()


async def ask(address: str) -> tuple[int, str]:
    """Have one inference made."""
    async with httpx.AsyncClient(base_url=address, trust_env=False) as client:
        got = await client.post(f"/v2/models/{NAME}/infer", json=REQUEST)
        answer: dict[str, Any] = got.json()
        return got.status_code, answer.get("model_version", "")


async def fetch(address: str, path: str) -> Any:
    """Read what a gateway tells of itself."""
    async with httpx.AsyncClient(base_url=address, trust_env=False) as client:
        return (await client.get(path)).json()


def ask_otherwise(written: dict[str, str]) -> None:
    """Ask over gRPC and through shared memory."""
    x = np.zeros((1, SIZE), np.float32)
    with LocalClient(Path(written["local"])) as local:
        assert local.infer(NAME, {"x": x}).release == f"{NAME}/1"
    tensor = InferInput("x", list(x.shape), "FP32")
    tensor.set_data_from_numpy(x)
    with InferenceServerClient(written["grpc"]) as client:
        got = client.infer(NAME, [tensor])
        assert got.get_response().model_version == "1"
        (listed,) = client.get_model_repository_index().models
        assert (listed.name, listed.state) == (NAME, "READY")


def has_children(process: asyncio.subprocess.Process) -> bool:
    """Whether it runs models in processes of their own."""
    listed = Path(f"/proc/{process.pid}/task").glob("*/children")
    return any(children.read_text() for children in listed)


def test_a_gateway_from_enrolment_to_the_last_stop(tmp_path: Path) -> None:
    """It enrols, updates, survives a kill on probation, serves alone, and leaves."""

    async def run() -> None:
        hub, folder = MiniHub(tmp_path / "publisher"), tmp_path / "gw"
        async with hub.up():
            gateway = await start(folder, hub.address, hub.token)
            address = await address_of(gateway)
            written = json.loads((folder / "gateway.json").read_bytes())
            assert written["address"] == address
            assert written["pid"] == gateway.pid
            await hub.desire(1)
            await until(lambda: hub.runs(1))
            assert await ask(address) == (200, "1")
            assert hub.status is True
            await asyncio.to_thread(ask_otherwise, written)
            faces = (await fetch(address, "/v2"))["extensions"]
            assert {"system_shared_memory", "model_repository"} <= set(faces)
            assert has_children(gateway)

            second = await start(folder, hub.address)
            _, said = await second.communicate()
            assert second.returncode == 33
            assert b"another gateway runs" in said

            gateway.send_signal(signal.SIGTERM)
            assert await gateway.wait() == 0
            await until(lambda: hub.status is False)

            gateway = await start(folder, "", probation_s=60)
            await address_of(gateway)
            await hub.desire(2)
            await until(lambda: hub.runs(2, probation=True))
            gateway.kill()
            await gateway.wait()
            await until(lambda: hub.status is False)

            gateway = await start(folder, "")
            address = await address_of(gateway)
            await until(lambda: hub.runs(2))
            gateway.kill()
            await gateway.wait()

        alone = await start(folder, "", isolation="thread")
        assert await ask(await address_of(alone)) == (200, "2")
        assert not has_children(alone)
        alone.send_signal(signal.SIGINT)
        assert await alone.wait() == 0

    asyncio.run(run())


def operator_release(
    folder: Path, version: int, library: Path | None
) -> tuple[Manifest, dict[str, bytes]]:
    """A release of a model that inverts matrices, with an operator of its own."""
    path = folder / "inverse.onnx"
    path.write_bytes(operator_net())
    sample = Sample(inputs={"x": np.eye(2, dtype=np.float32)}, label=0, name="eye")
    manifest, blobs = make_release(
        NAME,
        version,
        open_model(path),
        Task(
            kind=TaskKind.CLASSIFICATION,
            metric="top1",
            labels=("a", "b"),
            post=(TopK(k=1),),
            golden_tolerance=0.01,
        ),
        MemorySource(samples=(sample,)),
        golden_from=open_model(path),
        libraries=(operator_library(),),
    )
    (own,) = manifest.models
    if library is None:
        return replace(manifest, models=(replace(own, libraries=()),)), blobs
    blob, content = Blob.of(library.read_bytes()), library.read_bytes()
    shipped = Library(abi=library_abi(content), blob=blob)
    released = replace(manifest, models=(replace(own, libraries=(shipped,)),))
    return released, {**blobs, blob.sha256: content}


async def invert(address: str) -> list[float]:
    """Have a matrix inverted."""
    given = {"name": "x", "datatype": "FP32", "shape": [2, 2], "data": [2, 0, 0, 4]}
    async with httpx.AsyncClient(base_url=address, trust_env=False) as client:
        got = await client.post(f"/v2/models/{NAME}/infer", json={"inputs": [given]})
        (output,) = got.json()["outputs"]
        return list(output["data"])


def test_a_model_with_an_operator_of_its_own(tmp_path: Path) -> None:
    """Refused without its library or with another machine's; with it, it serves."""
    foreign = tmp_path / "foreign.so"
    foreign.write_bytes(FOREIGN_LIBRARY)

    async def run() -> None:
        hub, folder = MiniHub(tmp_path / "publisher"), tmp_path / "gw"

        def refusal() -> Mapping[str, Any]:
            return hub.reported.get("refused", {}).get(NAME) or {}

        async with hub.up():
            gateway = await start(folder, hub.address, hub.token)
            address = await address_of(gateway)
            for version, library, reason, says in (
                (1, None, "load", "Inverse"),
                (2, foreign, "unfit", "has for linux-riscv64, not for"),
            ):
                release = operator_release(tmp_path, version, library)
                await hub.desire_release(*release)
                await until(lambda: refusal().get("reason") == reason)  # noqa: B023
                assert says in refusal()["what"]
            await hub.desire_release(*operator_release(tmp_path, 3, operator_library()))
            await until(lambda: hub.runs(3))
            assert await invert(address) == [0.5, 0, 0, 0.25]
            gateway.kill()
            await gateway.wait()

        alone = await start(folder, "")
        assert await invert(await address_of(alone)) == [0.5, 0, 0, 0.25]
        alone.send_signal(signal.SIGINT)
        assert await alone.wait() == 0

    asyncio.run(run())


def test_a_gateway_that_was_never_enrolled(tmp_path: Path) -> None:
    """It says what it needs and ends with the code of a usage error."""

    async def run() -> None:
        gateway = await start(tmp_path, "")
        _, said = await gateway.communicate()
        assert gateway.returncode == 2
        assert b"no gateway has been enrolled" in said

    asyncio.run(run())


def lies(folder: Path) -> dict[Path, bytes]:
    """What lies in a gateway's folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder): path.read_bytes() for path in files}


async def refusal_to_start(folder: Path, key: Path | None) -> str:
    """What a gateway says that does not believe its folder, which it leaves alone."""
    before = lies(folder)
    gateway = await start(folder, "", key=key)
    _, said = await gateway.communicate()
    assert gateway.returncode == 51
    assert lies(folder) == before
    return said.decode()


def workers_of(process: asyncio.subprocess.Process) -> list[int]:
    """The processes that a gateway's spare has made."""
    found = []
    for children in Path(f"/proc/{process.pid}/task").glob("*/children"):
        for spare in children.read_text().split():
            made = Path(f"/proc/{spare}/task/{spare}/children").read_text()
            found += [int(pid) for pid in made.split()]
    return found


def test_a_sealed_gateway(tmp_path: Path) -> None:
    """Nothing of a model or a secret can be read on its disk, and it serves as ever."""
    folder, key, other = tmp_path / "gw", tmp_path / "gw.key", tmp_path / "other.key"
    for path in (key, other):
        sealed_folder.make_key(path, folder=folder)
    library = operator_library()

    async def run() -> None:
        hub = MiniHub(tmp_path / "publisher")
        async with hub.up():
            gateway = await start(folder, hub.address, hub.token, key=key)
            address = await address_of(gateway)
            secrets = [b"api_token", hub.publisher.root[:80]]
            for version in (1, 2):
                release = operator_release(tmp_path, version, library)
                secrets += [blob[-200:] for blob in release[1].values()]
                await hub.desire_release(*release)
                await until(lambda: hub.runs(version))  # noqa: B023
            assert await invert(address) == [0.5, 0, 0, 0.25]
            assert hub.reported["agent"]["sealed"] == "file"
            for path, content in lies(folder).items():
                assert not any(secret in content for secret in secrets), path

            (worker,) = workers_of(gateway)
            os.kill(worker, signal.SIGKILL)
            await until(lambda: workers_of(gateway) not in ([], [worker]))
            assert await invert(address) == [0.5, 0, 0, 0.25]
            gateway.kill()
            await gateway.wait()

    async def alone(version: str) -> None:
        gateway = await start(folder, "", key=key)
        address = await address_of(gateway)
        assert await invert(address) == [0.5, 0, 0, 0.25]
        described = await fetch(address, f"/v2/models/{NAME}")
        assert described["versions"] == [version]
        gateway.send_signal(signal.SIGINT)
        assert await gateway.wait() == 0

    asyncio.run(run())
    assert "not with the key that is given" in asyncio.run(
        refusal_to_start(folder, other)
    )
    assert "the key is not here" in asyncio.run(refusal_to_start(folder, None))
    asyncio.run(alone("2"))
    model = folder / "slots" / NAME / "b" / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1] + b"?")
    asyncio.run(alone("1"))
