from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from skerry.core.errors import UsageError
from skerry.edge import faces
from skerry.edge.faces import is_loopback
from skerry.edge.gateway import GatewaySettings, run_gateway
from skerry.edge.vault import Lend
from skerry.edge.workers import Limits, WorkerPool


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"host": "0.0.0.0"}, "other machines"),  # noqa: S104 - refused
        ({"host": "gateway.local"}, "other machines"),
        ({"threads": 0}, "0 threads"),
        ({"memory_limit_mb": 0}, "more than 0"),
        ({"memory_limit_mb": float("nan")}, "more than 0"),
        ({"memory_limit_mb": 90, "isolation": "thread"}, "there are none"),
        ({}, "no gateway has been enrolled"),
        ({"token": "t"}, "no gateway has been enrolled"),
    ],
)
def test_settings_that_make_no_gateway(
    tmp_path: Path, settings: dict[str, object], what: str
) -> None:
    """Each is refused before anything is listened on."""
    made = GatewaySettings(folder=tmp_path, **settings)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=what):
        asyncio.run(run_gateway(made))


@pytest.mark.parametrize(("limit_mb", "limit_bytes"), [(90.5, 90_500_000), (None, 0)])
def test_the_memory_limit_is_that_of_each_model(
    limit_mb: float | None,
    limit_bytes: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without one, a worker's own default holds."""
    given: list[Limits | None] = []

    class Pool(WorkerPool):
        def __init__(self, *, limits: Limits | None = None, lend: Lend) -> None:
            given.append(limits)
            super().__init__(limits=limits, lend=lend)

    monkeypatch.setattr(faces, "WorkerPool", Pool)
    made = GatewaySettings(folder=tmp_path, memory_limit_mb=limit_mb)
    with pytest.raises(UsageError, match="enrolled"):
        asyncio.run(run_gateway(made))
    assert given == [Limits(memory_bytes=limit_bytes) if limit_bytes else None]


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),  # noqa: S104 - only read
        ("10.0.0.1", False),
        ("example.org", False),
    ],
)
def test_loopback_is_known(host: str, *, expected: bool) -> None:
    """By its address, or by its one name."""
    assert is_loopback(host) == expected


def test_secrets_are_not_shown(tmp_path: Path) -> None:
    """Settings may be logged."""
    shown = repr(GatewaySettings(folder=tmp_path, token="t0p", serve_token="s3cret"))  # noqa: S106 - no secrets
    assert "t0p" not in shown
    assert "s3cret" not in shown
