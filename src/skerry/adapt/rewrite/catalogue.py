"""All rewrite rules, in the order in which they are tried.

For one operator, what is equal comes before what is near, and what needs few operators
before what needs many.
"""

from __future__ import annotations

from skerry.adapt.rewrite.division import DIVISION, DIVISION_BY_CONSTANT, RECIPROCAL
from skerry.adapt.rewrite.hard import HARD_SIGMOID, HARD_SWISH
from skerry.adapt.rewrite.normalization import (
    BATCH_NORM,
    GROUP_NORM,
    INSTANCE_NORM,
    LAYER_NORM,
    LOG_SOFTMAX,
)
from skerry.adapt.rewrite.powers import POWER, ROOT
from skerry.adapt.rewrite.rule import Rule
from skerry.adapt.rewrite.softplus import MISH, SOFTPLUS
from skerry.adapt.rewrite.swish import HARD_SWISH_FORM, SWISH

RULES: tuple[Rule, ...] = (
    SWISH,
    MISH,
    SOFTPLUS,
    HARD_SWISH,
    HARD_SIGMOID,
    LAYER_NORM,
    GROUP_NORM,
    INSTANCE_NORM,
    BATCH_NORM,
    LOG_SOFTMAX,
    DIVISION_BY_CONSTANT,
    DIVISION,
    RECIPROCAL,
    POWER,
    ROOT,
    HARD_SWISH_FORM,
)
