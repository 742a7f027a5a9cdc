"""What a device keeps under a key of its own: one key for each purpose, sealed texts.

Keys are made of the device's by HKDF (RFC 5869) with SHA-256, texts are sealed by
AES-256-GCM (NIST SP 800-38D) with a random nonce. One key may seal 2^32 texts (section
8.3 there).
"""

from __future__ import annotations

import secrets

from skerry.core.errors import DataError, MissingExtraError

try:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF
except ImportError as error:
    raise MissingExtraError(error.name or "cryptography", extra="gateway") from error

KEY_BYTES = 32

EXTRA_BYTES = 12 + 16
"""How much longer a sealed text is: by its nonce and its tag."""

_NONCE_BYTES = 12


class DeviceKey:
    """The key that all others of a device are made of.

    Args:
        secret: 32 bytes.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def derive(self, purpose: str, *, salt: bytes = b"") -> bytes:
        """Make the key of one purpose, 32 bytes."""
        kdf = HKDF(
            algorithm=SHA256(),
            length=KEY_BYTES,
            salt=salt,
            info=f"skerry.atrest/1/{purpose}".encode(),
        )
        return kdf.derive(self._secret)


class TextCipher:
    """Seals texts for one purpose.

    Args:
        key: The device's.
        purpose: What they are for: those of another purpose cannot stand in for them.
        salt: More that they are bound to.
    """

    def __init__(self, key: DeviceKey, purpose: str, *, salt: bytes = b"") -> None:
        self._cipher = AESGCM(key.derive(purpose, salt=salt))

    def seal(self, content: bytes, about: bytes) -> bytes:
        """Encrypt a text, and bind it to what is said about it in the clear."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, content, about)

    def unseal(self, sealed: bytes, about: bytes) -> bytes:
        """Decrypt a text.

        Raises:
            DataError: It, or what is said about it, is not what was sealed.
        """
        nonce, text = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
        if len(sealed) < EXTRA_BYTES:
            raise _damaged()
        try:
            return self._cipher.decrypt(nonce, text, about)
        except InvalidTag:
            raise _damaged() from None


def _damaged() -> DataError:
    return DataError(
        "what is sealed is damaged, or was sealed for something else",
        hint="The disk has spoilt it, or somebody has edited or moved it.",
    )
