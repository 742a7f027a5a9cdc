"""What a local client and the service say to each other over a Unix socket.

The socket keeps packets apart (`SOCK_SEQPACKET`, unix(7)). The client begins with
`Hello`; the service answers with `Welcome` and the descriptor of a slot, a piece of
anonymous memory (memfd_create(2)) that the service has made and sealed, so that nobody
can cut it short and nothing is left of it when both have gone. A request is the JSON of
the Open Inference Protocol with `model_name` and `model_version`; the tensors' bytes
lie in the slot, one after the other. So does the answer.
"""

from __future__ import annotations

import msgspec

LARGEST_PACKET_BYTES = 64 << 10
"""Most bytes of a packet."""

PROTOCOL = 1
"""The version of what is said."""


class Hello(msgspec.Struct, frozen=True):
    """What a client begins with.

    Attributes:
        protocol: The version that it speaks.
        slot_bytes: How large a slot it asks for.
    """

    protocol: int
    slot_bytes: int


class Welcome(msgspec.Struct, frozen=True):
    """What the service answers; the slot's descriptor comes with it.

    Attributes:
        slot_bytes: How large the slot is.
    """

    slot_bytes: int


class Refusal(msgspec.Struct, frozen=True):
    """An error in place of an answer.

    Attributes:
        error: What happened.
        code: The kind of error, of `skerry.core.errors`.
        hint: What to do next.
    """

    error: str
    code: str
    hint: str
