"""What a user installs works away from the source tree."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from importlib.metadata import metadata
from pathlib import Path

import skerry
from tests.system.conftest import REPOSITORY, run

IMPORT_EACH = """
import importlib, json, sys
from skerry.core.errors import MissingExtraError
outcome = {}
for name in json.loads(sys.argv[1]):
    try:
        importlib.import_module(name)
        outcome[name] = ""
    except MissingExtraError as error:
        outcome[name] = error.extra
print(json.dumps(outcome))
"""


def test_the_wheel_holds_each_file_of_the_package(wheel: Path) -> None:
    """Code, the marker of typed packages, targets and models; and no test."""
    held = set(zipfile.ZipFile(wheel).namelist())
    source = REPOSITORY / "src"
    written = {
        path.relative_to(source).as_posix()
        for path in (source / "skerry").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert written <= held
    assert {name.partition("/")[0] for name in held} == {
        "skerry",
        f"skerry-{skerry.__version__}.dist-info",
    }


def test_the_wheel_works_in_an_empty_environment(
    wheel: Path, install: Callable[[str], Path], tmp_path: Path
) -> None:
    """Every module imports, or names the extra that it needs; so does the command."""
    programs = install(str(wheel))
    version = run(programs / "skerry", "--version", cwd=tmp_path).stdout
    assert version.strip() == skerry.__version__
    assert "compress" in run(programs / "skerry", "--help", cwd=tmp_path).stdout

    modules = [
        name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for name in zipfile.ZipFile(wheel).namelist()
        if name.endswith(".py") and not name.endswith("__main__.py")
    ]
    printed = run(
        programs / "python", "-c", IMPORT_EACH, json.dumps(modules), cwd=tmp_path
    ).stdout
    outcome = json.loads(printed)
    assert outcome["skerry.app.main"] == ""
    assert all(extra == "" for name, extra in outcome.items() if ".core" in name)
    assert set(outcome.values()) <= {"", *metadata("skerry").get_all("Provides-Extra")}
