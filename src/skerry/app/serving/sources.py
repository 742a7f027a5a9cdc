"""Where what is served lies: a model's file, a release's folder, a gateway's folder.

A file is read whole, hashed, and what is served is a copy of it: whoever writes to the
file changes nothing before it is loaded again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from skerry.app.arguments import open_shaped, parse_shapes
from skerry.core.budget import Budget
from skerry.core.durable import hold
from skerry.core.errors import DataError, UsageError
from skerry.core.files import read_file
from skerry.core.model import TensorSpec
from skerry.core.names import LONGEST_NAME
from skerry.core.release import (
    ANY_TARGET,
    NOTHING,
    Blob,
    Manifest,
    ReleaseModel,
    read_manifest,
)
from skerry.edge.slots import Slots
from skerry.edge.slots_record import file_name
from skerry.edge.vault import SEAL_FILE, no_key
from skerry.runtimes import DEFAULT_RUNTIMES, model_content
from skerry.runtimes.libraries import machine_abi
from skerry.tasks.golden import Golden, GoldenSample, golden_to_bytes, parse_golden
from skerry.tasks.made_up import made_up_inputs
from skerry.tasks.matching import read_gallery
from skerry.tasks.pipeline import Pipeline
from skerry.tasks.task import Task, parse_task, task_to_toml

MANIFEST = "manifest.json"
"""What a folder that holds a release has."""

SLOTS = "slots.json"
"""What the folder of a gateway has."""

GALLERY = file_name("gallery")
COMPRESSED = "model.onnx"
"""What `skerry compress` writes into its folder."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Found:
    """What lies at a source now.

    Attributes:
        manifest: What it is; of version 0 where none is said.
        model: The model of it that is for this machine.
        contents: The bytes of each part, by role (`model`, `golden`, `task` …).
    """

    manifest: Manifest
    model: ReleaseModel
    contents: Mapping[str, bytes]

    @property
    def blobs(self) -> Mapping[str, Blob]:
        """What it is made of: two of the same blobs are the same."""
        return {role: Blob.of(content) for role, content in self.contents.items()}


class Source(Protocol):
    """A place from which one name is served."""

    @property
    def name(self) -> str:
        """The name."""
        ...

    def read(self) -> Found:
        """Read what lies there now.

        Raises:
            UsageError, ModelError, StorageError: It cannot be read, or is none.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSource:
    """A model's file, which was never released.

    Attributes:
        name: What it is served as.
        path: The file.
        runtime: What runs it; what is usual for its format where empty.
        task: A task, or its file, without which it answers tensors alone.
        gallery: Whom the task knows; `gallery.npz` beside the task by default.
        golden: Golden samples (`skerry.golden/1`) that it must give, or None.
        shapes: Shapes of inputs that the file leaves open, as `NAME=1x3x48x320`.
        budget: What must hold here.
    """

    name: str
    path: Path
    runtime: str = ""
    task: Path | Task | None = None
    gallery: Path | None = None
    golden: Path | None = None
    shapes: Sequence[str] = ()
    budget: Budget = field(default_factory=Budget)

    def read(self) -> Found:
        """Read the file, and what was given with it."""
        model = open_shaped(self.path, self.shapes)
        shapes = parse_shapes(self.shapes, [spec.name for spec in model.inputs])
        contents = {"model": model_content(model), **self._read_task(model.inputs)}
        if self.golden is not None:
            contents["golden"] = read_file(self.golden)
            parse_golden(contents["golden"], name=str(self.golden))
            proof = Blob.of(contents["golden"])
        else:
            inputs = made_up_inputs(model.inputs, shapes=shapes)
            sample = GoldenSample(name="made up", inputs=inputs, outputs={})
            contents["golden"] = golden_to_bytes(
                Golden(samples=(sample,), tolerance=0.01)
            )
            proof = NOTHING
        chosen = ReleaseModel(
            target=ANY_TARGET,
            runtime=self.runtime or DEFAULT_RUNTIMES[model.format],
            blob=Blob.of(contents["model"]),
            inputs=model.inputs,
            outputs=model.outputs,
            format=model.format,
        )
        gallery = contents.get("gallery")
        manifest = Manifest(
            name=self.name,
            version=0,
            created_at_ms=0,
            models=(chosen,),
            golden=proof,
            task=Blob.of(contents["task"]) if "task" in contents else NOTHING,
            gallery=Blob.of(gallery) if gallery is not None else None,
            budget=self.budget,
        )
        return Found(manifest=manifest, model=chosen, contents=contents)

    def _read_task(self, inputs: Sequence[TensorSpec]) -> dict[str, bytes]:
        if self.task is None:
            return {}
        if isinstance(self.task, Task):
            task, contents = self.task, {"task": task_to_toml(self.task).encode()}
        else:
            contents = {"task": read_file(self.task)}
            task = parse_task(contents["task"], name=str(self.task))
        path, gallery = find_gallery(self.task, self.gallery), None
        if path is not None:
            contents["gallery"] = read_file(path)
            gallery = read_gallery(contents["gallery"], name=str(path))
        # Who starts a server is to know what clients would be told.
        Pipeline(task=task, inputs=inputs, gallery=gallery)
        return contents


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseSource:
    """A release in a folder: a manifest, and its files as a gateway's slot has them.

    What the manifest says of the files is verified; who signed it is not.

    Attributes:
        name: The release's.
        folder: Where it lies.
    """

    name: str
    folder: Path

    def read(self) -> Found:
        """Read the release."""
        manifest = _read_manifest(self.folder)
        model = manifest.model_for(ANY_TARGET) or manifest.models[0]
        wanted = manifest.blobs(model.target, abi=machine_abi())
        contents = {}
        for role, blob in wanted.items():
            path = self.folder / file_name(role)
            contents[role] = read_file(path, largest_bytes=blob.size_bytes)
            if Blob.of(contents[role]) != blob:
                raise DataError(
                    f"{path} is not what its manifest says",
                    hint="It is damaged: fetch the release again.",
                )
        return Found(manifest=manifest, model=model, contents=contents)


def find_releases(folder: Path) -> list[ReleaseSource]:
    """The releases in a folder: its own, or the active ones of a gateway.

    Raises:
        UsageError: It holds none.
        DataError: What it holds is damaged.
        ConflictError: The gateway runs.
        TrustError: It is sealed: only its gateway can serve it.
        StorageError: It cannot be read.
    """
    if (folder / MANIFEST).is_file():
        return [ReleaseSource(name=_read_manifest(folder).name, folder=folder)]
    found = []
    if (folder / SEAL_FILE).exists():
        raise no_key(folder)
    if (folder / SLOTS).is_file():
        with hold(folder / "gateway.lock", who="gateway"):  # opening it may mend it
            slots = Slots(folder, target=ANY_TARGET, abi=machine_abi())
        for name in slots.names():
            active = slots.active(name)
            if active is not None:
                place = active.files["model"].parent
                found.append(ReleaseSource(name=name, folder=place))
    if not found:
        raise UsageError(
            f"{folder} holds no release: neither {MANIFEST} nor a gateway's slots "
            "with one",
            hint="Give a model's file, a gateway's folder, or one of its slots.",
        )
    return found


def _read_manifest(folder: Path) -> Manifest:
    path = folder / MANIFEST
    return read_manifest(read_file(path), name=str(path))


def find_gallery(task: Path | Task, given: Path | None) -> Path | None:
    """The file of those whom a task knows: as given, or beside the task's file."""
    if given is not None or isinstance(task, Task):
        return given
    beside = task.with_name(GALLERY)
    return beside if beside.is_file() else None


def name_of(path: Path) -> str:
    """The name that a file is served as unless told otherwise.

    Example:
        >>> name_of(Path("nets/PP-OCRv4_rec.onnx"))
        'pp-ocrv4-rec'
    """
    stem = path.resolve().parent.name if path.name == COMPRESSED else path.stem
    plain = re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")
    return plain[:LONGEST_NAME].strip("-") or "model"
