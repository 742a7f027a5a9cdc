"""The only door to mqtt5: MQTT 5.0 packets from bytes, and nothing that crashes.

The codec reads and writes packets; sockets are the business of `broker` and `mqtt`.
Before it sees a packet its strings are checked here, as one that is no UTF-8 makes it
panic; names and sections are those of MQTT 5.0 (OASIS, 2019).
"""

from __future__ import annotations

from skerry.core.errors import LinkError, MissingExtraError

try:
    import mqtt5
except ImportError as error:
    raise MissingExtraError("mqtt5", extra="gateway") from error

__all__ = [
    "Packet",
    "PacketStream",
    "ProtocolError",
    "Reason",
    "higher",
    "is_failure",
    "lower",
    "mqtt5",
    "read_packet",
]

LARGEST_PACKET_BYTES = 128 << 10
"""Most bytes of a packet: a message, with room for its topic and properties."""

Packet = mqtt5.Packet
Reason = mqtt5.DisconnectReasonCode

_CONNECT, _CONNACK, _PUBLISH = 1, 2, 3
_SUBSCRIBE, _SUBACK, _UNSUBSCRIBE, _UNSUBACK = 8, 9, 10, 11
_PINGREQ, _PINGRESP, _DISCONNECT, _AUTH = 12, 13, 14, 15

_FIXED_SIZES = dict.fromkeys((1, 23, 25, 36, 37, 40, 41, 42), 1)
_FIXED_SIZES |= dict.fromkeys((19, 33, 34, 35), 2)
_FIXED_SIZES |= dict.fromkeys((2, 17, 24, 39), 4)
_STRINGS = {3, 8, 18, 21, 26, 28, 31}
_BINARIES = {9, 22}
_SUBSCRIPTION_ID, _USER_PROPERTY = 11, 38
"""Identifiers of properties by the type of their values (section 2.2.2.2)."""


def lower(first: mqtt5.QoS, second: mqtt5.QoS) -> mqtt5.QoS:
    """The lower of two qualities of service; the codec's own cannot be ordered."""
    return first if first.value < second.value else second


def higher(first: mqtt5.QoS, second: mqtt5.QoS) -> mqtt5.QoS:
    """The higher of two qualities of service."""
    return second if first.value < second.value else first


def is_failure(code: mqtt5.PubAckReasonCode | mqtt5.SubAckReasonCode) -> bool:
    """Whether a reason says that it did not work (section 2.4)."""
    return code.value >= 0x80


class ProtocolError(LinkError):
    """The other side does not keep to the protocol.

    Attributes:
        reason: The reason to close the connection with.
    """

    def __init__(self, what: str, reason: Reason = Reason.MALFORMED_PACKET) -> None:
        super().__init__(what, hint="Is the other side MQTT 5.0?")
        self.reason = reason


class PacketStream:
    """Cuts a stream of bytes into packets.

    Args:
        largest_bytes: Most bytes of a packet; a larger one is not even collected.

    Attributes:
        largest_bytes: The same; it may be changed between two packets.
    """

    def __init__(self, *, largest_bytes: int = LARGEST_PACKET_BYTES) -> None:
        self.largest_bytes = largest_bytes
        self._buffer = bytearray()

    def feed(self, chunk: bytes) -> None:
        """Add what came."""
        self._buffer += chunk

    def take(self) -> Packet | None:
        """The next packet, or None as long as it is not whole.

        Raises:
            ProtocolError: It is malformed, or too large.
        """
        size_bytes = self._frame_bytes()
        if size_bytes is None:
            return None
        frame = bytes(self._buffer[:size_bytes])
        del self._buffer[:size_bytes]
        return read_packet(frame)

    def _frame_bytes(self) -> int | None:
        """Bytes of the first packet, or None as long as it is not whole."""
        rest_bytes = 0
        for index, byte in enumerate(self._buffer[1:5]):
            rest_bytes |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:
                size_bytes = 2 + index + rest_bytes
                if size_bytes > self.largest_bytes:
                    raise ProtocolError(
                        f"a packet has {size_bytes} bytes, at most "
                        f"{self.largest_bytes} expected",
                        Reason.PACKET_TOO_LARGE,
                    )
                return size_bytes if len(self._buffer) >= size_bytes else None
        if len(self._buffer) >= 5:
            raise ProtocolError("the length of a packet has more than four bytes")
        return None


def read_packet(frame: bytes) -> Packet:
    """Read one whole packet.

    Raises:
        ProtocolError: It is malformed.
    """
    try:
        _check_strings(frame)
        packet, size_bytes = mqtt5.read(memoryview(frame))
    except (ValueError, IndexError, OverflowError) as error:
        reason = Reason.MALFORMED_PACKET
        raise ProtocolError(f"a malformed packet: {error}", reason) from error
    except BaseException as error:
        # A panic of the codec is no Exception (PyO3, "Rust panics"); all else is.
        if type(error).__name__ != "PanicException":
            raise
        raise ProtocolError("a packet that the codec cannot read") from error
    if size_bytes != len(frame):
        raise ProtocolError("a packet is longer than what it holds")
    return packet


class _Walker:
    """Steps over the fields of a packet."""

    def __init__(self, frame: bytes) -> None:
        self._frame = frame
        self._at = 1
        self.number()

    @property
    def is_at_end(self) -> bool:
        return self._at >= len(self._frame)

    def skip(self, size_bytes: int) -> None:
        self._at += size_bytes
        if self._at > len(self._frame):
            raise ValueError("it ends too early")

    def byte(self) -> int:
        self.skip(1)
        return self._frame[self._at - 1]

    def number(self) -> int:
        """A variable byte integer (section 1.5.5)."""
        value = 0
        for shift in (0, 7, 14, 21):
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise ValueError("a variable byte integer has more than four bytes")

    def binary(self) -> bytes:
        self.skip(2)
        size_bytes = int.from_bytes(self._frame[self._at - 2 : self._at])
        self.skip(size_bytes)
        return self._frame[self._at - size_bytes : self._at]

    def text(self) -> None:
        """A string: UTF-8 without the null character (section 1.5.4)."""
        if "\0" in self.binary().decode():
            raise ValueError("a string holds the null character")

    def properties(self) -> None:
        size_bytes = self.number()
        end = self._at + size_bytes
        while self._at < end:
            self._property()
        if self._at != end:
            raise ValueError("properties do not end where they should")

    def _property(self) -> None:
        identifier = self.number()
        if identifier in _FIXED_SIZES:
            self.skip(_FIXED_SIZES[identifier])
        elif identifier in _STRINGS:
            self.text()
        elif identifier in _BINARIES:
            self.binary()
        elif identifier == _SUBSCRIPTION_ID:
            self.number()
        elif identifier == _USER_PROPERTY:
            self.text()
            self.text()
        else:
            raise ValueError(f"there is no property {identifier}")


def _check_strings(frame: bytes) -> None:
    """Check each string of a packet.

    Raises:
        ValueError: One is not a string of MQTT, or the packet's layout is wrong.
    """
    kind, flags = frame[0] >> 4, frame[0] & 0x0F
    walker = _Walker(frame)
    if kind == _CONNECT:
        _walk_connect(walker)
    elif kind == _PUBLISH:
        walker.text()
        walker.skip(2 if flags & 0x06 else 0)
        walker.properties()
    elif kind == _CONNACK:
        walker.skip(2)
        walker.properties()
    elif kind in {_SUBSCRIBE, _UNSUBSCRIBE}:
        walker.skip(2)
        walker.properties()
        while not walker.is_at_end:
            walker.text()
            walker.skip(1 if kind == _SUBSCRIBE else 0)
    elif kind in {_SUBACK, _UNSUBACK}:
        walker.skip(2)
        walker.properties()
    elif kind not in {_PINGREQ, _PINGRESP}:
        walker.skip(0 if kind in {_DISCONNECT, _AUTH} else 2)
        if not walker.is_at_end:
            walker.skip(1)
        if not walker.is_at_end:
            walker.properties()


def _walk_connect(walker: _Walker) -> None:
    """Step over a CONNECT packet (section 3.1)."""
    walker.text()
    version = walker.byte()
    if version != 5:
        raise ProtocolError(
            f"the other side speaks MQTT version {version}, 5 expected",
            Reason.PROTOCOL_ERROR,
        )
    flags = walker.byte()
    walker.skip(2)
    walker.properties()
    walker.text()
    if flags & 0x04:
        walker.properties()
        walker.text()
        walker.binary()
    if flags & 0x80:
        walker.text()
    if flags & 0x40:
        walker.binary()
