from __future__ import annotations

from pathlib import Path

import pytest

from skerry.app.simulate.gain import (
    GAIN_INPUTS,
    GainModel,
    GainRuntime,
    make_gain_release,
)
from skerry.core.errors import ModelError, RuntimeFailure
from skerry.core.model import Model, ModelFormat
from skerry.core.release import read_manifest, write_manifest
from skerry.core.seams import LoadOptions
from skerry.evolve.delta import diff


def open_gain(path: Path, content: bytes) -> Model:
    """Such a model as a file."""
    path.write_bytes(content)
    manifest, _ = make_gain_release("meter", 1)
    return Model(
        path=path,
        format=ModelFormat.ONNX,
        inputs=manifest.models[0].inputs,
        outputs=manifest.models[0].outputs,
        sha256="0" * 64,
        size_bytes=len(content),
    )


def test_it_multiplies_takes_its_time_and_stumbles(tmp_path: Path) -> None:
    """As its file says."""
    worked: list[float] = []
    content = GainModel(gain=3, latency_ms=5, fails_after=1).to_bytes()
    model = open_gain(tmp_path / "m", content)
    session = GainRuntime(worked.append).load(model, LoadOptions())
    assert (session.run(GAIN_INPUTS)["y"] == 3 * GAIN_INPUTS["x"]).all()
    assert worked == [0.005]
    with pytest.raises(RuntimeFailure, match="stumbled"):
        session.run(GAIN_INPUTS)


@pytest.mark.parametrize(
    "content", [GainModel(is_broken=True).to_bytes(), b"no json", b'{"loss": 1}']
)
def test_a_broken_one_is_not_loaded(tmp_path: Path, content: bytes) -> None:
    """Nor is what is none."""
    with pytest.raises(ModelError):
        GainRuntime().load(open_gain(tmp_path / "m", content), LoadOptions())


def test_a_release_is_whole_and_its_successor_a_small_delta() -> None:
    """The manifest can be read back and names each blob that comes with it."""
    manifest, blobs = make_gain_release("meter", 1, GainModel(ballast_bytes=9000))
    assert read_manifest(write_manifest(manifest)) == manifest
    assert {blob.sha256 for blob in manifest.blobs("any").values()} == set(blobs)
    old = GainModel(gain=1, ballast_bytes=9000).to_bytes()
    new = GainModel(gain=2, ballast_bytes=9000).to_bytes()
    assert len(diff(old, new)) < 1000
