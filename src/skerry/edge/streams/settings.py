"""The cameras of a gateway as a TOML file, schema `skerry.cameras/1`.

schema = "skerry.cameras/1"

[models.people]
path = "FastestDet.onnx"
task = "people.toml"
labels = ["person"]

[models.faces]
path = "yunet_n_320_320.onnx"
task = "yunet.toml"
finds = "faces"

[[cameras]]
name = "gate"
url = "rtsp://10.0.0.9/live"
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from skerry.core.config import from_table, read_toml
from skerry.core.errors import UsageError
from skerry.core.names import check_name
from skerry.edge.streams.zones import Line, Zone

CAMERAS_SCHEMA = "skerry.cameras/1"

MOST_CAMERAS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSettings:
    """A model that looks at every camera.

    Attributes:
        path: Its file, beside the cameras' file where it is relative; empty for the
            release of its name, on a gateway.
        task: Its task file, kind `detection`; empty likewise.
        finds: `people` are tracked, and their heads covered where no face is sure;
            `faces` are covered; `objects` are tracked.
        labels: Which of its classes count; all of them where empty.
        sure: The score from which a box begins a track.
        mosaic_loss: The share of objects that it may miss where it looks at parts of
            several pictures at once; 0: it never does.
        runtime: What runs it; what is usual for its format where empty.
    """

    path: str = ""
    task: str = ""
    finds: Literal["people", "faces", "objects"] = "people"
    labels: tuple[str, ...] = ()
    sure: float = 0.5
    mosaic_loss: float = 0.0
    runtime: str = ""

    def __post_init__(self) -> None:
        """Refuse a score and a share that none has, and half a model.

        Raises:
            UsageError: The score or the share is out of range, or there is a model's
                file without its task or the other way round.
        """
        if not 0 <= self.mosaic_loss < 1:
            raise UsageError(
                f"mosaic_loss is {self.mosaic_loss}, expected 0 or more and below 1",
                hint="0.02 allows two objects of a hundred to be missed.",
            )
        if bool(self.path) != bool(self.task):
            raise UsageError(
                f"got the path {self.path!r} and the task {self.task!r}, expected both "
                "or neither",
                hint="Name both files; or neither, for a release of a gateway.",
            )
        if not 0 < self.sure < 1:
            raise UsageError(
                f"sure is {self.sure}, expected a score between 0 and 1",
                hint="Use 0.5.",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraEntry:
    """One camera in the file.

    Attributes:
        name: What it is called.
        url: A file, a folder of pictures, a device or a URL.
        sub_url: Its sub-stream, which is used where there is one.
        frames_per_s: Most pictures a second that are looked at.
        least_rate: Looks a second that will do while something moves.
        check_s: How often it is looked at while nothing moves, in seconds.
        weight: Its share beside others'.
        is_repeated: Whether a file is played again and again.
        zones: Parts of its picture.
        lines: Lines across it.
    """

    name: str
    url: str
    sub_url: str = ""
    frames_per_s: float = 5.0
    least_rate: float = 1.0
    check_s: float = 10.0
    weight: float = 1.0
    is_repeated: bool = True
    zones: tuple[Zone, ...] = ()
    lines: tuple[Line, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what no camera can be.

        Raises:
            UsageError: The name or a number is none, or two places have one name.
        """
        check_name(self.name, kind="camera")
        numbers = (self.frames_per_s, self.least_rate, self.check_s, self.weight)
        if not all(0 < one < float("inf") for one in numbers):
            raise UsageError(
                f"camera {self.name}: got {numbers} for frames_per_s, least_rate, "
                "check_s and weight; expected more than 0",
                hint="Leave them out for 5, 1, 10 and 1.",
            )
        places = [one.name for one in self.zones] + [one.name for one in self.lines]
        if len(set(places)) != len(places):
            raise UsageError(
                f"camera {self.name}: two zones or lines have one name",
                hint="Give each its own.",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class CamerasSettings:
    """All of the file.

    Attributes:
        models: By name; at least one. Where none finds faces and none people, no
            picture leaves.
        cameras: At least one.
        deadline_ms: How old a picture may be when its look has ended.
        share: How much of the CPUs that this process may use is planned for.
        clip_s: How long a clip goes on before and after an event, each; 0: no clips.
        upload_mb_per_day: Most megabytes of pictures a camera and day; events
            themselves are always sent.
    """

    models: Mapping[str, ModelSettings]
    cameras: tuple[CameraEntry, ...]
    deadline_ms: float = 200.0
    share: float = 0.95
    clip_s: float = 3.0
    upload_mb_per_day: float = 50.0

    def __post_init__(self) -> None:
        """Refuse what cannot run.

        Raises:
            UsageError: There is no camera or no model, too many of them, two of one
                name, or a number is out of range.
        """
        names = [camera.name for camera in self.cameras]
        if not self.models or not 0 < len(names) <= MOST_CAMERAS:
            raise UsageError(
                f"got {len(self.models)} models and {len(names)} cameras, expected "
                f"one model or more and 1 to {MOST_CAMERAS} cameras",
                hint="Write a [models.NAME] and some [[cameras]].",
            )
        if len(set(names)) != len(names):
            double = next(name for name in names if names.count(name) > 1)
            raise UsageError(
                f"two cameras are called {double!r}", hint="Give each its own name."
            )
        for name in self.models:
            check_name(name, kind="model")
        is_good = (
            0 < self.deadline_ms <= 60_000
            and 0 < self.share <= 1
            and 0 <= self.clip_s <= 60
            and 0 <= self.upload_mb_per_day < float("inf")
        )
        if not is_good:
            raise UsageError(
                f"got deadline_ms {self.deadline_ms}, share {self.share}, clip_s "
                f"{self.clip_s} and upload_mb_per_day {self.upload_mb_per_day}; "
                "expected up to 60000, up to 1, up to 60 and 0 or more",
                hint="Leave them out for 200, 0.95, 3 and 50.",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Table:
    """The file's own keys, before paths are found."""

    schema: str = ""
    models: dict[str, ModelSettings] = field(default_factory=dict)
    cameras: tuple[CameraEntry, ...] = ()
    deadline_ms: float = 200.0
    share: float = 0.95
    clip_s: float = 3.0
    upload_mb_per_day: float = 50.0


def load_cameras(path: Path) -> CamerasSettings:
    """Read a cameras' file.

    Raises:
        UsageError: It cannot be read, or is none.
    """
    return cameras_from_table(read_toml(path), folder=path.parent, name=str(path))


def cameras_from_table(
    table: Mapping[str, Any], *, folder: Path, name: str
) -> CamerasSettings:
    """Make the settings of a file's content.

    Args:
        table: Its keys.
        folder: Where its relative paths begin.
        name: Whose table it is, for messages.

    Raises:
        UsageError: The schema is another, a key is unknown, or a value is wrong.
    """
    if table.get("schema") != CAMERAS_SCHEMA:
        raise UsageError(
            f"{name}: schema is {table.get('schema')!r}, expected {CAMERAS_SCHEMA!r}",
            hint=f"A cameras' file begins with: schema = {CAMERAS_SCHEMA!r}",
        )
    read = from_table(_Table, table, name=name)
    return CamerasSettings(
        models={key: _placed(one, folder) for key, one in read.models.items()},
        cameras=tuple(_found(one, folder) for one in read.cameras),
        deadline_ms=read.deadline_ms,
        share=read.share,
        clip_s=read.clip_s,
        upload_mb_per_day=read.upload_mb_per_day,
    )


def check_models(models: Mapping[str, ModelSettings], *, are_released: bool) -> None:
    """See to it that all models are files, or that all are releases of a gateway.

    Raises:
        UsageError: One is of the other kind.
    """
    for name, model in models.items():
        if are_released and (model.path or model.runtime):
            raise UsageError(
                f"models.{name} names a file or a runtime, and a gateway looks with "
                f"the release of the name {name!r}",
                hint="Leave out path, task and runtime, and roll a release out.",
            )
        if not are_released and not model.path:
            raise UsageError(
                f"models.{name} names no file",
                hint="Give its path and its task; a gateway alone takes releases.",
            )


def _placed(model: ModelSettings, folder: Path) -> ModelSettings:
    if not model.path:
        return model
    return replace(model, path=str(folder / model.path), task=str(folder / model.task))


def _found(camera: CameraEntry, folder: Path) -> CameraEntry:
    def find(url: str) -> str:
        return url if not url or "://" in url else str(folder / url)

    return replace(camera, url=find(camera.url), sub_url=find(camera.sub_url))
