"""A release: a signed, versioned set of blobs, and why a device may refuse it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from skerry.core.budget import Budget
from skerry.core.documents import from_json, to_json
from skerry.core.errors import DataError
from skerry.core.model import ModelFormat, TensorSpec
from skerry.core.names import check_name
from skerry.core.schemas import (
    SchemaAdapter,
    Schemas,
    check_adapters,
    check_changes,
    way,
)

MANIFEST_SCHEMA = "skerry.release/1"
AGENT_LEVEL = 3
"""What this version's agent understands: a manifest's `requires` is at most this."""

LIBRARIES_LEVEL = 2
"""The lowest level that knows of libraries of operators."""

SCHEMAS_LEVEL = 3
"""The lowest level that knows of adapters between schemas."""

MOST_LIBRARIES = 32
"""Most libraries of operators that a model may need, for all machines together."""

ANY_TARGET = "any"
"""The target of a model that is for every device."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class ReleaseId:
    """Which release: its name and its version, which only grows.

    Example:
        >>> str(ReleaseId.parse("meter-reader/2"))
        'meter-reader/2'
    """

    name: str
    version: int

    @classmethod
    def parse(cls, text: str) -> ReleaseId:
        """Read `NAME/VERSION`.

        Raises:
            UsageError: The name cannot be one.
            DataError: The version is not a positive number.
        """
        name, _, version = text.partition("/")
        check_name(name, kind="release")
        is_number = version.isascii() and version.isdigit() and len(version) < 10
        if not is_number or int(version) < 1:
            raise DataError(
                f"{text[:80]!r} is not a release", hint="Write NAME/VERSION: meter/2."
            )
        return cls(name=name, version=int(version))

    def __str__(self) -> str:
        return f"{self.name}/{self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """Bytes named by their hash.

    Attributes:
        sha256: Of all of them, 64 hexadecimal digits in lower case.
        size_bytes: How many there are.
    """

    sha256: str
    size_bytes: int

    @classmethod
    def of(cls, content: bytes) -> Blob:
        """Name bytes by their hash."""
        return cls(sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content))


NOTHING = Blob.of(b"")
"""Stands for golden samples or a task where a model is served that was never released.

No manifest from outside may name it: what is signed has both.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """A shared library with operators that a runtime itself has not.

    Attributes:
        abi: What machine it is for, such as `linux-x86_64`.
        blob: The file.
    """

    abi: str
    blob: Blob


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseModel:
    """The model of a release for one target.

    Attributes:
        target: The target's name, or `any`.
        runtime: What runs it.
        blob: The model file.
        inputs: Its signature's inputs.
        outputs: Its signature's outputs.
        embedding: The output that is watched for drift, or empty.
        format: How the model file is written; ncnn's two files are packed into one.
        libraries: Operators that it needs; a device loads all that are for its ABI.
    """

    target: str
    runtime: str
    blob: Blob
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    embedding: str = ""
    format: ModelFormat = ModelFormat.ONNX
    libraries: tuple[Library, ...] = ()

    def lacks(self, abi: str) -> bool:
        """Whether it needs libraries of operators and none is for this ABI."""
        return bool(self.libraries) and all(one.abi != abi for one in self.libraries)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a release is made of; the document that is signed.

    Attributes:
        name: The release's name.
        version: Its version; a device never goes back but to what it ran before.
        created_at_ms: When it was made, milliseconds since 1970.
        models: One a target; a device takes that of its own target, else `any`.
        golden: Golden samples (`skerry.golden/1`), made by the uncompressed model.
        task: Pre- and post-processing and labels (`skerry.task/1`, TOML).
        drift: What embeddings and confidences were like (`skerry.drift/1`), or None.
        gallery: Whom a task with `embed_match` knows (an `.npz`), or None.
        budget: What must hold, on the device as on the bench.
        input_schema: Version of what goes in.
        output_schema: Version of what comes out.
        input_adapters: What older producers send, and how it is made fit.
        output_adapters: What older consumers read, and how it is made for them.
        requires: The lowest `AGENT_LEVEL` that understands this release.
        notes: What is new, for people.
    """

    name: str
    version: int
    created_at_ms: int
    models: tuple[ReleaseModel, ...]
    golden: Blob
    task: Blob
    budget: Budget = field(default_factory=Budget)
    drift: Blob | None = None
    gallery: Blob | None = None
    input_schema: str = "1"
    output_schema: str = "1"
    input_adapters: tuple[SchemaAdapter, ...] = ()
    output_adapters: tuple[SchemaAdapter, ...] = ()
    requires: int = 1
    notes: str = ""

    @property
    def id(self) -> ReleaseId:
        """The release's name and version."""
        return ReleaseId(name=self.name, version=self.version)

    @property
    def needs_level(self) -> int:
        """The lowest agent's level that does not overlook a part of it."""
        has_libraries = any(model.libraries for model in self.models)
        least = LIBRARIES_LEVEL if has_libraries else 1
        is_plain = self.schemas == Schemas()
        has_adapters = bool(self.input_adapters or self.output_adapters)
        return least if is_plain and not has_adapters else SCHEMAS_LEVEL

    @property
    def schemas(self) -> Schemas:
        """What it takes and gives without any adapter."""
        return Schemas(input=self.input_schema, output=self.output_schema)

    def ways(
        self, spoken: Schemas
    ) -> tuple[tuple[SchemaAdapter, ...], tuple[SchemaAdapter, ...]] | None:
        """The adapters to its own schemas from those that are spoken.

        Returns:
            Those of the inputs and those of the outputs, each from the schema that is
            spoken on; None where one of the two cannot be had.
        """
        inputs = way(spoken.input, self.input_schema, self.input_adapters)
        outputs = way(spoken.output, self.output_schema, self.output_adapters)
        return None if inputs is None or outputs is None else (inputs, outputs)

    def model_for(self, target: str) -> ReleaseModel | None:
        """The model for a target, else the one for any, else None."""
        by_target = {model.target: model for model in self.models}
        return by_target.get(target) or by_target.get(ANY_TARGET)

    def blobs(self, target: str, *, abi: str | None = None) -> Mapping[str, Blob]:
        """What a device of this target needs: blobs by role (`model`, `golden` …).

        Libraries of operators have the roles `library.0`, `library.1` …, by their place
        in the model's list.

        Args:
            target: The device's target.
            abi: The device's ABI: only libraries that are for it; all where None.
        """
        model = self.model_for(target)
        found = {
            "model": model.blob if model else None,
            "golden": self.golden,
            "task": self.task,
            "drift": self.drift,
            "gallery": self.gallery,
            **{
                f"library.{place}": library.blob
                for place, library in enumerate(model.libraries if model else ())
                if abi in {None, library.abi}
            },
        }
        return {role: blob for role, blob in found.items() if blob is not None}


def write_manifest(manifest: Manifest) -> bytes:
    """Write a manifest as canonical JSON."""
    return to_json(manifest, schema=MANIFEST_SCHEMA)


def read_manifest(content: bytes, *, name: str = "the manifest") -> Manifest:
    """Read a manifest from outside.

    Raises:
        NewerSchemaError: Its schema is newer than ours.
        DataError: It is damaged, or a field makes no sense.
    """
    manifest = from_json(Manifest, content, schema=MANIFEST_SCHEMA, name=name)
    check_name(manifest.name, kind="release")
    blobs = [model.blob for model in manifest.models]
    blobs += [manifest.golden, manifest.task]
    blobs += [each.blob for model in manifest.models for each in model.libraries]
    blobs += [blob for blob in (manifest.drift, manifest.gallery) if blob]
    if manifest.version < 1 or not manifest.models:
        raise DataError(
            f"{name} has version {manifest.version} and {len(manifest.models)} models",
            hint="A release has a version from 1 up and at least one model.",
        )
    for model in manifest.models:
        if len(model.libraries) > MOST_LIBRARIES:
            raise DataError(
                f"{name} names {len(model.libraries)} libraries for {model.target!r}, "
                f"at most {MOST_LIBRARIES} expected",
                hint="Make the release again.",
            )
    check_schemas(manifest, name=name)
    for blob in blobs:
        if not is_sha256(blob.sha256) or blob.size_bytes < 1:
            raise DataError(
                f"{name} names a blob {blob.sha256[:80]!r} of {blob.size_bytes} bytes",
                hint="Make the release again.",
            )
    return manifest


def check_schemas(manifest: Manifest, *, name: str) -> None:
    """Check that a release's adapters lead to what each of its models speaks.

    Raises:
        DataError: One does not.
    """
    taken, given = manifest.input_adapters, manifest.output_adapters
    check_adapters(manifest.input_schema, taken, name=name)
    check_adapters(manifest.output_schema, given, name=name)
    for model in manifest.models:
        check_changes(taken, model.inputs, is_input=True, name=name)
        check_changes(given, model.outputs, is_input=False, name=name)


def is_sha256(text: str) -> bool:
    """Whether a text can be a SHA-256: 64 hexadecimal digits in lower case."""
    return len(text) == 64 and set(text) <= set("0123456789abcdef")


def manifest_path(release: ReleaseId, *, tenant: str) -> str:
    """The TUF target path of a release's manifest."""
    return f"{tenant}/releases/{release.name}/{release.version}.json"


def blob_path(sha256: str, *, tenant: str) -> str:
    """The TUF target path of a blob."""
    return f"{tenant}/blobs/{sha256}"


def delta_path(from_sha256: str, to_sha256: str, *, tenant: str) -> str:
    """The TUF target path of the delta that turns one blob into another."""
    return f"{tenant}/deltas/{from_sha256}-{to_sha256}"


def chunks_path(sha256: str, *, tenant: str) -> str:
    """The TUF target path of the list of a blob's chunks."""
    return f"{tenant}/chunks/{sha256}"


class Reason(StrEnum):
    """Why a device does not run a release that it should."""

    UNTRUSTED = "untrusted"
    """Not signed by a key that the device trusts."""
    REPLAYED = "replayed"
    """Older than what the device has already accepted."""
    EXPIRED = "expired"
    """The metadata is too old to update by; what runs goes on running."""
    CORRUPT = "corrupt"
    """Not the bytes that were signed."""
    TOO_NEW = "too-new"
    """Of a schema or a level that only a newer agent understands."""
    UNFIT = "unfit"
    """No model in it is for this target and a runtime that is installed here."""
    SCHEMA = "schema"
    """It cannot take what is sent here, or give what is read here."""
    STORAGE = "storage"
    """The disk refused."""
    LOAD = "load"
    """The runtime could not load or run it."""
    GOLDEN = "golden"
    """It does not give the golden outputs here."""
    NOT_FINITE = "not-finite"
    """It gives NaN or infinities."""
    LATENCY = "latency"
    """Slower here than its budget allows."""
    MEMORY = "memory"
    """More memory here than its budget allows."""
    SIZE = "size"
    """Larger than its budget allows."""
    PROBATION = "probation"
    """It failed while it served on probation, and was rolled back."""
    UNREACHABLE = "unreachable"
    """What is needed could not be fetched."""

    @property
    def is_passing(self) -> bool:
        """Whether trying again later may help, with nothing changed by anybody."""
        return self in {Reason.EXPIRED, Reason.STORAGE, Reason.UNREACHABLE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A device's answer to a release that it does not run.

    Attributes:
        release: `NAME/VERSION`.
        reason: Which kind.
        what: One sentence for people: what, got, expected.
        measured: The figure that broke the budget, or None.
        allowed: What the budget allows, or None.
        at_ms: When, milliseconds since 1970.
    """

    release: str
    reason: Reason
    what: str
    at_ms: int
    measured: float | None = None
    allowed: float | None = None
