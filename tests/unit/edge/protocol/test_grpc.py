from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc import aio
from tritonclient.grpc import service_pb2 as m

from skerry.core.clock import SystemClock
from skerry.core.errors import StateError
from skerry.edge.engine import Engine
from skerry.edge.protocol.grpc import serve_grpc
from skerry.edge.protocol.service import InferenceService
from tests.serving import ScriptedRuntime, X, install

Ask = Callable[..., Awaitable[Any]]


def _serve(
    folder: Path,
    story: Callable[[Ask, Engine], Awaitable[None]],
    *,
    script: dict[str, Any] | None = None,
    **settings: Any,
) -> None:
    runtime = ScriptedRuntime()
    engine = Engine(clock=SystemClock(), runtimes=lambda _: runtime, max_waiting=0)
    engine.switch(engine.prepare(install(folder, gain=2, **(script or {}))))

    async def whole() -> None:
        service = InferenceService(engine, **settings)
        async with serve_grpc(service) as address, aio.insecure_channel(address) as to:

            async def ask(name: str, request: Any, **how: Any) -> Any:
                method = to.unary_unary(
                    f"/inference.GRPCInferenceService/{name}",
                    request_serializer=lambda told: (
                        told if isinstance(told, bytes) else told.SerializeToString()
                    ),
                )
                told = await method(request, timeout=how.pop("timeout", 30), **how)
                kind = getattr(m, f"{name}Response", None)
                return kind.FromString(told) if kind else told

            await story(ask, engine)
        engine.close()

    asyncio.run(whole())


def _request(x: Any = X, *, raw: bool = True, **fields: Any) -> Any:
    told = m.ModelInferRequest(**{"model_name": "meter", **fields})
    tensor = told.inputs.add(name="x", datatype="FP32", shape=x.shape)
    if raw:
        told.raw_input_contents.append(x.tobytes())
    else:
        tensor.contents.fp32_contents.extend(x.ravel().tolist())
    return told


async def _fails(asking: Awaitable[Any], code: str, what: str) -> aio.AioRpcError:
    with pytest.raises(aio.AioRpcError, match=what) as caught:
        await asking
    assert caught.value.code().name == code
    return caught.value


@pytest.mark.parametrize("raw", [True, False])
def test_bytes_or_numbers_in_give_bytes_out(raw: bool, tmp_path: Path) -> None:  # noqa: FBT001
    """The answer names the release."""

    async def story(ask: Ask, engine: Engine) -> None:
        got = await ask("ModelInfer", _request(raw=raw, id="7", model_version="1"))
        y = np.frombuffer(got.raw_output_contents[0], np.float32)
        assert y.tolist() == (X * 2).ravel().tolist()
        assert (got.id, got.model_version) == ("7", "1")
        active = engine.active("meter")
        assert active is not None
        assert got.parameters["blob"].string_param == active.model.blob.sha256
        assert list(got.outputs[0].shape) == [1, 4]

    _serve(tmp_path, story)


def test_each_fault_has_its_status(tmp_path: Path) -> None:
    """And no traceback."""

    async def story(ask: Ask, _: Engine) -> None:
        for request, code, what in (
            (_request(model_name="other"), "NOT_FOUND", "other"),
            (_request(model_version="x"), "NOT_FOUND", "version 0"),
            (_request(X[:, :2]), "INVALID_ARGUMENT", "shape"),
            (b"\xff", "INVALID_ARGUMENT", "cut off"),
            (m.ModelInferRequest(model_name="meter"), "INVALID_ARGUMENT", "missing"),
            (_request(np.ones((1,) * 17, np.float32)), "INVALID_ARGUMENT", "17 dim"),
        ):
            await _fails(ask("ModelInfer", request), code, what)
        twice = _request()
        twice.raw_input_contents.append(b"more")
        await _fails(ask("ModelInfer", twice), "INVALID_ARGUMENT", "belong to no")
        twice = _request()
        twice.inputs.append(twice.inputs[0])
        await _fails(ask("ModelInfer", twice), "INVALID_ARGUMENT", "given twice")
        few = _request(raw=False)
        few.inputs[0].contents.fp32_contents.pop()
        await _fails(ask("ModelInfer", few), "INVALID_ARGUMENT", "3 numbers")
        asked = _request()
        asked.outputs.add(name="z")
        await _fails(ask("ModelInfer", asked), "INVALID_ARGUMENT", "no output 'z'")
        asked.outputs[0].name = "y"
        asked.outputs[0].parameters["classification"].int64_param = 3
        await _fails(ask("ModelInfer", asked), "INVALID_ARGUMENT", "classes")
        odd = _request()
        odd.parameters["timeout"].string_param = "soon"
        await _fails(ask("ModelInfer", odd), "INVALID_ARGUMENT", "'soon'")
        shared = _request()
        shared.inputs[0].parameters["shared_memory_region"].string_param = "r"
        await _fails(ask("ModelInfer", shared), "INVALID_ARGUMENT", "not offered")
        named = m.SystemSharedMemoryStatusRequest()
        await _fails(ask("SystemSharedMemoryStatus", named), "NOT_FOUND", "not offered")
        index = m.RepositoryIndexRequest()
        await _fails(ask("RepositoryIndex", index), "NOT_FOUND", "no repository")

    _serve(tmp_path, story)


def test_deadlines_and_a_full_queue(tmp_path: Path) -> None:
    """The parameter's or the call's own; and when to come again."""

    async def story(ask: Ask, engine: Engine) -> None:
        async def running(n: int) -> None:
            while engine.figures("meter").running != n:  # noqa: ASYNC110 (it tells none)
                await asyncio.sleep(0.005)

        quick = _request()
        quick.parameters["timeout"].int64_param = 20_000
        await _fails(ask("ModelInfer", quick), "DEADLINE_EXCEEDED", "deadline")
        await running(0)
        late = ask("ModelInfer", _request(), timeout=0.02)
        await _fails(late, "DEADLINE_EXCEEDED", "(?i)deadline")
        await running(0)
        first = asyncio.ensure_future(ask("ModelInfer", _request()))
        await running(1)
        busy = await _fails(
            ask("ModelInfer", _request()), "RESOURCE_EXHAUSTED", "requests to answer"
        )
        told = dict(busy.trailing_metadata())
        assert told["skerry-code"] == "BusyError"
        assert int(told["retry-after"]) >= 1
        assert (await first).model_name == "meter"

    _serve(tmp_path, story, script={"run_s": 0.25})


def test_a_token_keeps_strangers_out(tmp_path: Path) -> None:
    """Of everything but whether the process is alive."""

    async def story(ask: Ask, _: Engine) -> None:
        live = m.ServerLiveRequest()
        assert (await ask("ServerLive", live)).live
        ready = m.ServerReadyRequest()
        await _fails(ask("ServerReady", ready), "UNAUTHENTICATED", "token")
        await _fails(ask("ModelInfer", _request()), "UNAUTHENTICATED", "token")
        right = (("authorization", "Bearer sesame"),)
        assert (await ask("ServerReady", ready, metadata=right)).ready
        assert (await ask("ModelInfer", _request(), metadata=right)).model_name

    _serve(tmp_path, story, token="sesame")  # noqa: S106 (a test's token)


def test_a_fault_of_ours_tells_no_secrets(tmp_path: Path) -> None:
    """Even what nobody foresaw is one sentence; so is a model's own fault."""

    def broken() -> dict[str, object]:
        raise ZeroDivisionError("a secret")

    async def story(ask: Ask, engine: Engine) -> None:
        request = m.ServerMetadataRequest()
        fault = await _fails(
            ask("ServerMetadata", request), "INTERNAL", "gateway failed"
        )
        assert "secret" not in str(fault)
        loaded = engine._pick(engine._place("meter"), None)
        loaded._session._script = {"raise": "run"}  # type: ignore[attr-defined]
        fault = await _fails(ask("ModelInfer", _request()), "INTERNAL", "cannot be run")
        assert "secret" not in str(fault)

    _serve(tmp_path, story, facts=broken)


def test_a_message_is_bounded(tmp_path: Path) -> None:
    """A larger one is not read."""

    async def story(ask: Ask, _: Engine) -> None:
        large = _request(np.ones((999, 4), np.float32))
        await _fails(ask("ModelInfer", large), "RESOURCE_EXHAUSTED", "larger than max")

    _serve(tmp_path, story, largest_body_bytes=1000)


def test_a_port_in_use_is_said(tmp_path: Path) -> None:
    """As every listener of ours does."""
    del tmp_path

    async def story() -> None:
        service = InferenceService(Engine(clock=SystemClock()))
        async with serve_grpc(service) as address:
            port = int(address.rpartition(":")[2])
            with pytest.raises(StateError, match="cannot be listened on"):
                async with serve_grpc(service, port=port):
                    pass

    asyncio.run(story())
    assert grpc.StatusCode.OK
