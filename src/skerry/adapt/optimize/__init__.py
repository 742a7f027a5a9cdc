"""Optimize how a model is deployed: profile, identify, optimize, validate, and again.

`optimize` is the loop; what might help is a `Remedy`. `remedies_for` finds those of
this machine in a profile, `compiled.Bench` those of a target by its compiler's word.
"""

from skerry.adapt.optimize.deployment import Deployment, Kind, Remedy
from skerry.adapt.optimize.loop import Alone, Optimized, Trial, optimize
from skerry.adapt.optimize.remedies import remedies_for
from skerry.adapt.optimize.timing import by_word, in_turns
from skerry.adapt.optimize.validate import Validator

__all__ = [
    "Alone",
    "Deployment",
    "Kind",
    "Optimized",
    "Remedy",
    "Trial",
    "Validator",
    "by_word",
    "in_turns",
    "optimize",
    "remedies_for",
]
