import contextlib
import os
import re

import pytest

from skerry.runtimes._stderr import captured_stderr

TALK = re.compile("lib: ")


def test_a_librarys_lines_are_taken_and_others_handed_on(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Also when what was captured ends in an error; afterwards all is as it was."""
    with captured_stderr(TALK) as said:
        os.write(2, b"lib: one\nmine\nlib: two\n")
    assert said == ["lib: one", "lib: two"]
    with contextlib.suppress(ZeroDivisionError), captured_stderr(TALK) as said:
        os.write(2, b"lib: three\n")
        raise ZeroDivisionError
    assert said == ["lib: three"]
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "mine\nafter\n"


def test_a_process_without_standard_error_loads_too() -> None:
    """A daemon may have closed it: there is nothing to capture then."""
    kept = os.dup(2)
    os.close(2)
    try:
        with captured_stderr(TALK) as said:
            pass
    finally:
        os.dup2(kept, 2)
        os.close(kept)
    assert said == []
