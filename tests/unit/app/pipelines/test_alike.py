"""Which model of a release a new version is made like."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from skerry.app.pipelines import alike
from skerry.core.errors import ModelError
from skerry.core.model import ModelFormat
from skerry.core.release import Blob, Manifest
from tests.deltas import floats, quantized
from tests.publishing import make_parts

MODELS = {"any": quantized(floats()), "pi": quantized(floats(1))}


def _opened(
    monkeypatch: pytest.MonkeyPatch, *targets: str, target: str = "", **changed: Any
) -> str:
    """The target of the model that was opened."""
    manifest, _ = make_parts(1)
    (model,) = manifest.models
    models = tuple(
        replace(model, target=one, blob=Blob.of(MODELS[one]), **changed)
        for one in targets
    )
    asked: list[str] = []

    async def pieces(sha256: str) -> AsyncIterator[bytes]:
        asked.append(sha256)
        yield next(one for one in MODELS.values() if Blob.of(one).sha256 == sha256)

    async def release(_: object) -> Manifest:
        return replace(manifest, models=models)

    api = SimpleNamespace(release=release, blobs=SimpleNamespace(open=pieces))
    monkeypatch.setattr(alike, "ask", lambda _, talk: asyncio.run(talk(api)))
    alike.open_alike("meter/1", target=target, hub=None)
    return next(
        one for one, content in MODELS.items() if Blob.of(content).sha256 in asked
    )


def test_the_model_of_a_target_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that is named, else that for any, else the only one."""
    assert _opened(monkeypatch, "any", "pi") == "any"
    assert _opened(monkeypatch, "any", "pi", target="pi") == "pi"
    assert _opened(monkeypatch, "pi") == "pi"


def test_a_release_without_such_a_model_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The error names what it has."""
    with pytest.raises(ModelError, match="'jetson'; it has them for: any, pi"):
        _opened(monkeypatch, "any", "pi", target="jetson")
    with pytest.raises(ModelError, match="has them for: none"):
        _opened(monkeypatch, "any", format=ModelFormat.TFLITE)
