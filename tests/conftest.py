"""For all tests: no setting of the caller's leaks in, and no skip goes unseen."""

from __future__ import annotations

import logging
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

REQUIRE_ALL = "SKERRY_REQUIRE_ALL"
"""Set to 1, it makes a skipped test a failure that says why it was skipped."""

# Some tests import onnxruntime past its door, which would keep it from reporting.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# Tests run beside one another: threads that wait for a core would only be in the way.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell without job control makes what it starts in the background deaf to Ctrl-C, and
# so would everything be that tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

_real_data = os.environ.get("SKERRY_DATA")
_NO_DATA = "SKERRY_DATA is not set"
"""Why a test on real models is left out: no run can require what lies outside."""

_require_all = os.environ.get(REQUIRE_ALL) == "1"

# A busy machine is no fault of the code. What CI finds can be found again at home.
hypothesis.settings.register_profile(
    "skerry",
    deadline=None,
    derandomize=os.environ.get("CI") == "true",
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("skerry")


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """Leave logging as it was: a command sends it to the standard error of its test."""
    root, ours = logging.getLogger(), logging.getLogger("skerry")
    before = (root.handlers, root.level, ours.level)
    yield
    root.handlers = before[0]
    root.setLevel(before[1])
    ours.setLevel(before[2])


_SYSTEM = "system"

_UNMEASURED = {"architecture", "fleet", "fuzz", "property", _SYSTEM}
"""Folders of tests that do much the same many times, or in other processes: they are
not traced for coverage, which would take as long again. What is covered is so by the
tests that remain."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Say what is not measured, and keep real processes where the Makefile finds them.

    Raises:
        pytest.UsageError: A test of real processes lies elsewhere.
    """
    tests = Path(__file__).parent
    for item in items:
        place = item.path.relative_to(tests).parts
        if place[0] in _UNMEASURED:
            item.add_marker(pytest.mark.no_cover)
        if item.get_closest_marker(_SYSTEM) and place[0] != _SYSTEM:
            raise pytest.UsageError(f"{item.nodeid} belongs into tests/{_SYSTEM}")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Half as many workers again as cores: a third of a test's time it waits."""
    return max(1, (os.cpu_count() or 1) * 3 // 2)


CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    """Turn the skip of a test into a failure where everything is required."""
    report = yield
    if not hasattr(report, "wasxfail"):
        _fail_if_skipped(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Iterator[None]:
    """Turn the skip of a whole file into a failure where everything is required."""
    report = yield
    _fail_if_skipped(report)
    return report


def _fail_if_skipped(report: pytest.TestReport | pytest.CollectReport) -> None:
    if _require_all and report.skipped:
        reason = report.longrepr[-1] if report.longrepr else "no reason given"
        if _NO_DATA in reason:
            return
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid} was left out, and {REQUIRE_ALL}=1: {reason}"


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        # pytest-xdist sets the width of a terminal, which is none for who reads a pipe.
        if name.startswith("SKERRY_") or name == "COLUMNS":
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real models and data; a test on them is skipped without it."""
    if not _real_data:
        pytest.skip(_NO_DATA)
    return Path(_real_data)


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a Chromium; a test that needs one is skipped where there is none."""
    for name in CHROMIUMS:
        found = shutil.which(name)
        if found:
            return found
    pytest.skip(f"needs one of {', '.join(CHROMIUMS)}")
