"""The attacks that Skerry must withstand, and which tests play them.

A test that plays one says so: `@pytest.mark.attack("tuf.rollback")`. All of them run by
`python -m pytest -m attack`; `tests/test_attacks.py` sees that none is left out.
"""

from __future__ import annotations

TUF = (
    "tuf.arbitrary-installation",
    "tuf.endless-data",
    "tuf.extraneous-dependencies",
    "tuf.fast-forward",
    "tuf.indefinite-freeze",
    "tuf.malicious-mirrors",
    "tuf.mix-and-match",
    "tuf.rollback",
    "tuf.slow-retrieval",
    "tuf.key-compromise",
    "tuf.wrong-software",
)
"""The attacks and weaknesses of the TUF specification 1.0.31, section 1.5.2."""

UPTANE = (
    "uptane.eavesdrop",
    "uptane.drop-request",
    "uptane.slow-retrieval",
    "uptane.freeze",
    "uptane.partial-bundle",
    "uptane.rollback",
    "uptane.endless-data",
    "uptane.mixed-bundles",
    "uptane.mix-and-match",
    "uptane.arbitrary-software",
    "uptane.replayed-instructions",
    "uptane.instructions-for-another",
    "uptane.forged-instructions",
    "uptane.forged-reports",
)
"""Those of the Uptane Standard 2.1.0, section 4.2, and of its directors and ECUs."""

ATTACKS = (*TUF, *UPTANE)
"""All of them, by name."""

FILES = (
    "tests/fleet/test_attacks.py",
    "tests/unit/comms/test_pace.py",
)
"""Where they are played."""
