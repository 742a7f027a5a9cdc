"""What this machine has, and what would be installed for what it has not."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from skerry.app.toolchains import known_toolchains, list_installed

_PARTS = (
    ("onnxruntime", "runtime onnxruntime", "onnxruntime"),
    ("openvino", "runtime openvino", "openvino"),
    ("ai-edge-litert", "runtime litert", "litert"),
    ("ncnn", "runtime ncnn", "ncnn"),
    ("onnx", "ONNX models: onnx", "compress"),
    ("onnx-ir", "ONNX models: onnx-ir", "compress"),
    ("pillow", "pictures: pillow", "image"),
)
"""(distribution, what it is for, extra of skerry that brings it)."""

_TOOLS = (("chromium", "chromium"),)
"""(program, Debian package): what the tests of pages look at them with."""

_CPU_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp")
"""What makes INT8 fast, as /proc/cpuinfo names it."""

CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was looked for.

    Attributes:
        part: What it is.
        ok: Whether it is there.
        found: What was found, such as a version; empty where nothing was.
        install: The command that brings it; empty where it is there.
    """

    part: str
    ok: bool
    found: str
    install: str = ""


def check_machine() -> tuple[Check, ...]:
    """Look for everything that Skerry can use; nothing heavy is imported."""
    return (
        *_check_python(),
        *_check_packages(),
        *_check_hardware(),
        *_check_tools(),
        *_check_toolchains(),
    )


def _check_python() -> Iterator[Check]:
    yield Check(part="Python", ok=True, found=platform.python_version())


def _check_packages() -> Iterator[Check]:
    for distribution, part, extra in _PARTS:
        try:
            yield Check(part=part, ok=True, found=version(distribution))
        except PackageNotFoundError:
            install = f"pip install 'skerry[{extra}]'"
            yield Check(part=part, ok=False, found="", install=install)


def _check_hardware() -> Iterator[Check]:
    flags = read_cpu_flags(CPUINFO)
    fast = [flag for flag in _CPU_FLAGS if flag in flags]
    yield Check(part="CPU", ok=True, found=" ".join([platform.machine(), *fast]))
    cores = len(os.sched_getaffinity(0))
    yield Check(part="CPU cores", ok=True, found=str(cores))
    memory_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    yield Check(part="memory", ok=True, found=f"{memory_bytes / 2**30:.1f} GiB")
    free_bytes = shutil.disk_usage(Path.cwd()).free
    yield Check(part="disk, free here", ok=True, found=f"{free_bytes / 2**30:.1f} GiB")


def _check_tools() -> Iterator[Check]:
    for program, package in _TOOLS:
        where = shutil.which(program)
        install = "" if where else f"apt-get install {package}"
        yield Check(part=program, ok=bool(where), found=where or "", install=install)


def _check_toolchains() -> Iterator[Check]:
    installed = {there.name: there.versions for there in list_installed()}
    for name in known_toolchains():
        install = "" if name in installed else f"skerry toolchain install {name}"
        yield Check(
            part=f"toolchain {name}",
            ok=name in installed,
            found=installed.get(name, ""),
            install=install,
        )


def read_cpu_flags(path: Path) -> frozenset[str]:
    """Read the CPU's feature flags; none where the system does not say.

    Args:
        path: A file in the form of Linux's /proc/cpuinfo: the line `flags` (x86) or
            `Features` (ARM).
    """
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return frozenset()
    for line in lines:
        key, _, words = line.partition(":")
        if key.strip() in {"flags", "Features"}:
            return frozenset(words.split())
    return frozenset()
