from __future__ import annotations

import pytest

from skerry.core.errors import DataError
from skerry.evolve.trust.at_rest import EXTRA_BYTES, DeviceKey, TextCipher

KEY, OTHER = DeviceKey(b"k" * 32), DeviceKey(b"o" * 32)


def test_texts_are_sealed_for_a_purpose() -> None:
    """And with what is said about them."""
    cipher = TextCipher(KEY, "outbox")
    text = cipher.seal(b"secret", b"about")
    assert b"secret" not in text
    assert len(text) == len(b"secret") + EXTRA_BYTES
    assert text != cipher.seal(b"secret", b"about")
    assert cipher.unseal(text, b"about") == b"secret"
    for other, sealed_text, about in (
        (cipher, text, b"something else"),
        (cipher, text[:-1], b"about"),
        (cipher, b"", b"about"),
        (TextCipher(KEY, "letters"), text, b"about"),
        (TextCipher(OTHER, "outbox"), text, b"about"),
    ):
        with pytest.raises(DataError):
            other.unseal(sealed_text, about)
