from __future__ import annotations

from pathlib import Path

import pytest

from skerry.edge.vault import SEAL_FILE
from tests.commands import Typist

SECRET = b'{"api_token": "s3cret"}'


@pytest.fixture(autouse=True)
def _no_key_around(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SKERRY_SEAL_KEY", "CREDENTIALS_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def typed(capsys: pytest.CaptureFixture[str]) -> Typist:
    """Types commands."""
    return Typist(capsys)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A gateway's, in the clear."""
    made = tmp_path / "gw"
    made.mkdir()
    (made / "device.json").write_bytes(SECRET)
    return made


def test_a_folder_is_sealed_with_a_new_key(
    folder: Path, tmp_path: Path, typed: Typist
) -> None:
    """The key is made once; told again, it finds nothing in the clear."""
    key = tmp_path / "gw.key"
    words = ("gateway", "seal", "--folder", str(folder), "--seal-key", str(key))
    said = typed.ask(*words)
    assert (said["files"], said["level"]) == (1, "file")
    assert said["made_key"] == str(key)
    assert SECRET not in (folder / "device.json").read_bytes()
    seen = typed.see(*words)
    assert "0 files were in the clear" in seen
    assert "without it" not in seen


def test_the_key_may_be_named_around_the_command(
    tmp_path: Path, typed: Typist, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the folder may be new."""
    folder, key = tmp_path / "new", tmp_path / "gw.key"
    monkeypatch.setenv("SKERRY_SEAL_KEY", str(key))
    assert "without it nothing in the folder can be" in typed.see(
        "gateway", "seal", "--folder", str(folder)
    )
    assert (folder / SEAL_FILE).is_file()


def test_without_a_key_nothing_is_sealed(folder: Path, typed: Typist) -> None:
    """It says how to name one."""
    error = typed.ask("gateway", "seal", "--folder", str(folder), code=2)
    assert error["what"] == "there is no key to seal with"
    assert (folder / "device.json").read_bytes() == SECRET


def test_a_gateway_with_a_key_and_a_folder_in_the_clear(
    folder: Path, tmp_path: Path, typed: Typist
) -> None:
    """It does not vouch for what it finds; and one without the key does not start."""
    key = tmp_path / "gw.key"
    seal = ("gateway", "seal", "--folder", str(tmp_path / "x"), "--seal-key", str(key))
    typed.ask(*seal)
    run = ("gateway", "run", "--folder", str(folder))
    error = typed.ask(*run, "--seal-key", str(key), code=2)
    assert "is not sealed, and a key is given" in error["what"]
    typed.ask("gateway", "seal", "--folder", str(folder), "--seal-key", str(key))
    error = typed.ask(*run, code=51)
    assert "the key is not here" in error["what"]
