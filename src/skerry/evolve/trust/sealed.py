"""Secrets under a passphrase: scrypt makes the key, AES-256-GCM seals.

scrypt (RFC 7914) with N = 2^15, r = 8, p = 1 takes 32 MiB and a tenth of a second for
each guess; AES-GCM (NIST SP 800-38D) notices a wrong key and a changed byte alike. What
is sealed begins with its format, so that stronger parameters can come later:
format, 16 bytes of salt, 12 of nonce, then the ciphertext with its tag.
"""

from __future__ import annotations

import hashlib
import secrets

from skerry.core.errors import MissingExtraError, TrustError, UsageError

try:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
except ImportError as error:
    raise MissingExtraError(error.name or "cryptography", extra="gateway") from error

SHORTEST_PASSPHRASE = 12
"""Fewest bytes of a passphrase."""

_FORMAT = b"skerry.sealed/1\n"
_SALT_BYTES, _NONCE_BYTES = 16, 12
_SCRYPT = {"n": 1 << 15, "r": 8, "p": 1, "maxmem": 64 << 20, "dklen": 32}


def seal(content: bytes, passphrase: bytes) -> bytes:
    """Encrypt with a passphrase; twice the same content gives two texts.

    Raises:
        UsageError: The passphrase is too short.
    """
    if len(passphrase) < SHORTEST_PASSPHRASE:
        raise UsageError(
            f"the passphrase has {len(passphrase)} bytes, {SHORTEST_PASSPHRASE} or "
            "more expected",
            hint="Make one: openssl rand -base64 24.",
        )
    salt, nonce = secrets.token_bytes(_SALT_BYTES), secrets.token_bytes(_NONCE_BYTES)
    cipher = AESGCM(hashlib.scrypt(passphrase, salt=salt, **_SCRYPT))
    return _FORMAT + salt + nonce + cipher.encrypt(nonce, content, _FORMAT)


def unseal(sealed: bytes, passphrase: bytes) -> bytes:
    """Decrypt what `seal` made.

    Raises:
        TrustError: `untrusted`: the passphrase is another one, or a byte was changed.
    """
    salt_at, nonce_at = len(_FORMAT), len(_FORMAT) + _SALT_BYTES
    text_at = nonce_at + _NONCE_BYTES
    salt, nonce = sealed[salt_at:nonce_at], sealed[nonce_at:text_at]
    if not sealed.startswith(_FORMAT) or len(nonce) != _NONCE_BYTES:
        raise _wrong()
    cipher = AESGCM(hashlib.scrypt(passphrase, salt=salt, **_SCRYPT))
    try:
        return cipher.decrypt(nonce, sealed[text_at:], _FORMAT)
    except InvalidTag:
        raise _wrong() from None


def _wrong() -> TrustError:
    return TrustError(
        "the passphrase does not open what is sealed, or that is damaged",
        hint="Give the file with the passphrase that it was sealed with.",
    )
