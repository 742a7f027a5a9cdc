from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skerry.core.clock import SystemClock
from skerry.core.errors import BusyError, UsageError
from skerry.edge.engine import Engine, SwapFigures
from skerry.edge.installed import Installed
from skerry.edge.protocol.http import App, make_http
from skerry.edge.protocol.regions import Regions
from skerry.edge.protocol.repository import SlotRepository
from skerry.edge.protocol.routes import find_route
from skerry.edge.protocol.service import InferenceService, retry_after_s
from tests.serving import (
    Response,
    ScriptedRuntime,
    X,
    ask,
    binary_body,
    install,
    json_body,
)

INFER = "/v2/models/meter/infer"


class Shelf:
    """Releases that may be loaded."""

    def __init__(self, *releases: Installed) -> None:
        self.releases = {installed.id.name: installed for installed in releases}

    def index(self) -> tuple[Installed, ...]:
        return tuple(self.releases.values())

    def find(self, name: str, version: int | None = None) -> Installed:
        del version
        if name not in self.releases:
            raise UsageError(f"no {name!r} lies here", hint="Ask for another.")
        return self.releases[name]


def _serve(
    folder: Path,
    story: Callable[[App, InferenceService], Awaitable[None]],
    **settings: Any,
) -> None:
    runtime = ScriptedRuntime()
    engine = Engine(clock=SystemClock(), runtimes=lambda _: runtime)
    engine.switch(engine.prepare(install(folder, gain=2)))
    service = InferenceService(engine, **settings)

    async def whole() -> None:
        await story(make_http(service), service)
        engine.close()

    asyncio.run(whole())


def _states(answer: Response) -> dict[str, str]:
    return {entry["name"]: entry["state"] for entry in answer.json}


def test_models_are_loaded_and_unloaded(tmp_path: Path) -> None:
    """What is refused leaves what serves alone."""
    good = install(tmp_path, 2, name="gain", gain=5)
    bad = install(tmp_path, name="bad", refuse="load")

    async def story(app: App, _: InferenceService) -> None:
        index = await ask(app, "POST", "/v2/repository/index")
        assert _states(index) == {
            "meter": "READY",
            "gain": "UNAVAILABLE",
            "bad": "UNAVAILABLE",
        }
        load = "/v2/repository/models/gain/load"
        assert (await ask(app, "POST", load)).status == 200
        ready = await ask(app, "POST", "/v2/repository/index", b'{"ready": true}')
        assert _states(ready) == {"meter": "READY", "gain": "READY"}
        got = await ask(app, "POST", "/v2/models/gain/infer", json_body())
        assert got.json["outputs"][0]["data"] == (X * 5).ravel().tolist()
        unload = "/v2/repository/models/gain/unload"
        assert (await ask(app, "POST", unload, b'{"parameters": {}}')).status == 200
        assert (await ask(app, "POST", unload)).status == 404
        refused = await ask(app, "POST", "/v2/repository/models/bad/load")
        assert (refused.status, refused.json["code"]) == (422, "RefusedError")
        configured = b'{"parameters": {"config": "{}"}}'
        assert (await ask(app, "POST", load, configured)).status == 400
        assert (await ask(app, "POST", load, b"[")).status == 400

    _serve(tmp_path, story, repository=Shelf(good, bad))


def test_what_is_loaded_in_anothers_place_is_on_probation(tmp_path: Path) -> None:
    """The one before it stands behind it meanwhile; once is enough."""
    new = install(tmp_path, 2, gain=5)

    async def story(app: App, service: InferenceService) -> None:
        load = "/v2/repository/models/meter/load"
        assert (await ask(app, "POST", load)).status == 200
        model = (await ask(app, "GET", "/v2/models/meter")).json
        assert model["versions"] == ["2", "1"]
        await asyncio.gather(*service._watching)
        model = (await ask(app, "GET", "/v2/models/meter")).json
        assert model["versions"] == ["2"]
        assert (await ask(app, "POST", load)).status == 200
        assert not service._watching
        shown = (await ask(app, "GET", "/metrics")).body.decode()
        assert 'skerry_model_swaps{model="meter"} 2' in shown

    _serve(tmp_path, story, repository=Shelf(new), probation_s=0.1)


def test_a_session_that_tells_of_itself_is_in_the_metrics(tmp_path: Path) -> None:
    """Such as a worker's restarts."""

    async def story(app: App, service: InferenceService) -> None:
        loaded = service._engine._pick(service._engine._place("meter"), None)
        loaded._session.figures = lambda: SwapFigures(swaps=3, roll_backs=1)  # type: ignore[attr-defined]
        shown = (await ask(app, "GET", "/metrics")).body.decode()
        assert 'skerry_session_swaps{model="meter",version="1"} 3' in shown

    _serve(tmp_path, story)


def test_one_load_at_a_time(tmp_path: Path) -> None:
    """The second is told that there is a conflict."""
    slow = install(tmp_path, name="slow", load_s=0.3)

    async def story(app: App, _: InferenceService) -> None:
        load = "/v2/repository/models/slow/load"
        got = await asyncio.gather(*(ask(app, "POST", load) for _ in range(2)))
        assert sorted(answer.status for answer in got) == [200, 409]

    _serve(tmp_path, story, repository=Shelf(slow))


def test_without_a_repository_there_is_none(tmp_path: Path) -> None:
    """Nor in the extensions that are told."""

    async def story(app: App, _: InferenceService) -> None:
        for path in ("index", "models/meter/load", "models/meter/unload"):
            got = await ask(app, "POST", f"/v2/repository/{path}")
            assert (got.status, "no repository" in got.json["error"]) == (404, True)
        extensions = (await ask(app, "GET", "/v2")).json["extensions"]
        assert not {"model_repository", "system_shared_memory"} & set(extensions)
        status = await ask(app, "GET", "/v2/systemsharedmemory/status")
        assert status.status == 404

    _serve(tmp_path, story)


def test_who_stops_turns_away(tmp_path: Path) -> None:
    """With 503 and when to come again; what is under way is answered."""

    async def story(app: App, service: InferenceService) -> None:
        service.stop()
        got = await ask(app, "POST", INFER, json_body())
        assert (got.status, got.headers["retry-after"]) == (503, "1")
        assert (await ask(app, "GET", "/v2/health/ready")).status == 503
        assert (await ask(app, "GET", "/v2/health/live")).status == 200

    _serve(tmp_path, story)


def test_configuration_and_statistics(tmp_path: Path) -> None:
    """As Triton's clients read them."""

    async def story(app: App, _: InferenceService) -> None:
        await ask(app, "POST", INFER, json_body())
        await ask(app, "POST", INFER, b"x")
        config = (await ask(app, "GET", "/v2/models/meter/versions/1/config")).json
        tensor = {"name": "x", "data_type": "TYPE_FP32", "dims": [-1, 4]}
        assert config["input"] == [tensor]
        for path in ("meter/stats", "meter/versions/1/stats", "stats"):
            (told,) = (await ask(app, "GET", f"/v2/models/{path}")).json["model_stats"]
            assert told["inference_stats"]["success"]["count"] == 1
            assert told["inference_stats"]["fail"]["count"] == 1
            assert told["last_inference"] > 0
        assert (await ask(app, "GET", "/v2/models/other/stats")).status == 404

    _serve(tmp_path, story)


@pytest.mark.parametrize(("encoding", "bits"), [("gzip", 31), ("deflate", 15)])
def test_bodies_are_packed_both_ways(encoding: str, bits: int, tmp_path: Path) -> None:
    """The answer only for a client that accepts nothing else."""

    async def story(app: App, service: InferenceService) -> None:
        body, headers = binary_body(binary_data_output=True)
        packer = zlib.compressobj(wbits=bits)
        packed = packer.compress(body) + packer.flush()
        headers["content-encoding"] = encoding
        got = await ask(app, "POST", INFER, packed, headers, pieces=3)
        assert "content-encoding" not in got.headers
        headers["accept-encoding"] = encoding
        got = await ask(app, "POST", INFER, packed, headers)
        assert got.headers["content-encoding"] == encoding
        plain = zlib.decompress(got.body, wbits=bits)
        head_bytes = int(got.headers["inference-header-content-length"])
        y = np.frombuffer(plain[head_bytes:], np.float32)
        assert y.tolist() == (X * 2).ravel().tolist()
        headers["accept-encoding"] = "gzip, deflate, br"
        got = await ask(app, "POST", INFER, packed, headers)
        assert "content-encoding" not in got.headers
        for broken in (packed[:-9], b"x" * 30):
            assert (await ask(app, "POST", INFER, broken, headers)).status == 400
        assert service._held_bytes == 0

    _serve(tmp_path, story)


def test_a_body_cannot_unpack_to_more_than_may_be_sent(tmp_path: Path) -> None:
    """However small it comes."""

    async def story(app: App, service: InferenceService) -> None:
        bomb = zlib.compress(bytes(1 << 20), level=9)
        headers = {"content-encoding": "deflate"}
        got = await ask(app, "POST", INFER, bomb, headers)
        assert (got.status, "unpacks to more than 4096" in got.json["error"]) == (
            400,
            True,
        )
        assert service._held_bytes == 0

    _serve(tmp_path, story, largest_body_bytes=4096)


@pytest.mark.parametrize(
    ("given", "status"), [("5", 200), ("-3", 200), ("x", 400), ("999", 400), ("", 400)]
)
def test_a_priority_may_come_in_the_head(
    given: str, status: int, tmp_path: Path
) -> None:
    """A whole number of a known range."""

    async def story(app: App, _: InferenceService) -> None:
        headers = {"skerry-priority": given}
        assert (await ask(app, "POST", INFER, json_body(), headers)).status == status

    _serve(tmp_path, story)


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"priority": 0}, 0),
        ({"priority": 1}, 1),
        ({"priority": 2}, 0),
        ({"priority": 7}, -1),
    ],
)
def test_tritons_levels_are_ours(parameters: Any, expected: int) -> None:
    """Its lower level goes first, our higher one."""
    from skerry.edge.protocol.tensors import to_priority

    assert to_priority(parameters["priority"]) == expected


def test_tritons_timeout_is_in_microseconds(tmp_path: Path) -> None:
    """And 0 is none."""

    async def story(app: App, _: InferenceService) -> None:
        for timeout, status in ((1, 504), (0, 200), (9_000_000, 200), (-1, 400)):
            body = json_body(parameters={"timeout": timeout})
            assert (await ask(app, "POST", INFER, body)).status == status

    _serve(tmp_path, story)


def test_shared_memory_is_for_this_machine_only(tmp_path: Path) -> None:
    """A client elsewhere may name none."""
    (tmp_path / "k").write_bytes(X.tobytes())

    async def story(app: App, _: InferenceService) -> None:
        body = json.dumps({"key": "/k", "offset": 0, "byte_size": X.nbytes}).encode()
        register = "/v2/systemsharedmemory/region/r/register"
        place = {"shared_memory_region": "r", "shared_memory_byte_size": X.nbytes}
        tensor = {"name": "x", "datatype": "FP32", "shape": X.shape}
        asked = json.dumps({"inputs": [{**tensor, "parameters": place}]}).encode()
        assert (await _from("192.0.2.1", app, register, body)) == 404
        assert (await _from("127.0.0.1", app, register, body)) == 200
        assert (await _from("192.0.2.1", app, INFER, asked)) == 400
        assert (await _from("127.0.0.1", app, INFER, asked)) == 200
        assert (await _from("::1", app, INFER, asked)) == 200
        assert (await _from("no address", app, INFER, asked)) == 400

    _serve(tmp_path, story, regions=Regions(folder=tmp_path))


async def _from(host: str, app: App, path: str, body: bytes) -> int:
    async def placed(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "client": (host, 1)}, receive, send)

    return (await ask(placed, "POST", path, body)).status


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/v2/models/stats", "statistics"),
        ("/v2/models/stats/infer", "infer"),
        ("/v2/models/versions", "model"),
        ("/v2/models/m/versions/3/config", "model_config"),
        ("/v2/models/m/predict", "predict"),
        ("/v2/systemsharedmemory/status", "region_status"),
        ("/v2/systemsharedmemory/unregister", "region_unregister"),
        ("/v2/systemsharedmemory/region/r/status", "region_status"),
        ("/v2/cudasharedmemory/region/r/register", "cuda_region_register"),
        ("/v2/systemsharedmemory/register", None),
        ("/v2/systemsharedmemory/region//status", None),
        ("/v2/repository", None),
        ("/v2/repository/models//load", None),
        ("/v2/models//infer", None),
        ("/v2/models/m/versions", None),
        ("/v2/models/m/stats/x", None),
        ("/metrics", "metrics"),
        ("/metrics/x", None),
    ],
)
def test_a_path_asks_for_one_thing(path: str, kind: str | None) -> None:
    """Or for nothing at all."""
    route = find_route(path)
    assert (route.kind if route else None) == kind


def test_when_to_come_again() -> None:
    """Whole seconds, at least one; never for what will not get better."""
    busy = BusyError("busy", hint="Wait.", retry_after_s=2.6)
    assert retry_after_s(busy) == 3
    assert retry_after_s(BusyError("busy", hint="Wait.")) == 1
    assert retry_after_s(UsageError("wrong", hint="Mend it.")) is None


class _Slots:
    """A gateway's, with one release."""

    def __init__(self, installed: Installed) -> None:
        self._installed = installed

    def names(self) -> tuple[str, ...]:
        return ("meter", "empty")

    def active(self, name: str) -> Installed | None:
        return self._installed if name == "meter" else None


def test_of_a_gateways_slots_only_the_active_release_is_offered(tmp_path: Path) -> None:
    """Which one that is, the hub and the agent decide."""
    installed = install(tmp_path, 2)
    repository = SlotRepository(_Slots(installed))  # type: ignore[arg-type]
    assert repository.index() == (installed,)
    assert repository.find("meter") is installed
    assert repository.find("meter", 2) is installed
    for name, version in (("meter", 1), ("empty", None), ("other", None)):
        with pytest.raises(UsageError):
            repository.find(name, version)
