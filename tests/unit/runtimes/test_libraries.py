import struct
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.core.errors import UsageError
from skerry.runtimes import libraries
from skerry.runtimes.libraries import library_abi, machine_abi
from tests.operators import FOREIGN_LIBRARY, operator_library


def elf(machine: int, *, kind: int = 3, order: int = 1) -> bytes:
    """The beginning of an ELF file."""
    head = b"\x7fELF" + bytes([2, order, 1]) + bytes(9)
    return head + struct.pack("<HH" if order == 1 else ">HH", kind, machine)


def test_a_library_says_what_machine_it_is_for() -> None:
    """In either order of bytes; a real one is for the machine it was installed on."""
    assert library_abi(elf(183)) == "linux-aarch64"
    assert library_abi(elf(40, order=2)) == "linux-arm"
    assert library_abi(FOREIGN_LIBRARY) == "linux-riscv64"
    assert library_abi(operator_library().read_bytes()) == machine_abi()


@pytest.mark.parametrize(
    "content", [b"", b"MZ", elf(183)[:19], elf(8), elf(62, kind=2)]
)
def test_what_is_no_library_is_refused(content: bytes) -> None:
    """Nothing, a program, an unknown machine, half a header."""
    with pytest.raises(UsageError, match=r"ops\.so is not a shared library"):
        library_abi(content, name="ops.so")


@given(st.binary(max_size=40) | st.binary(max_size=40).map(b"\x7fELF".__add__))
def test_any_bytes_are_answered(content: bytes) -> None:
    """With an ABI or with a refusal."""
    try:
        assert library_abi(content).startswith("linux-")
    except UsageError as error:
        assert error.hint  # noqa: PT017 - either will do


def test_where_the_interpreter_is_no_elf_the_platform_tells(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Python on another system, or one that cannot be read."""
    monkeypatch.setattr(libraries.platform, "machine", lambda: "m1")
    for executable in (__file__, "/nowhere"):
        monkeypatch.setattr(sys, "executable", executable)
        assert machine_abi() == f"{sys.platform}-m1"
