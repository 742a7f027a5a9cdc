"""NVIDIA's client, written by others, is answered by the service unchanged."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from tritonclient.utils import InferenceServerException, shared_memory

from skerry import __version__
from skerry.core.seams import Array
from tests.service_process import running_service
from tests.serving import X

pytestmark = pytest.mark.system

SIZE = X.nbytes


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Where a service listens."""
    with running_service(tmp_path_factory.mktemp("service")) as told:
        yield told


@pytest.fixture(params=["http", "grpc"])
def triton(
    request: pytest.FixtureRequest, addresses: dict[str, str]
) -> Iterator[tuple[ModuleType, Any]]:
    """The client's module, and one that is connected."""
    name = request.param
    module = triton_http if name == "http" else triton_grpc
    client = module.InferenceServerClient(addresses[name].removeprefix("http://"))
    yield module, client
    client.close()


def _input(module: ModuleType, array: Array = X, name: str = "x", **how: Any) -> Any:
    names = {"float32": "FP32", "float16": "FP16", "object": "BYTES"}
    tensor = module.InferInput(name, list(array.shape), names[array.dtype.name])
    tensor.set_data_from_numpy(array, **how)
    return tensor


def _as_dict(module: ModuleType, told: Any) -> Any:
    if module is triton_http:
        return told
    from google.protobuf.json_format import MessageToDict

    return MessageToDict(told, preserving_proto_field_name=True)


def test_the_service_tells_about_itself(triton: tuple[ModuleType, Any]) -> None:
    """Alive, ready, its version, and its extensions."""
    module, client = triton
    assert client.is_server_live()
    assert client.is_server_ready()
    told = _as_dict(module, client.get_server_metadata())
    assert (told["name"], told["version"]) == ("skerry", __version__)
    assert "system_shared_memory" in told["extensions"]


def test_a_model_tells_about_itself(triton: tuple[ModuleType, Any]) -> None:
    """Its signature, its configuration and what was counted."""
    module, client = triton
    assert client.is_model_ready("meter")
    assert client.is_model_ready("meter", "1")
    told = _as_dict(module, client.get_model_metadata("meter"))
    assert told["versions"] == ["1"]
    assert told["inputs"][0]["datatype"] == "FP32"
    assert [int(size) for size in told["inputs"][0]["shape"]] == [-1, 4]
    config = _as_dict(module, client.get_model_config("meter", "1"))
    config = config.get("config", config)
    assert config["input"][0]["data_type"] == "TYPE_FP32"
    assert [int(size) for size in config["output"][0]["dims"]] == [-1, 4]
    client.infer("meter", [_input(module)])
    stats = _as_dict(module, client.get_inference_statistics("meter"))["model_stats"]
    assert int(stats[0]["inference_stats"]["success"]["count"]) >= 1


def test_an_inference_as_the_client_likes_it(triton: tuple[ModuleType, Any]) -> None:
    """Binary both ways by default, with the request's id."""
    module, client = triton
    got = client.infer("meter", [_input(module)], request_id="r1", model_version="1")
    assert got.as_numpy("y").tolist() == (X * 2).tolist()
    told = _as_dict(module, got.get_response())
    assert (told["id"], told["model_name"], told["model_version"]) == (
        "r1",
        "meter",
        "1",
    )
    asked = [module.InferRequestedOutput("y")]
    got = client.infer("meter", [_input(module)], outputs=asked)
    assert got.as_numpy("y").tolist() == (X * 2).tolist()


def test_json_and_compression_over_http(addresses: dict[str, str]) -> None:
    """Each way there and back."""
    address = addresses["http"].removeprefix("http://")
    with triton_http.InferenceServerClient(address) as client:
        as_json = [triton_http.InferRequestedOutput("y", binary_data=False)]
        tensor = _input(triton_http, binary_data=False)
        got = client.infer("meter", [tensor], outputs=as_json)
        assert got.as_numpy("y").tolist() == (X * 2).tolist()
        for there in ("gzip", "deflate"):
            for back in ("gzip", "deflate"):
                got = client.infer(
                    "meter",
                    [_input(triton_http)],
                    request_compression_algorithm=there,
                    response_compression_algorithm=back,
                )
                assert got.as_numpy("y").tolist() == (X * 2).tolist()


def test_compression_over_grpc(addresses: dict[str, str]) -> None:
    """The library of gRPC does it."""
    with triton_grpc.InferenceServerClient(addresses["grpc"]) as client:
        tensor = _input(triton_grpc)
        got = client.infer("meter", [tensor], compression_algorithm="gzip")
        assert got.as_numpy("y").tolist() == (X * 2).tolist()


def test_half_precision_and_strings(triton: tuple[ModuleType, Any]) -> None:
    """FP16 and BYTES, of which each string is what it was."""
    module, client = triton
    half = np.array([[1.5, -2]], np.float16)
    got = client.infer("half", [_input(module, half)])
    assert got.as_numpy("y").dtype == np.float16
    assert got.as_numpy("y").tolist() == half.tolist()
    words = np.array([b"tide", "süß".encode(), b""], np.object_)
    got = client.infer("loud", [_input(module, words, "words")])
    assert [word.decode() for word in got.as_numpy("loud")] == ["TIDE", "SÜSS", ""]


def test_faults_are_told(triton: tuple[ModuleType, Any]) -> None:
    """With a status and one sentence, that the client shows."""
    module, client = triton
    for story, status, what in (
        (lambda: client.infer("other", [_input(module)]), {"404", "NOT_FOUND"}, "name"),
        (
            lambda: client.infer("meter", [_input(module, X[:, :3])]),
            {"400", "INVALID_ARGUMENT"},
            "shape",
        ),
        (
            lambda: client.infer("meter", [_input(module)], model_version="7"),
            {"404", "NOT_FOUND"},
            "version 7",
        ),
        (
            lambda: client.infer("slow", [_input(module)], timeout=50_000),
            {"504", "DEADLINE_EXCEEDED"},
            "deadline",
        ),
    ):
        _fails(story, status, what)
    assert not _is_ready(client, "other")


def _is_ready(client: Any, name: str) -> bool:
    with suppress(InferenceServerException):
        return bool(client.is_model_ready(name))
    return False


def _fails(story: Callable[[], Any], status: set[str], what: str) -> None:
    with pytest.raises(InferenceServerException) as caught:
        story()
    assert caught.value.status().removeprefix("StatusCode.") in status
    assert what in caught.value.message()


def test_priority_and_timeout_pass(triton: tuple[ModuleType, Any]) -> None:
    """In Triton's own units; a patient client is answered."""
    module, client = triton
    got = client.infer("meter", [_input(module)], priority=1, timeout=5_000_000)
    assert got.as_numpy("y").tolist() == (X * 2).tolist()


def test_the_repository(triton: tuple[ModuleType, Any]) -> None:
    """What lies there, loaded and unloaded."""
    module, client = triton

    def states() -> dict[str, str]:
        told = _as_dict(module, client.get_model_repository_index())
        models = told if module is triton_http else told["models"]
        return {entry["name"]: entry["state"] for entry in models}

    assert states()["spare"] == "UNAVAILABLE"
    client.load_model("spare")
    assert states()["spare"] == "READY"
    got = client.infer("spare", [_input(module)])
    assert got.as_numpy("y").tolist() == (X * 5).tolist()
    client.unload_model("spare")
    assert states()["spare"] == "UNAVAILABLE"
    missing = {"404", "NOT_FOUND"}
    _fails(lambda: client.load_model("absent"), missing, "absent")
    _fails(lambda: client.unload_model("spare"), missing, "spare")
    changed = {"400", "INVALID_ARGUMENT"}
    _fails(lambda: client.load_model("spare", config="{}"), changed, "parameters")


def test_system_shared_memory(triton: tuple[ModuleType, Any]) -> None:
    """Inputs from it and outputs to it, as Triton's own example does it."""
    module, client = triton
    client.unregister_system_shared_memory()
    client.unregister_cuda_shared_memory()
    key = f"/skerry-test-{os.getpid()}"
    handle = shared_memory.create_shared_memory_region("io", key, 2 * SIZE)
    try:
        shared_memory.set_shared_memory_region(handle, [X])
        client.register_system_shared_memory("io", key, 2 * SIZE)
        again = {"409", "ABORTED"}
        _fails(
            lambda: client.register_system_shared_memory("io", key, SIZE),
            again,
            "registered already",
        )
        status = _as_dict(module, client.get_system_shared_memory_status())
        shown = status[0] if module is triton_http else status["regions"]["io"]
        assert (shown["key"], int(shown["byte_size"])) == (key, 2 * SIZE)
        tensor = module.InferInput("x", list(X.shape), "FP32")
        tensor.set_shared_memory("io", SIZE)
        output = module.InferRequestedOutput("y")
        output.set_shared_memory("io", SIZE, SIZE)
        client.infer("meter", [tensor], outputs=[output])
        y = shared_memory.get_contents_as_numpy(handle, np.float32, X.shape, SIZE)
        assert y.tolist() == (X * 2).tolist()
        del y
        tensor.set_shared_memory("io", SIZE, 2 * SIZE)
        outside = {"400", "INVALID_ARGUMENT"}
        _fails(lambda: client.infer("meter", [tensor]), outside, "are asked for")
    finally:
        client.unregister_system_shared_memory("io")
        shared_memory.destroy_shared_memory_region(handle)
    unknown = {"404", "NOT_FOUND"}
    _fails(
        lambda: client.register_system_shared_memory("io", "/skerry-none", 4),
        unknown,
        "cannot be opened",
    )


def test_a_stream(addresses: dict[str, str]) -> None:
    """Answers come in order, and a fault ends only its own request."""
    told: list[Any] = []
    with triton_grpc.InferenceServerClient(addresses["grpc"]) as client:
        client.start_stream(lambda result, error: told.append(error or result))
        for gain in (1, 2):
            client.async_stream_infer("meter", [_input(triton_grpc, X * gain)])
        client.async_stream_infer("other", [_input(triton_grpc)])
        client.async_stream_infer("meter", [_input(triton_grpc)])
        client.stop_stream()
    assert told[0].as_numpy("y").tolist() == (X * 2).tolist()
    assert told[1].as_numpy("y").tolist() == (X * 4).tolist()
    assert "other" in str(told[2])
    assert told[3].as_numpy("y").tolist() == (X * 2).tolist()


def test_it_ends_in_good_order(tmp_path: Path) -> None:
    """The process stops with its input, and nothing of it is left."""
    with running_service(tmp_path) as told:
        pid = int(told["pid"])
        assert (tmp_path / "s").exists()
    assert not (tmp_path / "s").exists()
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
        time.sleep(0)
        pytest.fail("it still runs")
