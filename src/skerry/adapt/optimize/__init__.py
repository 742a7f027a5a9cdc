"""Optimize how a model is deployed: profile, identify, optimize, validate, and again.

`optimize` is the loop; what might help is a `Remedy`, and `remedies_for` finds those of
this machine in a profile.
"""

from skerry.adapt.optimize.deployment import Deployment, Kind, Remedy
from skerry.adapt.optimize.loop import Alone, Optimized, Trial, optimize
from skerry.adapt.optimize.remedies import remedies_for
from skerry.adapt.optimize.validate import Validator

__all__ = [
    "Alone",
    "Deployment",
    "Kind",
    "Optimized",
    "Remedy",
    "Trial",
    "Validator",
    "optimize",
    "remedies_for",
]
