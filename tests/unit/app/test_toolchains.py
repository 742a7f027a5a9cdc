"""Toolchains: whole or not there, one at a time, and their errors told."""

from __future__ import annotations

import json
import threading
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from skerry.app import toolchains
from skerry.app.main import main
from skerry.app.toolchains import MARKER, Installed, Toolchain
from skerry.core.errors import StorageError, ToolchainError, UsageError

Capture = pytest.CaptureFixture[str]
PROGRAM = """
import sys
def main():
    print("echo", *sys.argv[1:])
    sys.exit(len(sys.argv) - 1)
"""
WHEEL = {
    "fake_tool.py": PROGRAM,
    "fake_tool-1.2.dist-info/METADATA": (
        "Metadata-Version: 2.1\nName: fake-tool\nVersion: 1.2\n"
    ),
    "fake_tool-1.2.dist-info/WHEEL": (
        "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    ),
    "fake_tool-1.2.dist-info/entry_points.txt": (
        "[console_scripts]\nfake-tool = fake_tool:main\n"
    ),
    "fake_tool-1.2.dist-info/RECORD": "",
}


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Toolchain:
    """A toolchain whose package is a file: no registry is asked."""
    wheel = tmp_path_factory.mktemp("wheel") / "fake_tool-1.2-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in WHEEL.items():
            archive.writestr(name, content)
    return Toolchain(
        name="fake",
        title="Fake",
        licence="MIT",
        packages=(str(wheel),),
        probe="import fake_tool; from importlib.metadata import version;"
        "print('noise'); print('fake', version('fake-tool'))",
    )


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the environments of this module stand."""
    return tmp_path_factory.mktemp("toolchains")


@pytest.fixture(scope="module")
def installed(fake: Toolchain, root: Path) -> Installed:
    """The fake toolchain, really installed."""
    return toolchains.install(fake, folder=root)


@pytest.fixture
def python_says(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Make new environments' Python a shell script."""

    def replace_python(script: str) -> None:
        def make(place: Path, toolchain: Toolchain) -> None:
            del toolchain
            python = place / "bin" / "python"
            python.parent.mkdir(parents=True, exist_ok=True)
            python.write_text(f"#!/bin/sh\n{script}\n")
            python.chmod(0o755)

        monkeypatch.setattr(toolchains, "_make_environment", make)

    return replace_python


def test_install_makes_a_whole_environment(
    fake: Toolchain, root: Path, installed: Installed
) -> None:
    """What was installed is listed with its versions and can be run."""
    assert installed.versions == "fake 1.2"
    assert installed.size_bytes > 1 << 20
    assert toolchains.list_installed(root) == [installed]
    exit_code, said = toolchains.run_in(
        fake, ["-c", "import sys; print(sys.prefix)"], timeout_s=60, folder=root
    )
    assert (exit_code, Path(said.strip())) == (0, installed.folder)


def test_install_again_changes_nothing(
    fake: Toolchain, root: Path, installed: Installed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A whole environment is found, not made anew."""
    monkeypatch.setattr(toolchains, "_make_environment", pytest.fail)
    assert toolchains.install(fake, folder=root) == installed


def test_run_passes_arguments_and_exit_code_on(
    fake: Toolchain, root: Path, installed: Installed
) -> None:
    """A program of the environment gets its arguments; its exit code comes back."""
    assert installed.name == "fake"
    assert toolchains.run_through(fake, ["fake-tool", "a b", "c"], folder=root) == 2
    assert (
        toolchains.run_through(
            fake, ["-c", "import os; os.kill(os.getpid(), 15)"], folder=root
        )
        == 128 + 15
    )
    exit_code, said = toolchains.run_in(
        fake, ["fake-tool", "once"], timeout_s=60, folder=root
    )
    assert (exit_code, toolchains.last_words(said)) == (1, "echo once")


def test_a_tool_does_not_see_our_python(
    fake: Toolchain, root: Path, installed: Installed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PYTHONPATH does not lead the tool's Python to other packages."""
    monkeypatch.setenv("PYTHONPATH", "/nowhere/ours")
    argv = ["-c", "import sys; print(sys.path)"]
    _, said = toolchains.run_in(fake, argv, timeout_s=60, folder=root)
    assert "/nowhere/ours" not in said
    assert str(installed.folder) in said


def test_a_tool_that_hangs_is_stopped(
    fake: Toolchain, root: Path, installed: Installed
) -> None:
    """What takes too long is ended, with what it started."""
    assert installed.name == "fake"
    argv = ["-c", "import subprocess; subprocess.run(['sleep', '60'])"]
    with pytest.raises(ToolchainError, match=r"longer than 0\.5 s"):
        toolchains.run_in(fake, argv, timeout_s=0.5, folder=root)


def test_a_failed_install_tells_pips_last_lines(
    fake: Toolchain, tmp_path: Path, python_says: Callable[[str], None]
) -> None:
    """The error carries what pip said, and nothing counts as installed."""
    python_says("echo first; echo 'no matching distribution' >&2; exit 3")
    with pytest.raises(ToolchainError, match=r"3: first \| no matching") as raised:
        toolchains.install(fake, folder=tmp_path)
    assert "\n" not in raised.value.what
    assert toolchains.list_installed(tmp_path) == []
    with pytest.raises(ToolchainError, match="not installed"):
        toolchains.find_python(fake, folder=tmp_path)


def test_a_half_made_environment_is_made_anew(
    fake: Toolchain, tmp_path: Path, python_says: Callable[[str], None]
) -> None:
    """Without its marker an environment is not used; the next install repairs it."""
    python_says("exit 1")
    with pytest.raises(ToolchainError):
        toolchains.install(fake, folder=tmp_path)
    python_says("echo fake 1")
    assert toolchains.install(fake, folder=tmp_path).versions == "fake 1"


@pytest.mark.parametrize("marker", [b"", b"{}", b"\xff", b"[1]", b"null"])
def test_a_damaged_marker_is_none(
    fake: Toolchain,
    tmp_path: Path,
    marker: bytes,
    python_says: Callable[[str], None],
) -> None:
    """An environment whose marker is damaged is not used."""
    python_says("echo fake 1")
    toolchains.install(fake, folder=tmp_path)
    (tmp_path / "fake" / MARKER).write_bytes(marker)
    assert toolchains.list_installed(tmp_path) == []


def test_another_description_is_another_environment(
    fake: Toolchain, tmp_path: Path, python_says: Callable[[str], None]
) -> None:
    """After an upgrade of Skerry with other pins the environment is made anew."""
    python_says("echo fake 1")
    toolchains.install(fake, folder=tmp_path)
    python_says("echo fake 2")
    newer = replace(fake, packages=("other",))
    with pytest.raises(ToolchainError, match=r"installed as .fake 1., expected other"):
        toolchains.find_python(newer, folder=tmp_path)
    assert toolchains.install(newer, folder=tmp_path).versions == "fake 2"


def test_two_installs_take_turns(
    fake: Toolchain, tmp_path: Path, python_says: Callable[[str], None]
) -> None:
    """The second install waits, then finds what the first has made."""
    calls = tmp_path / "calls"
    python_says(f"echo call >> {calls}; sleep 0.2; echo fake 1")
    words: list[str] = []
    threads = [
        threading.Thread(
            target=toolchains.install,
            args=(fake,),
            kwargs={"folder": tmp_path, "told": words.append},
        )
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert calls.read_text().split() == ["call", "call"]  # pip and the probe, once
    assert "another install of it is under way: waiting" in words


def test_a_folder_that_cannot_be_written(fake: Toolchain, tmp_path: Path) -> None:
    """A file where the folder should be is an error of the disk."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        toolchains.install(fake, folder=tmp_path / "file")


def test_where_environments_stand() -> None:
    """A variable of ours, then XDG's, then the home folder; no relative XDG path."""
    place = toolchains.toolchains_folder
    assert place({"SKERRY_TOOLCHAINS": "/a", "XDG_CACHE_HOME": "/b"}) == Path("/a")
    assert place({"XDG_CACHE_HOME": "/b"}) == Path("/b/skerry/toolchains")
    home = Path.home() / ".cache" / "skerry" / "toolchains"
    assert place({}) == place({"XDG_CACHE_HOME": "b"}) == home


def test_the_shipped_table_is_sound() -> None:
    """Each known toolchain says what it is, its licence and what it installs."""
    known = toolchains.known_toolchains()
    assert {"nncf", "onnxruntime-quantization", "openvino"} <= set(known)
    for toolchain in known.values():
        assert toolchain.title
        assert toolchain.licence
        assert toolchain.packages
        compile(toolchain.probe, toolchain.name, "exec")


@pytest.mark.parametrize(
    "text",
    [
        "x = 1",
        "[x]\ntitle = 'x'",
        "['../x']\ntitle='a'\nlicence='a'\npackages=['a']\nprobe=''",
        "['..']\ntitle='a'\nlicence='a'\npackages=['a']\nprobe=''",
        "[x]\ntitel='a'\nlicence='a'\npackages=['a']\nprobe=''",
    ],
)
def test_a_wrong_table_is_refused(text: str) -> None:
    """A table that lacks or misspells a key, or leads elsewhere, is an error."""
    with pytest.raises(UsageError):
        toolchains.read_table(text.encode(), name="t.toml")


def test_an_unknown_name_is_met_with_the_nearest() -> None:
    """A mistyped toolchain is met with the one that was meant."""
    with pytest.raises(UsageError) as raised:
        toolchains.find_toolchain("opnvino")
    assert raised.value.hint == "Did you mean 'openvino'?"


def test_commands(
    fake: Toolchain,
    root: Path,
    installed: Installed,
    monkeypatch: pytest.MonkeyPatch,
    capfd: Capture,
) -> None:
    """`ls` lists, `run` passes the exit code on, `install` says the licence."""
    monkeypatch.setenv("SKERRY_TOOLCHAINS", str(root))
    monkeypatch.setattr(toolchains, "known_toolchains", lambda: {"fake": fake})
    assert main(["toolchain", "ls", "--json"]) == 0
    row = json.loads(capfd.readouterr().out)["result"]["toolchains"][0]
    assert row["installed"]["versions"] == installed.versions
    assert main(["toolchain", "ls"]) == 0
    assert "fake 1.2" in capfd.readouterr().out
    assert main(["toolchain", "install", "fake"]) == 0
    assert "Licence: MIT." in capfd.readouterr().err
    assert main(["toolchain", "run", "fake", "--", "fake-tool", "--json"]) == 1
    assert capfd.readouterr().out == "echo --json\n"
    assert main(["toolchain", "run", "fake", "--json", "--", "fake-tool", "x"]) == 1
    shown = capfd.readouterr()
    assert json.loads(shown.out)["result"] == {"name": "fake", "exit_code": 1}
    assert shown.err == "echo x\n"
