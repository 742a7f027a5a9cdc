from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from skerry.core.errors import UsageError
from skerry.edge.faces import is_loopback
from skerry.edge.gateway import GatewaySettings, run_gateway


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"host": "0.0.0.0"}, "other machines"),  # noqa: S104 - refused
        ({"host": "gateway.local"}, "other machines"),
        ({"threads": 0}, "0 threads"),
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
