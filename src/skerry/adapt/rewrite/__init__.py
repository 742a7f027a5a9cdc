"""Rewrite what a target cannot run into what it can, each time with a proof.

`adapt` chooses among the rules of `catalogue`; a rule draws a replacement and states
how far its result may be from the old one (`bounds`).
"""

from skerry.adapt.rewrite.bounds import Bound
from skerry.adapt.rewrite.catalogue import RULES
from skerry.adapt.rewrite.engine import (
    DEFAULT_MAX_ERROR,
    Adapted,
    Applied,
    Left,
    adapt,
    rules_for,
)
from skerry.adapt.rewrite.rule import Draft, Replacement, Rule, Site

__all__ = [
    "DEFAULT_MAX_ERROR",
    "RULES",
    "Adapted",
    "Applied",
    "Bound",
    "Draft",
    "Left",
    "Replacement",
    "Rule",
    "Site",
    "adapt",
    "rules_for",
]
