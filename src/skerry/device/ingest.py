"""Which packets of a camera are decoded, and which are passed over.

A picture that does not stand alone needs all since the last that does. So what is shed
is shed up to the next of those, and an idle camera, of which only those are decoded,
keeps the packets in between: they are decoded at one go when it is watched again.
"""

from __future__ import annotations

from skerry.core.allowance import Allowance
from skerry.core.video import Attention
from skerry.device._video import Packet
from skerry.device.capture import PacketHint

MOST_HELD_BYTES = 4 << 20
"""Most bytes of packets that an idle camera keeps."""

MOST_HELD = 300
"""Most of those packets."""

IDLE_PERIOD_S = 0.9
"""An idle camera is not decoded more often, where each picture stands alone."""

HINTED_S = 1.0
"""For how long an idle camera is decoded fully after a packet of odd size."""

LATEST_S = 0.25
"""A picture that is later than this is shed, and at least two periods are allowed."""

Packets = tuple[Packet, ...]


class Ingest:
    """Chooses packets; time is an argument.

    Args:
        share: How much of one CPU decoding may take.

    Attributes:
        shed: How many packets were passed over because they were late, or beyond what
            the camera may cost.
        why: Why the last of them was; empty where none was.
    """

    def __init__(self, *, share: float) -> None:
        self.shed = 0
        self.why = ""
        self._allowance = Allowance(share=share)
        self._hint = PacketHint()
        self._held: list[Packet] = []
        self._held_bytes = 0
        self._needs_key = True
        self._hinted_until_s = float("-inf")
        self._decoded_s = float("-inf")

    def restart(self) -> None:
        """The stream was opened again, or a picture was damaged: wait for a whole one.

        What is decoded without those before it is a smear.
        """
        self._needs_key = True
        self._drop_held()

    def spent(self, took_s: float, *, now_s: float) -> None:
        """Charge what decoding took."""
        self._allowance.spend(took_s, now_s=now_s)

    def take(
        self,
        packet: Packet,
        *,
        late_s: float,
        period_s: float,
        now_s: float,
        attention: Attention,
    ) -> Packets:
        """Choose what to decode now that a packet has come, in order; often nothing.

        Args:
            packet: It.
            late_s: How long ago its picture was taken.
            period_s: From one picture to the next.
            now_s: The time.
            attention: How closely the camera is watched.
        """
        is_odd = not packet.is_key and self._hint.take(packet.size_bytes)
        if packet.is_key:
            self._drop_held()
        elif self._needs_key:
            return ()
        if self._is_shed(late_s, period_s, now_s):
            self.restart()
            return ()
        self._needs_key = False
        if is_odd:
            self._hinted_until_s = now_s + HINTED_S
        if attention is Attention.IDLE and now_s >= self._hinted_until_s:
            return self._idle(packet, now_s)
        self._decoded_s = now_s
        chosen = (*self._held, packet)
        self._drop_held()
        return chosen

    def _idle(self, packet: Packet, now_s: float) -> Packets:
        if packet.is_key and now_s - self._decoded_s >= IDLE_PERIOD_S:
            self._decoded_s = now_s
            return (packet,)
        self._held.append(packet)
        self._held_bytes += packet.size_bytes
        if len(self._held) > MOST_HELD or self._held_bytes > MOST_HELD_BYTES:
            self.restart()
        return ()

    def _is_shed(self, late_s: float, period_s: float, now_s: float) -> bool:
        if late_s > max(LATEST_S, 2 * period_s):
            self.why = "its pictures come faster than they can be decoded"
        elif self._allowance.is_spent(now_s=now_s):
            self.why = "decoding it costs more than its share"
        else:
            return False
        self.shed += 1
        return True

    def _drop_held(self) -> None:
        self._held.clear()
        self._held_bytes = 0
