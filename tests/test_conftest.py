"""A skip is a failure where everything is required, and only there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SKIPS = {
    "in the test": "import pytest\ndef test_it(): pytest.skip('no cat')",
    "by a mark": "import pytest\n@pytest.mark.skip(reason='no cat')\ndef test_it(): 1",
    "of the file": "import pytest\npytest.importorskip('no_cat_of_that_name')",
    "by a fixture": (
        "import pytest\n@pytest.fixture\ndef cat(): pytest.skip('no cat')\n"
        "def test_it(cat): 1"
    ),
}


def _run(folder: Path, source: str, require_all: str) -> tuple[int, str]:
    (folder / "conftest.py").write_text(
        Path(__file__).with_name("conftest.py").read_text()
    )
    (folder / "test_it.py").write_text(source)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "test_it.py"],
        cwd=folder,
        env={**os.environ, "SKERRY_REQUIRE_ALL": require_all},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize("kind", SKIPS)
def test_a_skip_is_a_failure_where_all_is_required(tmp_path: Path, kind: str) -> None:
    """The run fails and names the test and the reason."""
    returncode, output = _run(tmp_path, SKIPS[kind], "1")
    assert returncode != 0
    assert "test_it.py" in output
    assert "SKERRY_REQUIRE_ALL=1" in output
    assert "no cat" in output or "no_cat" in output


def test_a_skip_is_fine_elsewhere(tmp_path: Path) -> None:
    """A machine without all parts can still run the rest."""
    returncode, output = _run(tmp_path, SKIPS["in the test"], "0")
    assert returncode == 0
    assert "1 skipped" in output


def test_an_expected_failure_is_no_skip(tmp_path: Path) -> None:
    """An xfail is reported as skipped inside pytest, but it did run."""
    source = "import pytest\n@pytest.mark.xfail\ndef test_it(): assert False"
    returncode, output = _run(tmp_path, source, "1")
    assert returncode == 0
    assert "1 xfailed" in output
