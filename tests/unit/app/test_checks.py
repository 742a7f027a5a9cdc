"""What the doctor looks for."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from skerry.app import checks
from skerry.app.checks import Check, check_machine, read_cpu_flags


def by_part() -> dict[str, Check]:
    """All checks by what they look for."""
    return {check.part: check for check in check_machine()}


def test_this_machine() -> None:
    """What the tests run with is found, with its version."""
    found = by_part()
    assert found["ONNX models: onnx"].ok
    assert found["ONNX models: onnx"].found[0].isdigit()
    assert found["memory"].found.endswith("iB")
    assert int(found["CPU cores"].found) >= 1


def test_what_is_missing_comes_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Packages, programs and toolchains that are not there name their command."""

    def nothing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(checks, "version", nothing)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("SKERRY_TOOLCHAINS", str(tmp_path))
    missing = [check for check in check_machine() if not check.ok]
    installs = {check.install for check in missing}
    assert "pip install 'skerry[openvino]'" in installs
    assert "apt-get install chromium" in installs
    assert "skerry toolchain install nncf" in installs
    assert all(check.install and not check.found for check in missing)


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        (
            "processor: 0\nflags\t\t: fpu avx2 amx_int8\nflags: other\n",
            {"fpu", "avx2", "amx_int8"},
        ),
        ("Features\t: fp asimd asimddp\n", {"fp", "asimd", "asimddp"}),
        ("nothing here", set()),
    ],
)
def test_cpu_flags(text: str, flags: set[str], tmp_path: Path) -> None:
    """The flags are read on x86 and on ARM; none where the file says nothing."""
    path = tmp_path / "cpuinfo"
    path.write_text(text)
    assert read_cpu_flags(path) == flags
    assert read_cpu_flags(tmp_path / "none") == frozenset()
