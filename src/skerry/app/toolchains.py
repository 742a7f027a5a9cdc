"""Toolchains: vendors' tools, each in a virtual environment of its own.

An environment cannot be moved, so it is built where it will stand; what says that it is
whole is a marker file, written last. An environment without a marker that fits its
description is not used and is made anew. Two installs of the same one at the same time
take turns.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import venv
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import IO

import msgspec

from skerry.core.config import from_table, parse_toml
from skerry.core.durable import make_folder, storage_errors, write_file
from skerry.core.errors import ToolchainError, UsageError
from skerry.core.names import did_you_mean

FOLDER_VARIABLE = "SKERRY_TOOLCHAINS"
INSTALL_TIMEOUT_S = 1800.0
PROBE_TIMEOUT_S = 120.0
MARKER = "skerry-toolchain.json"
LAST_LINES = 12
"""How much of what a failed tool said is told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Toolchain:
    """How to make an environment.

    Attributes:
        name: What the command line calls it.
        title: One line for people.
        licence: The licence of what is installed, as SPDX names it.
        packages: What pip installs.
        probe: Python code that prints one line, the versions.
    """

    name: str
    title: str
    licence: str
    packages: tuple[str, ...]
    probe: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """An environment that is whole.

    Attributes:
        name: Its name.
        folder: Where it stands.
        versions: What its probe printed.
        size_bytes: Of all its files.
    """

    name: str
    folder: Path
    versions: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Marker:
    toolchain: Toolchain
    versions: str
    size_bytes: int


def read_table(content: bytes, *, name: str) -> dict[str, Toolchain]:
    """Read descriptions of toolchains from TOML, one table each.

    Raises:
        UsageError: It is not TOML, or a table lacks or misspells a key.
    """
    found = {}
    for key, table in parse_toml(content, name=name).items():
        place = f"{name}: {key}"
        if not isinstance(table, dict) or key in {"", ".", ".."} or "/" in key:
            raise UsageError(
                f"{place} is not a toolchain", hint="Write one table a toolchain."
            )
        found[key] = from_table(Toolchain, {**table, "name": key}, name=place)
    return found


def known_toolchains() -> dict[str, Toolchain]:
    """The toolchains that ship with Skerry, by name."""
    file = resources.files("skerry.app").joinpath("toolchains.toml")
    return read_table(file.read_bytes(), name="toolchains.toml")


def find_toolchain(name: str) -> Toolchain:
    """Look a known toolchain up.

    Raises:
        UsageError: There is none of that name.
    """
    known = known_toolchains()
    if name not in known:
        raise UsageError(
            f"there is no toolchain called {name!r}", hint=did_you_mean(name, known)
        )
    return known[name]


def toolchains_folder(environment: Mapping[str, str]) -> Path:
    """Say where the environments stand.

    Args:
        environment: `SKERRY_TOOLCHAINS` names the folder; else it is in the user's
            cache (XDG Base Directory Specification).
    """
    if given := environment.get(FOLDER_VARIABLE):
        return Path(given).absolute()
    cache = Path(environment.get("XDG_CACHE_HOME", ""))
    # The specification says to ignore a path that is not absolute.
    root = cache if cache.is_absolute() else Path.home() / ".cache"
    return root / "skerry" / "toolchains"


def install(
    toolchain: Toolchain,
    *,
    folder: Path | None = None,
    told: Callable[[str], None] | None = None,
    timeout_s: float = INSTALL_TIMEOUT_S,
) -> Installed:
    """Make an environment, or find that it is there already.

    Args:
        toolchain: What to install.
        folder: Where environments stand; `toolchains_folder` says if None.
        told: Told of what is under way.
        timeout_s: Most time for pip.

    Raises:
        StorageError: The disk refused.
        ToolchainError: pip or the probe failed; the environment is not used.
    """
    root = folder or toolchains_folder(os.environ)
    make_folder(root)
    place = root / toolchain.name
    say = told or (lambda _: None)
    with _lock(root / f".{toolchain.name}.lock", say):
        if there := _read_marker(place, toolchain):
            return there
        say(f"making the environment {place}")
        _make_environment(place, toolchain)
        say(f"installing {', '.join(toolchain.packages)}")
        _pip(place, toolchain, timeout_s)
        say("probing")
        versions = _probe(place, toolchain)
        size_bytes = _measure(place)
        marker = _Marker(toolchain=toolchain, versions=versions, size_bytes=size_bytes)
        write_file(place / MARKER, msgspec.json.encode(marker))
        return _installed(place, marker)


def list_installed(folder: Path | None = None) -> list[Installed]:
    """List the environments that are whole, by name; those of unknown names too."""
    root = folder or toolchains_folder(os.environ)
    places = sorted(root.iterdir()) if root.is_dir() else []
    return [there for place in places if (there := _read_marker(place, None))]


def find_python(toolchain: Toolchain, *, folder: Path | None = None) -> Path:
    """Say where the Python of an installed environment is.

    Raises:
        ToolchainError: The environment is not installed, or only half of it is.
    """
    return _python(find_installed(toolchain, folder=folder).folder)


def find_installed(toolchain: Toolchain, *, folder: Path | None = None) -> Installed:
    """Say what of a toolchain is installed.

    Raises:
        ToolchainError: The environment is not installed, only half of it is, or one of
            other versions.
    """
    place = (folder or toolchains_folder(os.environ)) / toolchain.name
    there = _read_marker(place, toolchain)
    if there is None:
        other = _read_marker(place, None)
        found = f"installed as {other.versions!r}" if other else "not installed"
        wanted = f", expected {', '.join(toolchain.packages)}" if other else ""
        raise ToolchainError(
            f"the toolchain {toolchain.name!r} is {found}{wanted}",
            hint=f"skerry toolchain install {toolchain.name}",
        )
    return there


def run_in(
    toolchain: Toolchain,
    argv: Sequence[str],
    *,
    timeout_s: float,
    folder: Path | None = None,
) -> tuple[int, str]:
    """Run a tool with files in and out.

    Args:
        toolchain: An installed one.
        argv: What follows its Python: a script's path and its arguments, or
            `-m module …`. A first word that is a program of the environment, such as
            `ovc`, is run instead of Python.
        timeout_s: Most time it may take.
        folder: Where environments stand; `toolchains_folder` says if None.

    Returns:
        Its exit code, and what it printed on both streams.

    Raises:
        ToolchainError: The environment is not installed, or the tool took too long.
    """
    command = command_in(toolchain, argv, folder=folder)
    return _try(command, toolchain.name, timeout_s, hint="Is the input too large?")


def run_through(
    toolchain: Toolchain,
    argv: Sequence[str],
    *,
    stdout: IO[str] | None = None,
    folder: Path | None = None,
) -> int:
    """Run a tool on this process's own streams.

    Args:
        toolchain: An installed one.
        argv: As for `run_in`.
        stdout: Where its output goes instead of this process's.
        folder: Where environments stand; `toolchains_folder` says if None.

    Returns:
        Its exit code; 128 + N where signal N ended it, as shells say it.

    Raises:
        ToolchainError: The environment is not installed.
    """
    command = command_in(toolchain, argv, folder=folder)
    done = subprocess.run(command, stdout=stdout, env=_environment(), check=False)
    return done.returncode if done.returncode >= 0 else 128 - done.returncode


def command_in(
    toolchain: Toolchain, argv: Sequence[str], *, folder: Path | None = None
) -> list[str]:
    """Write the command line that runs a tool in its environment.

    Raises:
        ToolchainError: The environment is not installed.
    """
    python = find_python(toolchain, folder=folder)
    program = python.parent / argv[0] if argv else python
    if argv and Path(argv[0]).name == argv[0] and program.is_file():
        return [str(program), *argv[1:]]
    return [str(python), *argv]


def _python(place: Path) -> Path:
    return place / "bin" / "python"


def _environment() -> dict[str, str]:
    """This process's environment, less what would lead Python out of the other."""
    kept = {"PYTHONNOUSERSITE": "1", **os.environ}
    for name in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"):
        kept.pop(name, None)
    return kept


def _read_marker(place: Path, toolchain: Toolchain | None) -> Installed | None:
    """The environment there, if it is whole and of this description."""
    try:
        marker = msgspec.json.decode((place / MARKER).read_bytes(), type=_Marker)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None
    if toolchain is not None and marker.toolchain != toolchain:
        return None
    return _installed(place, marker) if _python(place).exists() else None


def _installed(place: Path, marker: _Marker) -> Installed:
    return Installed(
        name=marker.toolchain.name,
        folder=place,
        versions=marker.versions,
        size_bytes=marker.size_bytes,
    )


def _make_environment(place: Path, toolchain: Toolchain) -> None:
    with storage_errors(place):
        # What an interrupted install left, or one of another description.
        if place.exists():
            shutil.rmtree(place)
        try:
            venv.create(place, with_pip=True, symlinks=True)
        except subprocess.CalledProcessError as error:
            raise ToolchainError(
                f"{toolchain.name}: Python cannot make an environment with pip",
                hint="Install its venv module (Debian: apt-get install python3-venv).",
            ) from error


def _pip(place: Path, toolchain: Toolchain, timeout_s: float) -> None:
    flags = ["--quiet", "--no-input", "--disable-pip-version-check"]
    command = [str(_python(place)), "-m", "pip", "install", *flags]
    _call(
        [*command, *toolchain.packages],
        toolchain.name,
        timeout_s,
        hint="Check the network and the free space, and run it again.",
    )


def _probe(place: Path, toolchain: Toolchain) -> str:
    said = _call(
        [str(_python(place)), "-c", toolchain.probe],
        toolchain.name,
        PROBE_TIMEOUT_S,
        hint="It is installed but does not start; this machine may lack a library.",
    )
    return (said.strip().splitlines() or [""])[-1]


def last_words(said: str) -> str:
    """The last lines of what a tool printed, in one."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return " | ".join(lines[-LAST_LINES:]) or "it said nothing"


def _call(command: Sequence[str], name: str, timeout_s: float, *, hint: str) -> str:
    exit_code, said = _try(command, name, timeout_s, hint=hint)
    if exit_code != 0:
        raise ToolchainError(
            f"{name}: exit code {exit_code}: {last_words(said)}", hint=hint
        )
    return said


def _try(
    command: Sequence[str], name: str, timeout_s: float, *, hint: str
) -> tuple[int, str]:
    try:
        return _finish(command, timeout_s)
    except subprocess.TimeoutExpired as error:
        raise ToolchainError(
            f"{name}: took longer than {timeout_s:g} s and was stopped", hint=hint
        ) from error
    except OSError as error:
        raise ToolchainError(
            f"{name}: cannot start {command[0]}: {error.strerror or error}", hint=hint
        ) from error


def _finish(command: Sequence[str], timeout_s: float) -> tuple[int, str]:
    """Run a command to its end, or end it with all that it started."""
    with subprocess.Popen(
        command,
        env=_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        encoding="utf-8",
        errors="replace",
    ) as started:
        try:
            said, _ = started.communicate(timeout=timeout_s)
        except BaseException:
            os.killpg(started.pid, signal.SIGKILL)
            raise
    return started.returncode, said


def _measure(place: Path) -> int:
    files = (Path(root, name) for root, _, names in os.walk(place) for name in names)
    return sum(file.lstat().st_size for file in files)


@contextmanager
def _lock(path: Path, say: Callable[[str], None]) -> Iterator[None]:
    with storage_errors(path):
        file = path.open("w")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another install of it is under way: waiting")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
