"""A least speed for what is fetched: whoever sends drop by drop holds nobody up.

The slow retrieval attack (TUF specification 1.0.31, section 1.5.2) keeps a client busy
with a stream that never stops and never ends. A read timeout does not see it: each drop
arrives in time.
"""

from __future__ import annotations

from skerry.core.clock import Clock, SystemClock
from skerry.core.errors import LinkError

LEAST_BYTES_PER_S = 100.0
"""The least speed unless told otherwise: GPRS gives ten times as much on a bad day."""

WINDOW_S = 60.0
"""Over how long the speed is taken."""


class Pace:
    """Watches the speed of one stream.

    Args:
        least_bytes_per_s: The least speed; 0 lets anything pass.
        window_s: Over how long it is taken; what is shorter is never too slow.
        clock: Tells how long it took.
    """

    def __init__(
        self,
        least_bytes_per_s: float = LEAST_BYTES_PER_S,
        *,
        window_s: float = WINDOW_S,
        clock: Clock | None = None,
    ) -> None:
        self._least_bytes_per_s = least_bytes_per_s
        self._window_s = window_s
        self._clock = clock or SystemClock()
        self._began_s = self._clock.wall_s()
        self._size_bytes = 0

    def took(self, size_bytes: int) -> None:
        """Count what has come.

        Raises:
            LinkError: Over the last window it was too slow.
        """
        self._size_bytes += size_bytes
        passed_s = self._clock.wall_s() - self._began_s
        if passed_s < self._window_s:
            return
        speed = self._size_bytes / passed_s
        if speed < self._least_bytes_per_s:
            raise LinkError(
                f"the hub sends {speed:.0f} bytes a second over {passed_s:.0f} s, at "
                f"least {self._least_bytes_per_s:g} were expected",
                hint="It goes on from there later; on a link that is as slow as that, "
                "lower --least-speed.",
            )
        self._began_s, self._size_bytes = self._clock.wall_s(), 0
