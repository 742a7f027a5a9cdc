"""A skip is a failure where everything is required, and only there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SKIPS = {
    "in_it": "import pytest\ndef test_it(): pytest.skip('no cat')",
    "by_a_mark": "import pytest\n@pytest.mark.skip(reason='no cat')\ndef test_it(): 1",
    "of_the_file": "import pytest\npytest.importorskip('no_cat_of_that_name')",
    "by_a_fixture": (
        "import pytest\n@pytest.fixture\ndef cat(): pytest.skip('no cat')\n"
        "def test_it(cat): 1"
    ),
}


def _run(folder: Path, require_all: str, **sources: str) -> tuple[int, str]:
    """Run tests, each in a file of its own; whether all is well, and what is said."""
    (folder / "conftest.py").write_text(
        Path(__file__).with_name("conftest.py").read_text()
    )
    for name, source in sources.items():
        (folder / f"test_{name}.py").write_text(source)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider"),
            *("-ra", "--continue-on-collection-errors"),
        ],
        cwd=folder,
        env={
            **os.environ,
            "SKERRY_REQUIRE_ALL": require_all,
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def test_a_skip_is_a_failure_where_all_is_required(tmp_path: Path) -> None:
    """The run fails and names each test and the reason."""
    returncode, output = _run(tmp_path, "1", **SKIPS, fine="def test_it(): pass")
    assert returncode != 0
    for name in SKIPS:
        assert f"test_{name}.py" in output.partition("short test summary")[2]
    assert output.count("SKERRY_REQUIRE_ALL=1: ") >= len(SKIPS)
    assert "no cat" in output
    assert "no_cat" in output


def test_a_skip_is_fine_elsewhere(tmp_path: Path) -> None:
    """A machine without all parts can still run the rest; an xfail did run."""
    xfail = "import pytest\n@pytest.mark.xfail\ndef test_it(): assert False"
    returncode, output = _run(tmp_path, "0", skipped=SKIPS["in_it"], failing=xfail)
    assert returncode == 0
    assert "1 skipped, 1 xfailed" in output


def test_an_expected_failure_is_no_skip(tmp_path: Path) -> None:
    """An xfail is reported as skipped inside pytest, but it did run."""
    source = "import pytest\n@pytest.mark.xfail\ndef test_it(): assert False"
    returncode, output = _run(tmp_path, "1", failing=source)
    assert returncode == 0
    assert "1 xfailed" in output
