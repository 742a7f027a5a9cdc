"""`skerry serve`, `skerry infer` and `skerry serve bench`, as one types them."""

from __future__ import annotations

import http.server
import json
import signal
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import pytest

from skerry.app.demo.networks import meter_path, meter_task
from skerry.app.main import main
from skerry.tasks._image import encode_png
from skerry.tasks.steps import Layout, Normalize, Resize
from skerry.tasks.task import task_to_toml
from tests.commands import Typist, running

pytestmark = pytest.mark.system

PICTURE_STEPS = (
    Resize(height=28, width=28),
    Normalize(mean=0.0, std=1.0, scale=1 / 255),
    Layout(channels="GRAY"),
)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with the shipped meter net, its task, a picture and tensors."""
    (tmp_path / "meter.onnx").write_bytes(meter_path().read_bytes())
    task = replace(meter_task(), pre=PICTURE_STEPS)
    (tmp_path / "task.toml").write_text(task_to_toml(task))
    picture = np.zeros((28, 28), np.uint8)
    picture[4:24, 13:15] = 255  # a one, roughly
    (tmp_path / "one.png").write_bytes(encode_png(picture))
    tensor = picture[None, None].astype(np.float32) / 255
    np.savez(tmp_path / "ones.npz", picture=np.repeat(tensor, 2, axis=0))
    return tmp_path


@pytest.fixture
def typist(capsys: pytest.CaptureFixture[str]) -> Typist:
    """Who types."""
    return Typist(capsys)


class Crowd(threading.Thread):
    """Somebody who asks all the time, and remembers what was said."""

    def __init__(self, address: str, picture: bytes) -> None:
        super().__init__(daemon=True)
        self.answers: list[tuple[int, str]] = []
        self._url = f"{address}/v2/models/meter/predict"
        self._picture = picture
        self._over = threading.Event()

    def run(self) -> None:
        with httpx.Client(timeout=30) as client:
            while not self._over.is_set():
                reply = client.post(
                    self._url,
                    content=self._picture,
                    headers={"content-type": "image/png"},
                )
                release = reply.json().get("parameters", {}).get("release", "")
                self.answers.append((reply.status_code, release))

    def stop(self) -> list[tuple[int, str]]:
        self._over.set()
        self.join(timeout=60)
        return self.answers


def test_serve_infer_reload_bench_stop(place: Path, typist: Typist) -> None:
    """A picture is answered by each way, a changed file swapped hot, and all ends well.

    The model runs in a process of its own.
    """
    ready = place / "serving.json"
    words = ("serve", "meter.onnx", "--task", "task.toml", "--announce", str(ready))
    faces = ("--local", str(place / "s.sock"), "--grpc-port", "0")
    with running(*words, *faces, "--probation-s", "0.5", cwd=place, ready=ready) as it:
        told = json.loads(ready.read_bytes())
        assert told["models"] == ["meter/1"]
        address = told["address"]
        picture = place / "one.png"

        answer = _predict(address, picture.read_bytes())
        assert answer["parameters"]["release"] == "meter/1"
        label = answer["answer"]["label"]

        _infer_each_way(typist, address, place, label)
        _bench_each_way(typist, address, place)
        _reload_under_requests(address, place)

        it.send_signal(signal.SIGTERM)
        said = it.communicate(timeout=60)[0]
    assert it.returncode == 0, said
    assert "Serving at http://127.0.0.1:" in said
    assert "/v2/models/meter/predict" in said
    assert "meter has no golden samples: its answers are unproven." in said
    assert "The server has stopped. It answered" in said
    assert not (place / "s.sock").exists()


def _infer_each_way(typist: Typist, address: str, place: Path, label: str) -> None:
    picture = str(place / "one.png")
    model, task = str(place / "meter.onnx"), ("--task", str(place / "task.toml"))
    for target, *more in ((address,), (model, *task)):
        (asked,) = typist.ask("infer", target, picture, *more)["asked"]
        assert asked["answer"]["label"] == label
        assert asked["latency_ms"] > 0
    assert label in typist.see("infer", address, picture, "--model", "meter")

    tensors = str(place / "ones.npz")
    here = typist.ask("infer", model, tensors)["asked"]
    for face in ("http", "local"):
        there = typist.ask("infer", address, tensors, "--face", face)["asked"]
        assert [one["input"] for one in there] == ["ones.npz[0]", "ones.npz[1]"]
        assert there[0]["release"] == "meter/1"
        values = [one["outputs"][0]["values"] for one in (*here, *there)]
        assert np.allclose(values, values[0], atol=1e-3)


def _bench_each_way(typist: Typist, address: str, place: Path) -> None:
    page = place / "bench.html"
    for more in (
        ("--out", str(page)),
        ("--rate", "20"),
        ("--face", "local"),
        ("--face", "grpc"),
        ("--input", str(place / "one.png")),
    ):
        found = typist.ask(
            *("serve", "bench", address, "--duration-s", "1", "--clients", "2"),
            *("--timeout-ms", "30000", *more),
        )
        assert found["failures"] == {}
        assert found["count"] > 0
        assert found["count"] == sum(each["count"] for each in found["histogram"])
        assert found["latency_ms"]["p50"] <= found["latency_ms"]["p99"]
        assert found["cpu_ms_per_request"] is not None
    assert "How long answers took" in page.read_text()


def _reload_under_requests(address: str, place: Path) -> None:
    model = onnx.load(place / "meter.onnx")
    model.doc_string = "the same, in another file"
    changed = model.SerializeToString()
    crowd = Crowd(address, (place / "one.png").read_bytes())
    crowd.start()
    load = f"{address}/v2/repository/models/meter/load"
    (place / "meter.onnx").write_bytes(b"no model at all")
    refused = httpx.post(load, timeout=120)
    assert (refused.status_code, refused.json()["code"]) == (422, "RefusedError")
    (place / "meter.onnx").write_bytes(changed)
    assert httpx.post(load, timeout=120).status_code == 200
    release = _predict(address, (place / "one.png").read_bytes())["parameters"]
    answers = crowd.stop()
    assert release["release"] == "meter/2"
    assert {status for status, _ in answers} == {200}
    assert {name for _, name in answers} <= {"meter/1", "meter/2"}


def _predict(address: str, content: bytes) -> Any:
    reply = httpx.post(
        f"{address}/v2/models/meter/predict",
        content=content,
        headers={"content-type": "image/png"},
        timeout=60,
    )
    assert reply.status_code == 200, reply.text
    return reply.json()


def test_bench_serves_a_file_by_itself(place: Path, typist: Typist) -> None:
    """A model's file is served by a child for the load, and the child is gone after."""
    model = str(place / "meter.onnx")
    words = ("serve", "bench", model, "--duration-s", "1", "--clients", "2")
    found = typist.ask(*words, "--timeout-ms", "30000", "--isolation", "thread")
    assert (found["target"], found["model"]) == (model, "meter")
    assert found["failures"] == {}
    broken = place / "broken.onnx"
    broken.write_bytes(b"no model")
    assert typist.ask("serve", "bench", str(broken), code=10)["code"] == "ModelError"


@pytest.fixture
def babbler() -> Iterator[str]:
    """A server that answers whatever is asked with nonsense."""

    class Answers(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "5")
            self.end_headers()
            self.wfile.write(b"{oops")

        do_POST = do_GET  # noqa: N815 (the library's name)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_server_that_is_none(babbler: str, place: Path, typist: Typist) -> None:
    """Nonsense from a server, or nobody at all, is an error of ours in one line."""
    picture = str(place / "one.png")
    for words in (
        ("infer", babbler, picture),
        ("infer", babbler, picture, "--model", "m"),
        ("serve", "bench", babbler),
    ):
        assert typist.ask(*words, code=3)["code"] == "DataError"
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        assert typist.ask("infer", address, picture, code=60)["code"] == "LinkError"
        assert typist.ask("serve", "bench", address, code=60)["code"] == "LinkError"


def test_what_cannot_be_served(place: Path, typist: Typist) -> None:
    """A missing file, a wrong task, a port in use: an error, and no server."""
    model, task = str(place / "meter.onnx"), place / "wrong.toml"
    task.write_text('schema = "skerry.task/1"\nkind = "none"\n')
    assert typist.ask("serve", str(place / "nowhere.onnx"), code=2)
    assert typist.ask("serve", str(place / "one.png"), code=10)
    assert typist.ask("serve", model, "--task", str(task), code=2)
    assert typist.ask("serve", model, "--task", f"other={task}", code=2)
    assert typist.ask("serve", model, "--host", "0.0.0.0", code=2)  # noqa: S104
    assert typist.ask("serve", model, model, code=2)
    assert typist.ask("serve", str(place), code=2)["what"].endswith("slots with one")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        told = typist.ask("serve", model, "--port", port, code=30)
    assert f"127.0.0.1:{port} is in use" in told["what"]
    assert main(["serve", "bench", model, "--clients", "0"]) == 2
