from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest

from skerry.core.clock import FakeClock
from skerry.core.documents import Json
from skerry.core.errors import RuntimeFailure, StorageError, UsageError
from skerry.core.release import ReleaseId
from skerry.core.seams import Tensors
from skerry.core.video import Attention, Picture
from skerry.device._video import write_clip
from skerry.edge.streams.clips import ClipFolder
from skerry.edge.streams.eyes import EyeSettings
from skerry.edge.streams.runner import Outlets, Streams
from skerry.edge.streams.settings import CameraEntry, CamerasSettings, ModelSettings
from skerry.edge.streams.tracks import Seen
from skerry.edge.streams.wall import make_wall
from skerry.edge.streams.zones import Line, Zone
from skerry.tasks._image import decode_picture
from tests.videos import COLUMNS, ROWS, HandCamera, scene, walk

STEP_S = 0.2


class BlockEye:
    """Finds the bright block of `walk`, and calls its upper third a face."""

    def __init__(self, finds: str) -> None:
        self.finds = finds

    def size_of(self, rows: int, columns: int) -> tuple[int, int]:
        return rows, columns

    def prepare(self, picture: Picture) -> Tensors:
        return {"x": picture}

    def read(self, outputs: Tensors, rows: int, columns: int) -> tuple[Seen, ...]:
        found = np.argwhere(outputs["y"])
        if not found.size:
            return ()
        (top, left), (bottom, right) = found.min(axis=0), found.max(axis=0) + 1
        bottom = top + (bottom - top) / 3 if self.finds == "faces" else bottom
        region = (left / columns, top / rows, right / columns, bottom / rows)
        return (Seen(region=region, score=0.9, label=self.finds),)


class BlockEngine:
    """An engine of models that find bright pixels; a test may let one fail."""

    def __init__(self) -> None:
        self.broken: set[str] = set()
        self.asked: list[str] = []
        self.versions = {"people": 1, "faces": 1}
        self.swaps = 0

    def choose(self, name: str) -> Any:
        return SimpleNamespace(id=ReleaseId(name=name, version=self.versions[name]))

    async def infer(
        self, name: str, inputs: Tensors, *, version: int, **_: object
    ) -> Any:
        self.asked.append(name)
        await asyncio.sleep(0)
        if self.swaps and name == "people":
            self.swaps -= 1
            self.versions[name] += 1
        if version != self.versions[name]:
            raise UsageError("that version is not loaded", hint="")
        if name in self.broken:
            raise RuntimeFailure("it broke", hint="")
        yellow = (inputs["x"][:, :, 0] > 220) & (inputs["x"][:, :, 2] < 60)
        return SimpleNamespace(outputs={"y": yellow}, latency_ms=5.0)


class BlockEyes:
    """The eyes of both models."""

    names = ("people", "faces")

    def settings(self, name: str) -> EyeSettings:
        return EyeSettings(name=name, finds=name)  # type: ignore[arg-type]

    def of(self, installed: Any) -> BlockEye:
        return BlockEye(installed.id.name)


class Box:
    """An outbox in memory."""

    def __init__(self) -> None:
        self.bodies: list[Mapping[str, Json]] = []
        self.is_full = False

    async def put(self, kind: str, body: Mapping[str, Json], trace: str = "") -> int:
        del trace
        assert kind == "event"
        if self.is_full:
            raise StorageError("the outbox is full", hint="")
        self.bodies.append(body)
        return len(self.bodies)

    def names(self) -> list[str]:
        return [str(body["name"]).removeprefix("stream.") for body in self.bodies]


class Stage:
    """Streams with cameras that a test drives."""

    def __init__(
        self, tmp_path: Path, *cameras: CameraEntry, clip_s: float = 1.0
    ) -> None:
        self.clock = FakeClock()
        self.engine = BlockEngine()
        self.box = Box()
        entries = cameras or (CameraEntry(name="a", url="a"),)
        self.cameras = {one.name: HandCamera(one.name, self.clock) for one in entries}
        model = ModelSettings(path="", task="")
        self.streams = Streams(
            CamerasSettings(
                models={"people": model, "faces": model}, cameras=entries, clip_s=clip_s
            ),
            self.cameras,
            self.engine,  # type: ignore[arg-type]
            BlockEyes(),  # type: ignore[arg-type]
            clock=self.clock,
            cpus=2,
            outlets=Outlets(
                put=self.box.put,
                clips=ClipFolder(tmp_path / "clips"),
                make_clip=lambda some, rate: write_clip(some, frames_per_s=rate),
            ),
        )

    def play(self, act: Callable[[Stage], Coroutine[Any, Any, None]]) -> None:
        """Run an act, and stop."""

        async def main() -> None:
            running = asyncio.create_task(self.streams.run())
            await self.settle()
            await act(self)
            async with asyncio.timeout(30):
                while self.streams._clips:
                    self.clock.advance(wall_s=0.1)
                    await asyncio.sleep(0.001)
                    await self.settle()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

        asyncio.run(main())

    async def settle(self) -> None:
        """Let everything happen that needs no time."""
        for _ in range(10):
            await asyncio.sleep(0)
        async with asyncio.timeout(30):
            while looks := set(self.streams._looks):
                await asyncio.wait(looks)

    async def give(
        self, pictures: Any, *, name: str = "a", late_s: float = 0.0
    ) -> None:
        """Give pictures, one each fifth of a second."""
        for picture in pictures:
            self.cameras[name].give(picture, late_s=late_s)
            await self.settle()
            self.clock.advance(wall_s=STEP_S)
            await self.settle()


def test_who_walks_through_is_told_of(tmp_path: Path) -> None:
    """With zone and line, a thumbnail in each event, and a clip."""
    entry = CameraEntry(
        name="a",
        url="a",
        zones=(Zone(name="door", points=((0.5, 0), (1, 0), (1, 1), (0.5, 1))),),
        lines=(Line(name="edge", start=(0.5, 0), end=(0.5, 1)),),
    )
    stage = Stage(tmp_path, entry)

    async def act(stage: Stage) -> None:
        await stage.give(walk(45, still=5))
        await stage.give([scene()] * 40)

    stage.play(act)
    names = stage.box.names()
    told = [name for name in names if name != "clip"]
    assert told == ["appeared", "crossed", "entered", "left", "gone"]
    assert "clip" in names
    (first, *_) = stage.box.bodies
    content = base64.b64decode(str(first["thumbnail"]))
    assert decode_picture(content, name="a").shape[1] <= 320
    clip = next(body for body in stage.box.bodies if body["name"] == "stream.clip")
    path = tmp_path / "clips" / f"{clip['sha256']}.mp4"
    assert path.stat().st_size == clip["size_bytes"]
    status, headers, content = ask(stage.streams, f"/v1/streams/clips/{path.name}")
    assert (status, headers[b"content-type"]) == (200, b"video/mp4")
    assert content == path.read_bytes()
    for name in (f"{'0' * 64}.mp4", path.stem, "../../outbox.db", "..%2f.mp4"):
        assert ask(stage.streams, f"/v1/streams/clips/{name}")[0] == 404
    figures = stage.streams.figures()
    assert figures.cameras[0].counts == {
        "appeared": 1,
        "crossed edge left": 1,
        "entered door": 1,
        "left door": 1,
        "gone": 1,
    }


def test_nobody_looks_where_nothing_moves(tmp_path: Path) -> None:
    """But for a check now and then; and the camera is told to idle."""
    stage = Stage(tmp_path)

    async def act(stage: Stage) -> None:
        await stage.give([scene()] * 20)
        stage.engine.asked.clear()
        await stage.give([scene()] * 60)

    stage.play(act)
    assert 1 <= stage.engine.asked.count("people") <= 3
    assert stage.cameras["a"].attention is Attention.IDLE
    (camera,) = stage.streams.figures().cameras
    assert camera.missed_share == 0.0
    assert camera.skipped["idle"] >= 60


def test_a_check_that_finds_somebody_is_a_miss_of_the_gate(tmp_path: Path) -> None:
    """It is shown to the user, and the camera is watched closely at once."""
    stage = Stage(tmp_path)
    shown = next(walk(1))

    async def act(stage: Stage) -> None:
        # The gate takes who was always there for the scene.
        stage.engine.broken.update({"people", "faces"})
        await stage.give([shown] * 20)
        stage.engine.broken.clear()
        await stage.give([shown] * 60)

    stage.play(act)
    assert stage.box.names()[0] == "appeared"
    (camera,) = stage.streams.figures().cameras
    assert camera.missed_share is not None
    assert camera.missed_share > 0


def test_latency_counts_from_when_the_picture_was_taken(tmp_path: Path) -> None:
    """What it waited before it was given is in it."""
    stage = Stage(tmp_path)

    async def act(stage: Stage) -> None:
        await stage.give(walk(10), late_s=0.1)

    stage.play(act)
    (camera,) = stage.streams.figures().cameras
    assert camera.latency_ms["p50"] is not None
    assert 100 <= camera.latency_ms["p50"] < 200


def test_a_model_that_fails_is_the_cameras_reason_and_lets_nothing_out(
    tmp_path: Path,
) -> None:
    """Without the face model no picture leaves, and people are still told of."""
    stage = Stage(tmp_path)
    stage.engine.broken.add("faces")

    async def act(stage: Stage) -> None:
        await stage.give(walk(20, still=3))

    stage.play(act)
    assert stage.box.names() == ["appeared"]
    assert "thumbnail" not in stage.box.bodies[0]
    assert stage.streams.shown("a") is None
    (camera,) = stage.streams.figures().cameras
    assert camera.reason == "faces: it broke"
    assert camera.withheld > 0


@pytest.mark.parametrize(("swaps", "failures"), [(2, {}), (3, {"UsageError": 1})])
def test_a_release_that_goes_under_a_look_is_followed_by_the_next(
    tmp_path: Path, swaps: int, failures: dict[str, int]
) -> None:
    """It looks at the same picture; only who is never caught up with is given up."""
    stage = Stage(tmp_path)

    async def act(stage: Stage) -> None:
        await stage.give(walk(1, still=4))
        stage.engine.asked.clear()
        stage.engine.swaps = swaps
        await stage.give(walk(12))

    stage.play(act)
    assert "appeared" in stage.box.names()
    (camera,) = stage.streams.figures().cameras
    assert camera.failures == failures
    assert camera.reason == ""


def test_an_outbox_that_is_full_loses_an_event_and_nothing_else(tmp_path: Path) -> None:
    """It is the camera's reason; what comes later is told again."""
    stage = Stage(tmp_path)
    stage.box.is_full = True

    async def act(stage: Stage) -> None:
        await stage.give(walk(6, still=3))
        stage.box.is_full = False
        await stage.give([scene()] * 40)

    stage.play(act)
    assert "gone" in stage.box.names()
    (camera,) = stage.streams.figures().cameras
    assert camera.reason == "the outbox is full"


def test_one_camera_that_floods_does_not_starve_the_other(tmp_path: Path) -> None:
    """Pictures that nobody looked at are superseded, and the other is served."""
    stage = Stage(
        tmp_path, CameraEntry(name="a", url="a"), CameraEntry(name="b", url="b")
    )

    async def act(stage: Stage) -> None:
        for quick, slow in zip(walk(20, step_px=3), walk(20), strict=True):
            for _ in range(10):
                stage.cameras["b"].give(quick)
            await stage.give([slow])

    stage.play(act)
    first, second = stage.streams.figures().cameras
    assert first.looks["people"] >= 9
    assert second.looks["people"] <= 25
    assert second.skipped["superseded"] > 100


def leaving(stage: Stage, tmp_path: Path) -> list[Picture]:
    """Every picture that left: thumbnails, clips, and the wall."""
    from skerry.device._video import Video

    found = []
    for body in stage.box.bodies:
        if "thumbnail" in body:
            content = base64.b64decode(str(body["thumbnail"]))
            found.append(decode_picture(content, name="thumbnail"))
    for path in (tmp_path / "clips").glob("*.mp4"):
        with contextlib.closing(Video(str(path))) as video:
            while (packet := video.read()) is not None:
                decoded = video.decode(packet)
                if decoded is not None:
                    found.append(decoded.to_rgb())
    for name in stage.streams.names():
        status, _, content = ask(stage.streams, f"/v1/streams/{name}.jpg")
        if status == 200:
            found.append(decode_picture(content, name="wall"))
    return found


def stripes(picture: Picture) -> bool:
    """Whether the face of `faces` can be recognized: its stripes are there."""
    rows = picture.shape[0]
    gray = picture.astype(int).mean(axis=2)
    top = round(60 * rows / ROWS)
    part = gray[top : top + max(4, round(20 * rows / ROWS))]
    return bool(np.abs(np.diff(part, axis=0)).max(axis=0).mean() > 60)


def test_no_face_leaves_by_any_way(tmp_path: Path) -> None:
    """Also where the face model fails now and then."""
    line = Line(name="edge", start=(0.5, 0), end=(0.5, 1))
    stage = Stage(tmp_path, CameraEntry(name="a", url="a", lines=(line,)), clip_s=3.0)
    striped = []
    for picture in walk(45, still=3):
        shown = picture.copy()
        is_block = (shown[:, :, 0] > 220) & (shown[:, :, 2] < 60)
        lines = np.zeros(shown.shape[:2], bool)
        lines[60:80:2] = True
        shown[is_block & lines] = (230, 0, 0)
        striped.append(shown)
    sample = striped[20]
    assert stripes(sample[:, 112:142])

    async def act(stage: Stage) -> None:
        for number, picture in enumerate(striped):
            stage.engine.broken = {"faces"} if number % 7 == 3 else set()
            await stage.give([picture])
        stage.engine.broken = set()
        await stage.give([scene()] * 20)

    stage.play(act)
    left = leaving(stage, tmp_path)
    assert len(left) >= 5
    for picture in left:
        scale = picture.shape[1] / COLUMNS
        for column in range(0, picture.shape[1] - round(30 * scale), round(10 * scale)):
            assert not stripes(picture[:, column : column + round(30 * scale)])


def ask(
    streams: Streams,
    path: str,
    *,
    token: str = "",
    method: str = "GET",
    wanted: str | None = None,
    query: str = "",
) -> tuple[int, dict[bytes, bytes], bytes]:
    """Ask the wall."""
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {}

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query.encode(),
        "headers": [(b"authorization", f"Bearer {token}".encode())] if token else [],
    }
    asyncio.run(make_wall(streams, token=wanted)(scope, receive, send))  # type: ignore[arg-type]
    start, body = sent
    return start["status"], dict(start["headers"]), body["body"]


def test_the_wall_shows_figures_pictures_and_metrics(tmp_path: Path) -> None:
    """Pictures are veiled, and there is none of a camera that nobody looked at."""
    stage = Stage(
        tmp_path, CameraEntry(name="a", url="a"), CameraEntry(name="b", url="b")
    )

    async def act(stage: Stage) -> None:
        await stage.give(walk(10, still=3))

    stage.play(act)
    status, headers, page = ask(stage.streams, "/")
    assert (status, headers[b"content-type"]) == (200, b"text/html; charset=utf-8")
    assert b"v1/streams" in page
    status, _, body = ask(stage.streams, "/v1/streams")
    told = msgspec.json.decode(body)
    assert [camera["name"] for camera in told["cameras"]] == ["a", "b"]
    assert told["cameras"][0]["looks"]["people"] > 3
    assert ask(stage.streams, "/v1/streams/a.jpg")[0] == 200
    assert ask(stage.streams, "/v1/streams/b.jpg")[0] == 404
    assert ask(stage.streams, "/v1/streams/../../a.jpg")[0] == 404
    assert ask(stage.streams, "/nothing")[0] == 404
    assert ask(stage.streams, "/", method="POST")[0] == 405
    metrics = ask(stage.streams, "/metrics")[2].decode()
    assert 'skerry_stream_looks_total{camera="a",model="people"}' in metrics
    assert 'skerry_stream_skipped_total{camera="a",why="superseded"}' in metrics
    assert 'skerry_stream_latency_seconds_bucket{camera="a",le="+Inf"}' in metrics


def test_the_wall_asks_for_its_token(tmp_path: Path) -> None:
    """As a header, or in the page's address."""
    streams = Stage(tmp_path).streams
    assert ask(streams, "/", wanted="s")[0] == 401
    assert ask(streams, "/", wanted="s", token="x")[0] == 401  # noqa: S106 - none
    assert ask(streams, "/", wanted="s", token="s")[0] == 200  # noqa: S106 - none
    assert ask(streams, "/", wanted="s", query="token=s")[0] == 200
