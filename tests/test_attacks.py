"""Each attack that is listed is played, and each that is played is listed."""

from __future__ import annotations

import re

from tests.architecture.source import REPOSITORY
from tests.attacks import ATTACKS, FILES


def test_each_attack_is_played() -> None:
    """The list and the marks of the tests are the same."""
    text = "".join((REPOSITORY / file).read_text() for file in FILES)
    played = re.findall(r'mark\.attack\("([\w.-]+)"\)', text)
    assert set(played) == set(ATTACKS)
