"""Samples, retrainings and what is made of them, by hand, with a hub that is a fake."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from skerry.app.main import main
from skerry.app.publish.publisher import Bundle, Publisher
from skerry.core.release import Manifest, ReleaseId
from skerry.evolve.trust import make_key, public_key
from tests import models
from tests.commands import Typist, make_parts

SAMPLE = {
    "id": "gw-1-7",
    "release": "meter/1",
    "kind": "uncertain",
    "prediction": "3",
    "confidence": 0.5,
    "label": None,
}


class FakeBlobs:
    """Blobs in memory."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    async def put(self, sha256: str, content: bytes) -> None:
        assert hashlib.sha256(content).hexdigest() == sha256
        self.kept[sha256] = content

    async def open(self, sha256: str) -> AsyncIterator[bytes]:
        yield self.kept[sha256]


class FakeApi:
    """As much of a hub as these commands ask for."""

    def __init__(self) -> None:
        self.blobs = FakeBlobs()
        self.published: list[Manifest] = []
        self.labels: dict[str, str] = {}
        self.job: dict[str, Any] = {}

    async def publish(self, bundle: Bundle) -> ReleaseId:
        self.published.append(bundle.manifest)
        self.blobs.kept.update(bundle.blobs)
        return bundle.manifest.id

    async def releases(self) -> tuple[Manifest, ...]:
        return tuple(reversed(self.published))

    async def release(self, release: ReleaseId) -> Manifest:
        return next(one for one in self.published if one.id == release)

    async def samples(
        self, *, release: ReleaseId | None, labelled: bool | None
    ) -> tuple[dict[str, Any], ...]:
        assert release == ReleaseId(name="meter", version=1)
        return () if labelled else (SAMPLE,)

    async def label_sample(self, sample_id: str, label: str) -> None:
        self.labels[sample_id] = label

    async def start_retraining(self, release: ReleaseId, *, replay: str) -> str:
        assert replay in self.blobs.kept
        assert str(release) == self.job["release"]
        return str(self.job["id"])

    async def retraining(self, retraining_id: str) -> dict[str, Any]:
        assert retraining_id == self.job["id"]
        return self.job

    async def retrainings(self) -> tuple[dict[str, Any], ...]:
        return (self.job,)


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeApi:
    """A hub with one release, and the publisher of it in the current folder."""
    monkeypatch.chdir(tmp_path)
    make_parts(tmp_path)
    hub_key = public_key(make_key())
    Publisher.create(tmp_path / "skerry-publisher", hub_key=hub_key)
    fake = FakeApi()

    def ask(hub: str | None, talk: Callable[[FakeApi], Awaitable[Any]]) -> Any:
        async def hold() -> Any:
            return await talk(fake)

        assert hub is None
        return asyncio.run(hold())

    for module in ("release", "sample"):
        monkeypatch.setattr(f"skerry.app.commands.{module}.ask", ask)
    parts = ("mlp.onnx", "rows.npz", "--task", "task.toml", "--json")
    assert main(["release", "create", "meter", *parts]) == 0
    candidate = models.mlp(seed=2)
    sha256 = hashlib.sha256(candidate).hexdigest()
    fake.blobs.kept[sha256] = candidate
    fake.job = {
        "id": "t-1",
        "release": "meter/1",
        "state": "passed",
        "started_at_ms": 1_700_000_000_000,
        "reason": "",
        "evidence": {"field_before": 0.5, "n_field": 100},
        "candidate": {"model": {"sha256": sha256, "size_bytes": len(candidate)}},
    }
    return fake


@pytest.fixture
def typist(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> Typist:
    """Types commands to that hub."""
    assert api
    return Typist(capsys)


def test_samples_are_listed_and_labelled(api: FakeApi, typist: Typist) -> None:
    """What was said and how sure it was, then what it is."""
    words = ("sample", "ls", "--release", "meter/1")
    assert typist.ask(*words, "--unlabelled")["samples"] == [SAMPLE]
    assert "gw-1-7 meter/1 uncertain 3 50" in typist.see(*words)
    assert "'five'" in typist.see("sample", "label", "gw-1-7", "five")
    assert api.labels == {"gw-1-7": "five"}


def test_a_retraining_is_waited_for(api: FakeApi, typist: Typist) -> None:
    """Old samples go to the hub, and what the gates found is shown."""
    begun = typist.ask("retraining", "create", "meter/1", "rows.npz")
    assert begun["retraining"]["state"] == "passed"
    assert "field_before 0.5" in typist.see("retraining", "show", "t-1")
    assert "t-1 meter/1 passed 2023-11-14" in typist.see("retraining", "ls")
    api.job["state"], api.job["reason"] = "failed", "it forgets"
    found = typist.ask("retraining", "show", "t-1", code=1)
    assert found["retraining"]["reason"] == "it forgets"


def test_old_samples_that_are_not_there(typist: Typist) -> None:
    """The path is named."""
    error = typist.ask("retraining", "create", "meter/1", "none.npz", code=2)
    assert "none.npz" in error["what"]


def test_what_was_learnt_is_the_next_version(api: FakeApi, typist: Typist) -> None:
    """The candidate with golden samples of its own, as a delta too."""
    published = typist.ask("release", "adopt", "t-1")
    assert published["release"] == "meter/2"
    old, new = api.published
    assert new.models[0].blob.sha256 == api.job["candidate"]["model"]["sha256"]
    assert new.golden != old.golden
    assert (new.task, new.budget) == (old.task, old.budget)
    assert "refitted" in new.notes


def test_what_failed_is_not_released(api: FakeApi, typist: Typist) -> None:
    """Only what has passed its gates can be signed."""
    api.job["state"] = "failed"
    error = typist.ask("release", "adopt", "t-1", code=2)
    assert "failed" in error["what"]
    assert len(api.published) == 1


def test_a_publisher_is_needed(typist: Typist) -> None:
    """A release is signed or not made."""
    words = ("release", "adopt", "t-1", "--publisher", "elsewhere")
    assert "elsewhere" in typist.ask(*words, code=30)["what"]
