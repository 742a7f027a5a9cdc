from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from skerry.core.budget import Budget
from skerry.core.errors import DataError, NewerSchemaError, UsageError
from skerry.core.model import TensorSpec
from skerry.core.release import (
    Blob,
    Manifest,
    Reason,
    ReleaseId,
    ReleaseModel,
    blob_path,
    delta_path,
    manifest_path,
    read_manifest,
    write_manifest,
)

GOLDEN = Path(__file__).parents[2] / "golden" / "release-1.json"


def blob(digit: str, size_bytes: int = 10) -> Blob:
    """A blob whose hash is one digit, repeated."""
    return Blob(sha256=digit * 64, size_bytes=size_bytes)


def model(target: str, digit: str) -> ReleaseModel:
    """A model for a target."""
    return ReleaseModel(
        target=target,
        runtime="onnxruntime",
        blob=blob(digit),
        inputs=(TensorSpec(name="x", dtype="float32", shape=("batch", 3, None)),),
        outputs=(TensorSpec(name="y", dtype="float32", shape=("batch", 2)),),
        embedding="y",
    )


MANIFEST = Manifest(
    name="meter",
    version=2,
    created_at_ms=1_700_000_000_000,
    models=(model("any", "a"), model("x86-64", "b")),
    golden=blob("c"),
    task=blob("d"),
    drift=blob("e"),
    budget=Budget(accuracy_drop=0.01, latency_ms=5.0),
    notes="sharper",
)


def test_a_manifest_comes_back_as_it_was_written() -> None:
    """Each field survives the way through canonical JSON."""
    assert read_manifest(write_manifest(MANIFEST)) == MANIFEST


def test_the_first_schema_stays_readable() -> None:
    """The committed manifest of schema 1 reads as it did when it was written."""
    assert read_manifest(GOLDEN.read_bytes()) == MANIFEST


def test_a_device_takes_the_model_of_its_target() -> None:
    """Its own before that for any; none where neither is there."""
    own, other = MANIFEST.model_for("x86-64"), MANIFEST.model_for("rk3588")
    assert own is not None
    assert own.blob == blob("b")
    assert other is not None
    assert other.blob == blob("a")
    only = replace(MANIFEST, models=(model("x86-64", "b"),))
    assert only.model_for("rk3588") is None


def test_the_blobs_of_a_target_have_roles() -> None:
    """What a device needs, and nothing that is not there."""
    roles = {role: b.sha256[0] for role, b in MANIFEST.blobs("x86-64").items()}
    assert roles == {"model": "b", "golden": "c", "task": "d", "drift": "e"}
    assert "drift" not in replace(MANIFEST, drift=None).blobs("any")
    known = replace(MANIFEST, gallery=blob("f"))
    assert known.blobs("any")["gallery"] == blob("f")
    assert read_manifest(write_manifest(known)) == known


@pytest.mark.parametrize(
    "broken",
    [
        replace(MANIFEST, version=0),
        replace(MANIFEST, models=()),
        replace(MANIFEST, golden=Blob(sha256="x" * 64, size_bytes=1)),
        replace(MANIFEST, task=blob("d", 0)),
        replace(MANIFEST, drift=Blob(sha256="A" * 64, size_bytes=1)),
        replace(MANIFEST, gallery=Blob(sha256="a" * 63, size_bytes=1)),
        replace(MANIFEST, name="../etc"),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(broken: Manifest) -> None:
    """A name that could leave its folder, a hash that is none, nothing to run."""
    with pytest.raises(UsageError):
        read_manifest(write_manifest(broken))


def test_a_manifest_of_a_newer_schema_is_not_half_read() -> None:
    """The device is told to be upgraded first."""
    content = write_manifest(MANIFEST).replace(b"skerry.release/1", b"skerry.release/2")
    with pytest.raises(NewerSchemaError):
        read_manifest(content)


def test_a_release_is_named_by_name_and_version() -> None:
    """It parses as it prints, and later versions are greater."""
    assert str(MANIFEST.id) == "meter/2"
    assert ReleaseId.parse("meter/2") == MANIFEST.id
    assert ReleaseId.parse("meter/10") > MANIFEST.id


@pytest.mark.parametrize("text", ["", "meter", "meter/", "meter/0", "meter/-1", "m/٣"])
def test_what_is_no_release_is_refused(text: str) -> None:
    """A version is a positive number in ASCII digits."""
    with pytest.raises(UsageError):
        ReleaseId.parse(text)


def test_target_paths_begin_with_the_tenant() -> None:
    """So that the tenant's delegation covers its own and nobody else's."""
    assert manifest_path(MANIFEST.id, tenant="main") == "main/releases/meter/2.json"
    assert blob_path("ab", tenant="main") == "main/blobs/ab"
    assert delta_path("a", "b", tenant="main") == "main/deltas/a-b"


def test_only_what_time_can_heal_is_tried_again() -> None:
    """A bad signature stays bad; a full disk may be emptied."""
    passing = {reason for reason in Reason if reason.is_passing}
    assert passing == {Reason.EXPIRED, Reason.STORAGE, Reason.UNREACHABLE}


def test_a_data_error_is_raised_for_a_version_that_is_no_number() -> None:
    """The message shows how a release is written."""
    with pytest.raises(DataError) as caught:
        ReleaseId.parse("meter/two")
    assert "NAME/VERSION" in caught.value.hint
