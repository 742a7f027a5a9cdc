"""The one door to Optuna: its tree-structured Parzen estimator as a sampler.

Multi-objective and with constraints: Y. Ozaki et al., "Multiobjective Tree-Structured
Parzen Estimator", JAIR 73, 2022; S. Watanabe and F. Hutter, "c-TPE", IJCAI 2023.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from skerry.compress.tune.space import Point, SearchSpace
from skerry.compress.tune.trial import Outcome, Trial
from skerry.core.errors import MissingExtraError
from skerry.core.recipe import Choices, ParamValue, Recipe, Span

try:
    import optuna
    from optuna.distributions import (
        BaseDistribution,
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )
    from optuna.trial import FrozenTrial, TrialState, create_trial
except ImportError as error:
    raise MissingExtraError("optuna", extra="tune") from error

STARTUP = 5
"""Trials before the estimator is believed: the templates are better than chance."""

WORST = 1.0
"""What counts as the cost that was not measured: all of the metric lost, as slow and as
large as the source."""

optuna.logging.set_verbosity(optuna.logging.ERROR)


class TpeSampler:
    """Proposes where what was good is dense and what was bad is not.

    Args:
        space: What recipes there are.
        startup: Trials before that, drawn at random.
    """

    def __init__(self, space: SearchSpace, *, startup: int = STARTUP) -> None:
        self._space = space
        self._startup = startup

    def suggest(self, trials: Sequence[Trial], rng: np.random.Generator) -> Recipe:
        """Propose a recipe."""
        with warnings.catch_warnings():
            # Its word for options that may change: the version is pinned from below.
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = optuna.samplers.TPESampler(
                seed=int(rng.integers(1 << 31)),
                n_startup_trials=self._startup,
                multivariate=True,
                group=True,
                constant_liar=True,
            )
        study = optuna.create_study(directions=["minimize"] * 3, sampler=sampler)
        for trial in trials:
            point = self._space.point(trial.recipe)
            if point is not None:
                study.add_trial(self._frozen(point, trial))
        asked = study.ask()
        return self._space.recipe(lambda name, one: _ask(asked, name, one))

    def _frozen(self, point: Point, trial: Trial) -> FrozenTrial:
        ranges: dict[str, BaseDistribution] = {}
        params: dict[str, object] = {}

        def note(name: str, one: Choices | Span) -> ParamValue:
            ranges[name] = _range(one)
            params[name] = _key(point[name], one)
            return point[name]

        self._space.recipe(note)
        outcome = trial.outcome
        if outcome is None:
            return create_trial(
                state=TrialState.RUNNING, params=params, distributions=ranges
            )
        return create_trial(
            values=_costs(outcome),
            params=params,
            distributions=ranges,
            constraints={"budget": outcome.violation},
        )


def _costs(outcome: Outcome) -> list[float]:
    latency = outcome.latency.median if outcome.latency else None
    known = (outcome.drop, latency, outcome.size)
    return [WORST if one is None else one for one in known]


def _range(one: Choices | Span) -> BaseDistribution:
    if isinstance(one, Choices):
        # By index: a value may be a list, which Optuna does not take.
        return CategoricalDistribution(tuple(range(len(one.values))))
    if one.is_integer:
        return IntDistribution(int(one.low), int(one.high), log=one.is_log)
    return FloatDistribution(one.low, one.high, log=one.is_log)


def _key(value: ParamValue, one: Choices | Span) -> object:
    return one.values.index(value) if isinstance(one, Choices) else value


def _ask(asked: optuna.Trial, name: str, one: Choices | Span) -> ParamValue:
    if isinstance(one, Choices):
        index = asked.suggest_categorical(name, range(len(one.values)))
        return one.values[int(index)]
    if one.is_integer:
        return asked.suggest_int(name, int(one.low), int(one.high), log=one.is_log)
    return asked.suggest_float(name, one.low, one.high, log=one.is_log)
