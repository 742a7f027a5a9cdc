"""Two gateways with one identity: a disk that was copied and runs twice.

Each start of a gateway has a random name, its boot, which its signs of life carry. A
process that was replaced by another never speaks again; so where boots of one device
take turns, two processes are alive at once. Only an alarm follows, and nothing is
withheld: what a copy may do the real one may do as well, and whoever has copied a disk
must not be able to stop the updates of the one that it was copied from.
"""

from __future__ import annotations

from collections import Counter

TURNS = 3
"""How often an earlier boot must be heard again. A message that arrives twice, late,
makes two turns: there and back."""

_KEPT = 4
LONGEST_BOOT = 64


class Clones:
    """The boots that were heard of each device."""

    def __init__(self) -> None:
        self._boots: dict[str, list[str]] = {}
        self._turns: Counter[str] = Counter()

    def hear(self, device: str, boot: object) -> bool:
        """Take the boot of a sign of life.

        Args:
            device: Whose.
            boot: As it was sent; older gateways send none.

        Returns:
            Whether two processes have taken turns often enough, once more.
        """
        if not isinstance(boot, str) or not 0 < len(boot) <= LONGEST_BOOT:
            return False
        boots = self._boots.setdefault(device, [])
        if boots and boots[-1] == boot:
            return False
        if boot in boots:
            boots.remove(boot)
            self._turns[device] += 1
        boots.append(boot)
        del boots[:-_KEPT]
        if self._turns[device] < TURNS:
            return False
        del self._turns[device]
        return True
