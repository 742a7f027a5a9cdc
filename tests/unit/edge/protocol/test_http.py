from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skerry import __version__
from skerry.core.clock import SystemClock
from skerry.edge.engine import Engine
from skerry.edge.protocol.http import App, make_app
from tests.serving import ScriptedRuntime, X, ask, binary_body, install, json_body

INFER = "/v2/models/meter/infer"


def _serve(
    folder: Path,
    story: Callable[[App, Engine], Awaitable[None]],
    *,
    max_waiting: int = 64,
    gain: int = 2,
    run_s: float = 0,
    **settings: Any,
) -> None:
    runtime = ScriptedRuntime()
    engine = Engine(
        clock=SystemClock(), runtimes=lambda _: runtime, max_waiting=max_waiting
    )
    engine.switch(engine.prepare(install(folder, gain=gain, run_s=run_s)))

    async def whole() -> None:
        try:
            await story(make_app(engine, **settings), engine)
        finally:
            engine.close()

    asyncio.run(whole())


def test_the_service_and_its_models_describe_themselves(tmp_path: Path) -> None:
    """A client learns from it all that it needs to ask."""

    async def story(app: App, engine: Engine) -> None:
        server = (await ask(app, "GET", "/v2")).json
        assert (server["name"], server["version"]) == ("skerry", __version__)
        assert "binary_tensor_data" in server["extensions"]
        assert server["parameters"] == {"device": "g1"}
        model = (await ask(app, "GET", "/v2/models/meter")).json
        active = engine.active("meter")
        assert active is not None
        assert model == {
            "name": "meter",
            "model_version": "1",
            "versions": ["1"],
            "platform": "null",
            "parameters": {"release": "meter/1", "blob": active.model.blob.sha256},
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
            "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 4]}],
        }
        for path in ("/v2/models/meter/ready", "/v2/models/meter/versions/1/ready"):
            assert (await ask(app, "GET", path)).json["ready"] is True

    _serve(tmp_path, story, facts=lambda: {"device": "g1"})


def test_ready_means_that_something_is_loaded(tmp_path: Path) -> None:
    """Alive it is always."""

    async def story(app: App, engine: Engine) -> None:
        assert (await ask(app, "GET", "/v2/health/ready")).status == 200
        engine.remove("meter")
        ready = await ask(app, "GET", "/v2/health/ready")
        assert (ready.status, ready.json) == (503, {"ready": False})
        assert (await ask(app, "GET", "/v2/health/live")).json == {"live": True}
        assert (await ask(app, "POST", INFER, json_body())).status == 404

    _serve(tmp_path, story)


@pytest.mark.parametrize("pieces", [1, 7])
def test_json_in_gives_json_out(pieces: int, tmp_path: Path) -> None:
    """The answer names release and blob, and carries the client's id."""

    async def story(app: App, engine: Engine) -> None:
        got = await ask(app, "POST", INFER, json_body(id="a7"), pieces=pieces)
        assert got.status == 200
        assert got.headers["content-type"] == "application/json"
        assert got.headers["content-length"] == str(len(got.body))
        active = engine.active("meter")
        assert active is not None
        blob = active.model.blob.sha256
        assert got.json == {
            "model_name": "meter",
            "model_version": "1",
            "id": "a7",
            "parameters": {"release": "meter/1", "blob": blob},
            "outputs": [
                {
                    "name": "y",
                    "datatype": "FP32",
                    "shape": [1, 4],
                    "data": [2, 4, 6, 8],
                }
            ],
        }

    _serve(tmp_path, story)


def test_binary_in_gives_what_is_asked_for(tmp_path: Path) -> None:
    """Bytes out where they are asked for, else JSON."""

    async def story(app: App, _: Engine) -> None:
        body, headers = binary_body()
        got = await ask(app, "POST", INFER, body, headers)
        assert got.json["outputs"][0]["data"] == [2, 4, 6, 8]
        body, headers = binary_body(binary_data_output=True)
        got = await ask(app, "POST", INFER, body, headers, pieces=3)
        assert got.headers["content-type"] == "application/octet-stream"
        head_bytes = int(got.headers["inference-header-content-length"])
        assert got.json["outputs"][0]["parameters"] == {"binary_data_size": 16}
        y = np.frombuffer(got.body[head_bytes:], np.float32)
        assert y.tolist() == [2, 4, 6, 8]

    _serve(tmp_path, story)


@pytest.mark.parametrize("encoding", ["", "gzip"])
def test_a_large_answer_is_the_same_as_a_small_one(
    tmp_path: Path, encoding: str
) -> None:
    """Its tensors are sent after the JSON, packed where that is asked for."""
    x = np.arange(80_000, dtype=np.float32).reshape(-1, 4)

    async def story(app: App, _: Engine) -> None:
        body, headers = binary_body(x, binary_data_output=True)
        if encoding:
            headers["accept-encoding"] = encoding
        got = await ask(app, "POST", INFER, body, headers)
        assert int(got.headers["content-length"]) == len(got.body)
        whole = gzip.decompress(got.body) if encoding else got.body
        head_bytes = int(got.headers["inference-header-content-length"])
        y = np.frombuffer(whole[head_bytes:], np.float32).reshape(x.shape)
        np.testing.assert_array_equal(y, x * 2)

    _serve(tmp_path, story)


def test_a_request_may_pin_a_version(tmp_path: Path) -> None:
    """That of the active release and of the fallback; no other."""

    async def story(app: App, engine: Engine) -> None:
        engine.switch(engine.prepare(install(tmp_path, 2, gain=3)))
        for version, gain in ((1, 2), (2, 3)):
            path = f"/v2/models/meter/versions/{version}/infer"
            got = (await ask(app, "POST", path, json_body())).json
            assert got["model_version"] == str(version)
            assert got["outputs"][0]["data"] == (X * gain).ravel().tolist()
        model = (await ask(app, "GET", "/v2/models/meter")).json
        assert model["versions"] == ["2", "1"]
        engine.settle("meter")
        for version in ("1", "3", "0", "x", "-1", "9" * 5000):
            path = f"/v2/models/meter/versions/{version}/infer"
            assert (await ask(app, "POST", path, json_body())).status == 404

    _serve(tmp_path, story)


@pytest.mark.parametrize(
    ("method", "path", "status", "what"),
    [
        ("GET", "/", 404, "no such path"),
        ("GET", "/v1/models/meter", 404, "no such path"),
        ("GET", "/v2/models/meter/versions", 404, "no such path"),
        ("GET", "/v2/models/meter/x", 404, "no such path"),
        ("GET", "/v2/models/other", 404, "under the name 'other'"),
        ("GET", "/v2/models/../ready", 404, "under the name '..'"),
        ("POST", "/v2/models/other/infer", 404, "under the name 'other'"),
        ("GET", INFER, 405, "the method is GET, expected POST"),
        ("HEAD", INFER, 405, ""),
        ("POST", "/v2", 405, "expected GET, HEAD"),
        ("DELETE", "/v2/models/meter", 405, "expected GET, HEAD"),
        ("POST", INFER, 400, "not a request"),
    ],
)
def test_what_is_not_there_is_said_so(
    method: str, path: str, status: int, what: str, tmp_path: Path
) -> None:
    """Each with the protocol's error object."""

    async def story(app: App, _: Engine) -> None:
        got = await ask(app, method, path)
        assert got.status == status
        assert ("allow" in got.headers) == (status == 405)
        if what:
            assert what in got.json["error"]
            assert got.json["hint"]

    _serve(tmp_path, story)


def test_head_is_get_without_the_body(tmp_path: Path) -> None:
    """The length is that which GET would send."""

    async def story(app: App, _: Engine) -> None:
        whole = await ask(app, "GET", "/v2/models/meter")
        head = await ask(app, "HEAD", "/v2/models/meter")
        assert (head.status, head.body) == (200, b"")
        assert head.headers == whole.headers

    _serve(tmp_path, story)


@pytest.mark.parametrize(
    ("given", "status"),
    [
        (None, 401),
        ("Bearer wrong", 401),
        ("Basic sesame", 401),
        ("sesame", 401),
        ("Bearer \xff", 401),
        ("Bearer sesame", 200),
        ("bearer  sesame ", 200),
    ],
)
def test_a_token_keeps_strangers_out(
    given: str | None, status: int, tmp_path: Path
) -> None:
    """Of everything but whether the process is alive."""

    async def story(app: App, _: Engine) -> None:
        headers = {"authorization": given} if given is not None else {}
        for method, path in (("POST", INFER), ("GET", "/v2"), ("GET", "/v2/models/x")):
            got = await ask(app, method, path, json_body(), headers)
            assert got.status in ({401} if status == 401 else {200, 404})
            if status == 401:
                assert got.headers["www-authenticate"] == "Bearer"
                assert "sesame" not in got.body.decode()
        assert (await ask(app, "GET", "/v2/health/live", b"", headers)).status == 200
        ready = await ask(app, "GET", "/v2/health/ready", b"", headers)
        assert ready.status == status

    _serve(tmp_path, story, token="sesame")  # noqa: S106 (a test's token)


def test_a_body_is_bounded(tmp_path: Path) -> None:
    """By what it promises, and by what comes."""

    async def story(app: App, _: Engine) -> None:
        for headers in ({"content-length": "99999999999999999999999"}, {}):
            got = await ask(app, "POST", INFER, bytes(2000), headers, pieces=20)
            assert got.status == 413
            assert "expected at most 1000" in got.json["error"]
            assert got.headers["connection"] == "close"

    _serve(tmp_path, story, largest_body_bytes=1000)


def test_a_body_that_does_not_come_is_not_waited_for(tmp_path: Path) -> None:
    """A client that stalls is told so; one that leaves is told nothing."""

    async def story(app: App, _: Engine) -> None:
        got = await ask(app, "POST", INFER, json_body(), pieces=3, is_stuck=True)
        assert got.status == 408
        got = await ask(app, "POST", INFER, json_body(), pieces=3, is_cut=True)
        assert got.status == 0

    _serve(tmp_path, story, timeout_s=0.05)


def test_a_packed_body_is_refused(tmp_path: Path) -> None:
    """Nothing is unpacked here, so nothing can unpack to more than memory."""

    async def story(app: App, _: Engine) -> None:
        headers = {"content-encoding": "gzip"}
        got = await ask(app, "POST", INFER, json_body(), headers)
        assert (got.status, "gzip" in got.json["error"]) == (400, True)

    _serve(tmp_path, story)


def test_a_deadline_may_come_with_the_request(tmp_path: Path) -> None:
    """As a parameter or as a header; the parameter goes first."""

    async def story(app: App, _: Engine) -> None:
        quick = json_body(parameters={"timeout_ms": 20})
        patient = json_body(parameters={"timeout_ms": 9000.5})
        header = {"skerry-timeout-ms": "20"}
        assert (await ask(app, "POST", INFER, quick)).status == 504
        assert (await ask(app, "POST", INFER, json_body(), header)).status == 504
        assert (await ask(app, "POST", INFER, patient, header)).status == 200

    _serve(tmp_path, story, run_s=0.08)


@pytest.mark.parametrize("timeout_ms", ["0", "-1", "nan", "inf", "1e9", "soon", ""])
def test_a_deadline_that_makes_no_sense_is_refused(
    timeout_ms: str, tmp_path: Path
) -> None:
    """It is a fault of the request."""

    async def story(app: App, _: Engine) -> None:
        header = {"skerry-timeout-ms": timeout_ms}
        got = await ask(app, "POST", INFER, json_body(), header)
        assert (got.status, got.json["code"]) == (400, "DataError")

    _serve(tmp_path, story)


def test_too_many_requests_are_asked_to_come_again(tmp_path: Path) -> None:
    """With the time after which to."""

    async def story(app: App, _: Engine) -> None:
        asked = [ask(app, "POST", INFER, json_body()) for _ in range(4)]
        answers = await asyncio.gather(*asked)
        assert sorted(answer.status for answer in answers) == [200, 200, 429, 429]
        late = next(answer for answer in answers if answer.status == 429)
        assert late.headers["retry-after"] == "1"

    _serve(tmp_path, story, run_s=0.03, max_waiting=1)


def test_a_model_that_fails_tells_no_secrets(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The client reads one sentence; the log has the rest."""

    async def story(app: App, engine: Engine) -> None:
        loaded = engine._pick(engine._place("meter"), None)
        loaded._session._script = {"raise": "run"}  # type: ignore[attr-defined]
        got = await ask(app, "POST", INFER, json_body())
        assert (got.status, got.json["code"]) == (500, "RuntimeFailure")
        assert b"secret" not in got.body
        assert b"Traceback" not in got.body

    _serve(tmp_path, story)
    assert "secret" in caplog.text


def test_a_fault_of_ours_tells_no_secrets(tmp_path: Path) -> None:
    """Even what nobody foresaw is one sentence."""

    def broken() -> dict[str, object]:
        raise ZeroDivisionError("a secret")

    async def story(app: App, _: Engine) -> None:
        got = await ask(app, "GET", "/v2")
        assert got.status == 500
        assert got.json["error"] == "the gateway failed"

    _serve(tmp_path, story, facts=broken)


def test_the_server_may_start_and_stop_it(tmp_path: Path) -> None:
    """The lifespan is acknowledged, a web socket is turned away."""

    async def story(app: App, _: Engine) -> None:
        asked = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
        told: list[str] = []

        async def receive() -> Any:
            return asked.pop(0)

        async def send(message: Any) -> None:
            told.append(message["type"])

        await app({"type": "lifespan"}, receive, send)
        await app({"type": "websocket"}, receive, send)
        assert told == [
            "lifespan.startup.complete",
            "lifespan.shutdown.complete",
            "websocket.close",
        ]

    _serve(tmp_path, story)


def test_requests_are_swapped_over_without_a_failure(tmp_path: Path) -> None:
    """Over HTTP too: every answer is right for the release that it names."""

    async def story(app: App, engine: Engine) -> None:
        body, headers = binary_body(binary_data_output=False)
        seen: dict[str, int] = {}

        async def client() -> None:
            for _ in range(60):
                got = await ask(app, "POST", INFER, body, headers)
                assert got.status == 200
                gain = {"1": 2, "2": 3}[got.json["model_version"]]
                assert got.json["outputs"][0]["data"] == (X * gain).ravel().tolist()
                release = got.json["parameters"]["release"]
                seen[release] = seen.get(release, 0) + 1
                await asyncio.sleep(0.001)

        clients = [asyncio.create_task(client()) for _ in range(4)]
        new = install(tmp_path, 2, gain=3)
        engine.switch(await asyncio.to_thread(engine.prepare, new))
        await asyncio.gather(*clients)
        assert set(seen) == {"meter/1", "meter/2"}
        assert sum(seen.values()) == 240

    _serve(tmp_path, story)


def test_json_that_names_no_tensor_is_a_clients_fault(tmp_path: Path) -> None:
    """A wrong length of the JSON, too."""

    async def story(app: App, _: Engine) -> None:
        for length in ("x", "-1", "9" * 30, "99999"):
            headers = {"inference-header-content-length": length}
            got = await ask(app, "POST", INFER, json_body(), headers)
            assert got.status == 400
            assert json.loads(got.body)["hint"]

    _serve(tmp_path, story)


def test_bodies_together_are_bounded(tmp_path: Path) -> None:
    """Many large requests at once are turned away, not held until memory ends."""

    async def story(app: App, _: Engine) -> None:
        body = json_body()
        asked = [ask(app, "POST", INFER, body, pieces=3) for _ in range(12)]
        got = [reply.status for reply in await asyncio.gather(*asked)]
        assert set(got) == {200, 429}
        assert (await ask(app, "POST", INFER, body)).status == 200
        assert (await ask(app, "POST", INFER, body[:-1])).status == 400
        assert (await ask(app, "POST", INFER, body * 2)).status == 413
        assert (await ask(app, "POST", INFER, body)).status == 200
        assert app._service._held_bytes == 0  # type: ignore[attr-defined]

    _serve(tmp_path, story, run_s=0.05, largest_body_bytes=len(json_body()) + 5)
