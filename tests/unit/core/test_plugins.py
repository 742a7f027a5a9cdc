from __future__ import annotations

import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from skerry.core import plugins
from skerry.core.errors import StateError, UsageError


@pytest.fixture
def third_party(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install a package that registers a good runtime and two broken ones."""
    (tmp_path / "theirs.py").write_text("class Fast: name = 'fast'\n")
    about = tmp_path / "theirs-1.0.dist-info"
    about.mkdir()
    metadata = "Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n"
    (about / "METADATA").write_text(metadata)
    (about / "entry_points.txt").write_text(
        "[skerry.runtimes]\n"
        "fast = theirs:Fast\n"
        "renamed = theirs:Gone\n"
        "lost = no_module_of_that_name:Fast\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "theirs", raising=False)


@pytest.mark.parametrize("group", [plugins.RUNTIMES, plugins.STEPS])
def test_our_own_parts_are_found_like_any_other(group: str) -> None:
    """What Skerry ships is registered as entry points and listed sorted."""
    ours = sorted(point.name for point in entry_points(group=group))
    assert plugins.names(group) == ours != []


@pytest.mark.usefixtures("third_party")
def test_a_part_of_a_third_party_is_found() -> None:
    """Its class is imported by the name it was registered under."""
    assert "fast" in plugins.names(plugins.RUNTIMES)
    assert plugins.find(plugins.RUNTIMES, "fast").name == "fast"  # type: ignore[attr-defined]


@pytest.mark.usefixtures("third_party")
@pytest.mark.parametrize("name", ["renamed", "lost"])
def test_a_part_that_cannot_be_imported_is_an_error_of_ours(name: str) -> None:
    """The message names the part and where it should have been."""
    with pytest.raises(StateError, match=f"the runtime '{name}' cannot be imported"):
        plugins.find(plugins.RUNTIMES, name)


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    """The error speaks of the kind of part that was asked for."""
    with pytest.raises(UsageError, match="no runtime called 'onxruntime'") as caught:
        plugins.find(plugins.RUNTIMES, "onxruntime")
    assert caught.value.hint == "Did you mean 'onnxruntime'?"


def test_a_kind_of_two_words_is_spoken_of_as_such() -> None:
    """Steps that train are a group of their own."""
    with pytest.raises(UsageError, match="there is no train step called 'quantize'"):
        plugins.find(plugins.TRAIN_STEPS, "quantize")
