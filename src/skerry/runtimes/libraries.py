"""Libraries of operators: which machine a shared library is for, and which this is.

The machine is read from the header of an ELF file (System V ABI, chapter 4, "ELF
Header"): `e_machine`, two bytes at offset 18.
"""

from __future__ import annotations

import platform
import struct
import sys
from pathlib import Path

from skerry.core.errors import UsageError

_MAGIC = b"\x7fELF"
_HEAD_BYTES = 20
_LITTLE, _BIG = 1, 2
_SHARED = 3
_MACHINES = {
    3: "i386",
    40: "arm",
    62: "x86_64",
    183: "aarch64",
    243: "riscv64",
}


def library_abi(content: bytes, *, name: str = "the library") -> str:
    r"""Tell the ABI that a shared library is for, as a release names it.

    Example:
        >>> header = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9) + b"\x03\x00\xb7\x00"
        >>> library_abi(header)
        'linux-aarch64'

    Raises:
        UsageError: It is not a shared library, or of a machine that we do not know.
    """
    kind, machine = _elf(content)
    if kind != _SHARED or machine not in _MACHINES:
        raise UsageError(
            f"{name} is not a shared library of Linux for a machine known here",
            hint=f"Known are {', '.join(_MACHINES.values())}: give a .so for one.",
        )
    return f"linux-{_MACHINES[machine]}"


def machine_abi() -> str:
    """The ABI of this process, such as `linux-x86_64`.

    It is that of the interpreter, which may be of 32 bits on a kernel of 64.
    """
    try:
        with Path(sys.executable).open("rb") as file:
            _, machine = _elf(file.read(_HEAD_BYTES))
    except OSError:
        machine = 0
    return f"{sys.platform}-{_MACHINES.get(machine, platform.machine())}"


def _elf(head: bytes) -> tuple[int, int]:
    """What kind of file, and for which machine; zeros where it is not ELF."""
    order = head[5] if len(head) >= _HEAD_BYTES else 0
    if not head.startswith(_MAGIC) or order not in {_LITTLE, _BIG}:
        return 0, 0
    kind, machine = struct.unpack_from("<HH" if order == _LITTLE else ">HH", head, 16)
    return kind, machine
