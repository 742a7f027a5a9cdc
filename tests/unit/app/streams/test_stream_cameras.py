from __future__ import annotations

import sys
from pathlib import Path

import pytest

from skerry.app.streams.bench import multiply
from skerry.app.streams.cameras import make_cameras
from skerry.app.streams.sight import read_sight
from skerry.core.clock import FakeClock
from skerry.core.errors import MissingExtraError, UsageError
from skerry.device.cameras import VideoCamera
from skerry.device.folder import FolderCamera
from skerry.edge.streams.settings import (
    CameraEntry,
    CamerasSettings,
    ModelSettings,
    check_models,
)


def test_a_folder_is_a_camera_of_pictures(tmp_path: Path) -> None:
    """And everything else is opened as video."""
    entries = [
        CameraEntry(name="a", url=str(tmp_path)),
        CameraEntry(name="b", url="rtsp://b/live"),
    ]
    made = make_cameras(entries, clock=FakeClock())
    assert isinstance(made["a"], FolderCamera)
    assert isinstance(made["b"], VideoCamera)


def test_what_is_not_installed_is_said_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With the extra that brings it; a folder of pictures does without."""
    monkeypatch.setitem(sys.modules, "av", None)
    folder = CameraEntry(name="a", url=str(tmp_path))
    make_cameras([folder], clock=FakeClock())
    with pytest.raises(MissingExtraError) as caught:
        make_cameras([CameraEntry(name="b", url="b.avi")], clock=FakeClock())
    assert caught.value.hint == "pip install 'skerry[streams]'"


def test_a_bench_takes_the_cameras_in_turn() -> None:
    """Each with a name of its own."""
    entries = tuple(CameraEntry(name=name, url=f"{name}.avi") for name in "ab")
    model = ModelSettings(path="m.onnx", task="m.toml")
    settings = CamerasSettings(models={"people": model}, cameras=entries)
    found = multiply(settings, 5).cameras
    assert [camera.url for camera in found] == [
        *("a.avi", "b.avi", "a.avi", "b.avi", "a.avi")
    ]
    assert len({camera.name for camera in found}) == 5


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ('path = "a.onnx"\ntask = "a.toml"', "the release of the name 'people'"),
        ('runtime = "openvino"', "the release of the name 'people'"),
        ('path = "a.onnx"', "expected both or neither"),
    ],
)
def test_a_gateway_looks_with_releases_alone(
    tmp_path: Path, keys: str, says: str
) -> None:
    """A model's file is for `skerry stream run`."""
    path = tmp_path / "cameras.toml"
    head = f'schema = "skerry.cameras/1"\n[models.people]\n{keys}\n'
    path.write_text(f'{head}[[cameras]]\nname = "a"\nurl = "a.mkv"\n')
    with pytest.raises(UsageError, match=says):
        read_sight(path, clock=FakeClock())


def test_cameras_by_themselves_need_files_of_models() -> None:
    """There is no gateway that has releases."""
    with pytest.raises(UsageError, match=r"models\.people names no file"):
        check_models({"people": ModelSettings()}, are_released=False)
