from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from skerry.core import config
from skerry.core.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Camera:
    """One of several."""

    name: str
    fps: float = 25.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Some settings, of every shape that a table may take."""

    threads: int = 1
    verbose: bool = False
    name: str = "none"
    camera: Camera | None = None
    cameras: tuple[Camera, ...] = ()
    by_room: dict[str, Camera] = field(default_factory=dict)


def load(
    path: Path | None = None,
    environment: dict[str, str] | None = None,
    flags: dict[str, object] | None = None,
) -> Settings:
    """Load the settings from what is given."""
    return config.load(
        Settings, path=path, environment=environment or {}, flags=flags or {}
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file that sets two of the settings."""
    path = tmp_path / "skerry.toml"
    path.write_text("threads = 2\nname = 'file'\n")
    return path


def test_each_layer_covers_the_one_before(file: Path) -> None:
    """Defaults < TOML < environment < flag, each setting for itself."""
    assert load() == Settings()
    assert load(file) == Settings(threads=2, name="file")
    environment = {"SKERRY_THREADS": "3", "SKERRY_VERBOSE": "true"}
    assert load(file, environment) == Settings(threads=3, verbose=True, name="file")
    flags = {"threads": 4, "name": None}
    assert load(file, environment, flags) == Settings(
        threads=4, verbose=True, name="file"
    )


def test_a_variable_of_another_program_is_left_alone() -> None:
    """Only SKERRY_ with the name of a setting counts."""
    assert load(environment={"THREADS": "3", "SKERRY_OTHER": "x"}) == Settings()


@pytest.mark.parametrize(
    ("content", "key", "meant"),
    [
        ("thread = 2", "thread", "threads"),
        ("[camera]\nname = 'a'\nfsp = 3", "camera.fsp", "fps"),
        ("[[cameras]]\nname = 'a'\n[[cameras]]\nnam = 'b'", "cameras.1.nam", "name"),
        ("[by_room.hall]\nname = 'a'\nfp = 3", "by_room.hall.fp", "fps"),
    ],
)
def test_an_unknown_key_names_the_nearest(
    tmp_path: Path, content: str, key: str, meant: str
) -> None:
    """At any depth, in `load` and in `from_table`."""
    path = tmp_path / "skerry.toml"
    path.write_text(content)
    for read in (
        lambda: load(path),
        lambda: config.from_table(Settings, config.read_toml(path), name=str(path)),
    ):
        with pytest.raises(UsageError, match=f"unknown key '{key}'") as caught:
            read()
        assert caught.value.hint == f"Did you mean {meant!r}?"
        assert str(path) in caught.value.what


def test_a_table_becomes_a_dataclass() -> None:
    """Nested tables become nested dataclasses."""
    table = {"camera": {"name": "a"}, "cameras": [{"name": "b", "fps": 1}]}
    assert config.from_table(Settings, table, name="t") == Settings(
        camera=Camera(name="a"), cameras=(Camera(name="b", fps=1.0),)
    )


@pytest.mark.parametrize(
    "table", [{"threads": "2"}, {"camera": {}}, {"cameras": {"name": "a"}}]
)
def test_a_wrong_or_missing_value_is_refused(table: dict[str, object]) -> None:
    """The message says whose table it is, the hint which keys there are."""
    with pytest.raises(UsageError, match=r"^my\.toml: ") as caught:
        config.from_table(Settings, table, name="my.toml")
    assert "threads, verbose" in caught.value.hint


@pytest.mark.parametrize(
    ("environment", "flags"),
    [({"SKERRY_THREADS": "two"}, {}), ({}, {"threads": "two"})],
)
def test_a_wrong_value_in_a_layer_is_refused(
    environment: dict[str, str], flags: dict[str, object]
) -> None:
    """The message names the setting."""
    with pytest.raises(UsageError, match="threads"):
        load(environment=environment, flags=flags)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """So is a folder in its place."""
    with pytest.raises(UsageError, match="cannot read"):
        config.read_toml(tmp_path / "none.toml")
    with pytest.raises(UsageError, match="cannot read"):
        config.read_toml(tmp_path)


def test_a_file_that_is_too_large_is_not_read_whole(tmp_path: Path) -> None:
    """One byte over the limit is enough; a file at the limit is read."""
    path = tmp_path / "large.toml"
    path.write_bytes(b"#" * config.LARGEST_TOML_BYTES)
    assert config.read_toml(path) == {}
    path.write_bytes(b"#" * (config.LARGEST_TOML_BYTES + 1))
    with pytest.raises(UsageError, match="more than"):
        config.read_toml(path)


@pytest.mark.parametrize(
    "content",
    [b"\xff", b"a = ", b"a = 1\na = 2", b"a = " + b"[" * 5000, b"a = " + b"1" * 5000],
)
def test_what_is_not_toml_is_refused(content: bytes) -> None:
    """Bytes, syntax, depth and length alike."""
    with pytest.raises(UsageError, match=r"^x\.toml is not TOML: "):
        config.parse_toml(content, name="x.toml")
