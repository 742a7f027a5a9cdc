"""What a device is told to run, signed by the hub's online key.

The hub is to its devices what the director is to the ECUs of a vehicle (Uptane Standard
2.1.0, section 5.2.3): it says which of the publisher's releases which device runs. Its
signature is over the canonical JSON of what is said, to whom, and when, so that an
instruction cannot be forged by whoever carries it, replayed later, or sent to another
device. The keys are those that the root names for `timestamp`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from skerry.core.documents import Json, to_json
from skerry.core.errors import MissingExtraError
from skerry.core.release import Reason
from skerry.evolve.trust.metadata import (
    read_metadata,
    refusal,
    trust_errors,
)
from skerry.evolve.trust.signing import load_signer

try:
    from securesystemslib.signer import Signature
    from tuf.api.metadata import Root
except ImportError as error:
    raise MissingExtraError(error.name or "tuf", extra="gateway") from error

INSTRUCTIONS_SCHEMA = "skerry.instructions/1"

_ROLE = "timestamp"
_MOST_SIGNATURES = 8
_LATEST_MS = 1 << 53


class _Signature(msgspec.Struct, frozen=True):
    keyid: str
    sig: str


class _Signed(msgspec.Struct, frozen=True):
    at_ms: int
    signatures: tuple[_Signature, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Instructions:
    """What a device is told; all of it is signed.

    Attributes:
        tenant: Whose device it is.
        device: Its name.
        version: The version of its shadow.
        desired: The desired side of its shadow.
        at_ms: When it was signed, milliseconds since 1970.
    """

    tenant: str
    device: str
    version: int
    desired: Mapping[str, Json]
    at_ms: int

    def payload(self) -> bytes:
        """The bytes that are signed."""
        return to_json(self, schema=INSTRUCTIONS_SCHEMA)


def sign_instructions(instructions: Instructions, *, hub_key: bytes) -> dict[str, Json]:
    """Sign instructions.

    Args:
        instructions: What is said.
        hub_key: The hub's private key.

    Returns:
        What stands beside them in the message, under `signed`.

    Raises:
        UsageError: That is no such key.
    """
    signature = load_signer(hub_key).sign(instructions.payload())
    signatures: Json = [{"keyid": signature.keyid, "sig": signature.signature}]
    return {"at_ms": instructions.at_ms, "signatures": signatures}


def verify_instructions(
    root: bytes,
    body: Mapping[str, Any],
    *,
    tenant: str,
    device: str,
) -> Instructions | None:
    """Verify the body of a message to a device.

    Args:
        root: The newest root that the device trusts.
        body: `{"version": …, "desired": {…}, "signed": {…}}`.
        tenant: Whose device it is.
        device: Its name.

    Returns:
        The instructions; None where nobody signed them.

    Raises:
        TrustError: They are signed by somebody else, for another device, or damaged.
    """
    said = body.get("signed")
    if said is None:
        return None
    with trust_errors("what the hub signed"):
        signed = msgspec.convert(said, _Signed)
        is_sane = 0 < signed.at_ms < _LATEST_MS
        if not is_sane or len(signed.signatures) > _MOST_SIGNATURES:
            raise ValueError("it makes no sense")
        instructions = Instructions(
            tenant=tenant,
            device=device,
            version=msgspec.convert(body.get("version"), int),
            desired=msgspec.convert(body.get("desired"), dict[str, Any]),
            at_ms=signed.at_ms,
        )
        payload = instructions.payload()
        signatures = {
            one.keyid: Signature(one.keyid, one.sig) for one in signed.signatures
        }
        keys = read_metadata(root, Root, name="the root").signed
        if keys.get_verification_result(_ROLE, payload, signatures):
            return instructions
    raise refusal(
        Reason.UNTRUSTED,
        f"what {device} is told to run is not signed, for it, by a hub that it trusts",
    )


def online_keys(root: bytes) -> tuple[str, ...]:
    """The ids of the keys whose instructions a root allows, in order.

    Raises:
        TrustError: It is damaged.
    """
    role = read_metadata(root, Root, name="the root").signed.roles[_ROLE]
    return tuple(sorted(role.keyids))
