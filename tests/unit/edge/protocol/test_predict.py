"""Raw bytes in, an answer that names its release out."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skerry.core.clock import SystemClock
from skerry.core.errors import DataError, LateError, UsageError
from skerry.core.release import Blob
from skerry.core.schemas import Change, SchemaAdapter, Schemas
from skerry.edge.adapters import Adapter
from skerry.edge.engine import Engine
from skerry.edge.installed import Installed
from skerry.edge.protocol.predict import Predictor
from skerry.tasks.decoders import Value
from skerry.tasks.matching import EmbedMatch
from skerry.tasks.series import Reshape, Scale
from skerry.tasks.steps import TopK
from skerry.tasks.task import Task, TaskKind, task_to_toml
from tests.serving import INPUTS, ScriptedRuntime, X, install

FOUR = Reshape(sizes=(4,))
CLASSES = Task(
    kind=TaskKind.CLASSIFICATION,
    metric="top1",
    labels=("a", "b", "c", "d"),
    pre=(FOUR,),
    post=(TopK(k=2),),
)
BODY = b"[1, 4, 2, 3]"
JSON = "application/json"

Use = Callable[[Engine, Predictor], Awaitable[None]]


def put(folder: Path, version: int, task: Task, **more: Any) -> Installed:
    """A release whose model doubles four numbers, with a task of its own."""
    gallery = more.pop("gallery", None)
    installed = install(folder, version, **more)
    content = task_to_toml(task).encode()
    path = installed.files["model"].with_name("task.toml")
    path.write_bytes(content)
    files = {**installed.files, "task": path}
    manifest = replace(installed.manifest, task=Blob.of(content))
    if gallery is not None:
        files["gallery"] = path.with_name("gallery.npz")
        files["gallery"].write_bytes(gallery)
        manifest = replace(manifest, gallery=Blob.of(gallery))
    return replace(installed, files=files, manifest=manifest)


def serve(use: Use, *releases: Installed) -> None:
    """Serve releases, one after the other, and use them."""

    async def _serve() -> None:
        engine = Engine(clock=SystemClock(), runtimes=lambda _: ScriptedRuntime())
        try:
            for installed in releases:
                engine.switch(await asyncio.to_thread(engine.prepare, installed))
            await use(engine, Predictor(engine))
        finally:
            engine.close()

    asyncio.run(_serve())


def test_the_answer_names_its_release(tmp_path: Path) -> None:
    """Decoded by the task that came with the model."""
    installed = put(tmp_path, 1, CLASSES)

    async def use(_: Engine, predictor: Predictor) -> None:
        for _again in range(2):
            told = await predictor.predict("meter", BODY, JSON, deadline_s=30)
            assert told["model_name"] == "meter"
            assert told["model_version"] == "1"
            blob = installed.model.blob.sha256
            assert told["parameters"] == {"release": "meter/1", "blob": blob}
            assert told["answer"]["label"] == "b"
            assert told["answer"]["confidence"] == 8

    serve(use, installed)


def test_many_bodies_at_once_are_each_answered(tmp_path: Path) -> None:
    """Two are decoded at a time, the others wait their turn."""

    async def use(_: Engine, predictor: Predictor) -> None:
        bodies = [b"[%d, 1, 1, %d]" % (index, 9 - index) for index in range(10)]
        told = await asyncio.gather(
            *(predictor.predict("meter", body, JSON) for body in bodies)
        )
        labels = [one["answer"]["label"] for one in told]
        assert labels == ["d"] * 5 + ["a"] * 5

    serve(use, put(tmp_path, 1, CLASSES))


def test_large_outputs_are_told_beside_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same answer, by the other way."""
    monkeypatch.setattr("skerry.edge.protocol.predict._HEAVY_BYTES", 1)

    async def use(_: Engine, predictor: Predictor) -> None:
        told = await predictor.predict("meter", BODY, JSON)
        assert told["answer"]["label"] == "b"

    serve(use, put(tmp_path, 1, CLASSES))


def test_each_release_is_read_by_its_own_task(tmp_path: Path) -> None:
    """A switch in the middle: the inputs are made again for who answers."""
    value = Task(
        kind=TaskKind.REGRESSION,
        metric="mae",
        pre=(Scale(by="maximum"), FOUR),
        post=(Value(),),
    )
    first, second = put(tmp_path, 1, CLASSES), put(tmp_path, 2, value)

    async def use(engine: Engine, predictor: Predictor) -> None:
        told = await predictor.predict("meter", BODY, JSON)
        assert told["model_version"] == "2"
        assert told["answer"]["value"] == 0.5  # 2 · 1/4
        told = await predictor.predict("meter", BODY, JSON, version=1)
        assert told["answer"]["label"] == "b"
        # What `find` names is not who answers: a switch came between.
        real, engine.find = (
            engine.find,
            lambda _, version=None: (  # type: ignore[method-assign]
                real("meter", version=version or 1)
            ),
        )
        told = await predictor.predict("meter", BODY, JSON)
        assert told["model_version"] == "2"
        assert told["answer"]["value"] == 0.5

    serve(use, first, second)


def test_a_gallery_comes_with_its_release(tmp_path: Path) -> None:
    """Without one the task is refused, with what to do."""
    stream = io.BytesIO()
    np.savez(stream, names=np.array(["Ann"]), vectors=np.eye(4)[:1])
    task = Task(
        kind=TaskKind.EMBEDDING, metric="rank1", pre=(FOUR,), post=(EmbedMatch(),)
    )

    async def use(_: Engine, predictor: Predictor) -> None:
        told = await predictor.predict("meter", b"[3, 0, 0, 0]", JSON)
        assert told["answer"] == {"kind": "embedding", "match": "Ann", "similarity": 1}
        with pytest.raises(DataError, match="bare/1 answers no raw bytes"):
            await predictor.predict("bare", b"[3, 0, 0, 0]", JSON)

    serve(
        use,
        put(tmp_path, 1, task, gallery=stream.getvalue()),
        put(tmp_path, 1, task, name="bare"),
    )


def test_bad_bytes_and_unknown_names_are_refused(tmp_path: Path) -> None:
    """Never a traceback."""

    async def use(_: Engine, predictor: Predictor) -> None:
        with pytest.raises(DataError, match="of no kind"):
            await predictor.predict("meter", b"?", "")
        with pytest.raises(UsageError):
            await predictor.predict("water", BODY, JSON)
        with pytest.raises(UsageError):
            await predictor.predict("meter", BODY, JSON, version=7)

    serve(use, put(tmp_path, 1, CLASSES))


def test_reading_counts_for_the_deadline(tmp_path: Path) -> None:
    """What was due before the model is asked is never run."""

    async def use(_: Engine, predictor: Predictor) -> None:
        with pytest.raises(LateError):
            await predictor.predict("meter", BODY, JSON, deadline_s=0.0)

    serve(use, put(tmp_path, 1, CLASSES))


def test_no_more_pipelines_are_kept_than_are_of_use(tmp_path: Path) -> None:
    """The oldest go: a gateway lives through many releases."""

    async def use(_: Engine, predictor: Predictor) -> None:
        for version in range(1, 19):
            labels = tuple(f"{version}-{index}" for index in range(4))
            installed = put(tmp_path, version, replace(CLASSES, labels=labels))
            await predictor._pipeline_of(installed)
        assert len(predictor._pipelines) == 16

    serve(use)


def test_without_a_task_raw_bytes_are_not_answered(tmp_path: Path) -> None:
    """A model that was never released may have none: the error says what to do."""

    async def use(_: Engine, predictor: Predictor) -> None:
        with pytest.raises(DataError, match="meter/1 answers no raw bytes: it has no"):
            await predictor.predict("meter", BODY, JSON)

    serve(use, install(tmp_path))


def test_raw_bytes_are_read_by_the_releases_own_task(tmp_path: Path) -> None:
    """Whatever schema the producers of tensors speak here."""
    installed = put(tmp_path, 1, CLASSES)
    change = Change(tensor="x", source="old", factor=-1.0)
    old = replace(INPUTS[0], name="old")
    manifest = replace(
        installed.manifest,
        input_schema="2",
        input_adapters=(
            SchemaAdapter(version="1", to="2", tensors=(old,), changes=(change,)),
        ),
    )
    adapter = Adapter.between(Schemas(), manifest, installed.model)

    async def use(engine: Engine, predictor: Predictor) -> None:
        told = await predictor.predict("meter", BODY, JSON, deadline_s=30)
        assert told["answer"]["label"] == "b"
        answer = await engine.infer("meter", {"old": -X})
        np.testing.assert_array_equal(answer.outputs["y"], 2 * X)

    serve(use, replace(installed, manifest=manifest, adapter=adapter))
