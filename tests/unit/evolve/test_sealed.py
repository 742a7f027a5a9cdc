from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.core.errors import TrustError
from skerry.evolve.trust.sealed import seal, unseal

PASSPHRASE = b"correct horse battery"


@given(st.binary(max_size=200))
def test_what_was_not_sealed_is_not_opened(content: bytes) -> None:
    """Whatever the bytes, they are refused and nothing else happens."""
    with pytest.raises(TrustError):
        unseal(content, PASSPHRASE)


def test_what_is_sealed_is_opened_whole_or_not() -> None:
    """The passphrase opens it; each changed byte is noticed."""
    sealed = seal(b"secret", PASSPHRASE)
    assert unseal(sealed, PASSPHRASE) == b"secret"
    for at in (0, 20, 40, len(sealed) - 1):
        changed = bytearray(sealed)
        changed[at] ^= 1
        with pytest.raises(TrustError):
            unseal(bytes(changed), PASSPHRASE)
