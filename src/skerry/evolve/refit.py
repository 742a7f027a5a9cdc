"""Fit a model's head again: softmax regression on embeddings, with gates.

The head starts where it was and is pulled back towards there, the labelled field
samples get a fixed share of the weight, and old samples are replayed beside them, since
a head that sees only new ones forgets the old (A. Robins, "Catastrophic Forgetting,
Rehearsal and Pseudorehearsal", Connection Science 7(2), 1995). No candidate passes
that does not beat the old head on field samples it was not fitted on (k-fold
cross-validation), or that loses on old samples held out from the fit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skerry.core.errors import DataError, UsageError
from skerry.core.seams import Array
from skerry.tasks.metrics import PairedDelta, paired_interval

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Head:
    """The last layer of a classifier: logits = embedding · weightᵀ + bias.

    Attributes:
        weight: float [classes, D].
        bias: float [classes].
    """

    weight: Array
    bias: Array

    def predict(self, embeddings: Array) -> Labels:
        """The best class of each embedding, float [N, D]."""
        logits = embeddings @ self.weight.T + self.bias
        return np.asarray(logits.argmax(axis=1), np.int64)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Labelled:
    """Embeddings and what they are of.

    Attributes:
        embeddings: float [N, D].
        labels: int64 [N], indices of classes.
    """

    embeddings: Array
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Labels) -> Labelled:
        """Pick some, in the order given."""
        return Labelled(
            embeddings=self.embeddings[indices], labels=self.labels[indices]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RefitSettings:
    """How a head is fitted and what it must prove.

    Attributes:
        field_share: The field samples' share of the weight, 0–1.
        pull: Weight of the squared distance to the old head, embeddings standardized.
        rounds: Most steps of the descent.
        folds: Parts of the cross-validation.
        least_gain: By how much accuracy on the field samples must rise, 0–1.
        most_drop: By how much accuracy on the old samples may fall, 0–1.
        fewest: Fewest labelled field samples.
    """

    field_share: float = 0.15
    pull: float = 0.03
    rounds: int = 300
    folds: int = 5
    least_gain: float = 0.03
    most_drop: float = 0.01
    fewest: int = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a refit proved.

    Attributes:
        passed: Whether each gate held.
        reason: Which gate did not and by how much; empty where all held.
        n_field: Labelled field samples.
        field_before: Accuracy of the old head on them.
        field_after: Accuracy on them of heads fitted without them (k-fold).
        field_gain: The paired difference of the two, with its 95 % interval.
        n_old: Old samples.
        old_before: Accuracy of the old head on them.
        old_after: Accuracy on them of heads fitted without them (k-fold).
        old_change: The paired difference of the two, with its 95 % interval.
    """

    passed: bool
    reason: str
    n_field: int
    field_before: float
    field_after: float
    field_gain: PairedDelta
    n_old: int
    old_before: float
    old_after: float
    old_change: PairedDelta


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Refit:
    """A new head and what it proved."""

    head: Head
    evidence: Evidence


def refit(
    head: Head,
    *,
    field: Labelled,
    old: Labelled,
    rng: np.random.Generator,
    settings: RefitSettings | None = None,
) -> Refit:
    """Fit a head again and put it to its gates.

    The head is fitted on all samples. Its gates judge heads that were fitted in the
    same way without the samples they are asked about, so that few samples are enough
    for both: k-fold cross-validation (M. Stone, "Cross-validatory choice and
    assessment of statistical predictions", JRSS B 36, 1974).

    Args:
        head: The old head.
        field: Labelled field samples.
        old: Old samples, replayed so that they are not forgotten; best such that the
            model was not trained on, or what it forgets goes unseen.
        rng: Chance, for the folds.
        settings: How; the defaults where None.

    Raises:
        DataError: A set is empty or does not fit the head; there are too few field
            samples.
        UsageError: A setting makes no sense.
    """
    chosen = settings or RefitSettings()
    _check_settings(chosen)
    for name, part in (("field", field), ("old", old)):
        _check(name, part, head)
    if len(field) < chosen.fewest:
        raise DataError(
            f"{len(field)} labelled field samples, at least {chosen.fewest} expected",
            hint="Label more samples.",
        )
    if len(old) < chosen.fewest:
        raise DataError(
            f"{len(old)} old samples, at least {chosen.fewest} expected",
            hint="Replay more.",
        )
    new = refit_head(head, field=field, replay=old, settings=chosen)
    field_after, old_after = _cross_validate(head, field, old, rng, chosen)
    evidence = _judge(
        field_right=(head.predict(field.embeddings) == field.labels, field_after),
        old_right=(head.predict(old.embeddings) == old.labels, old_after),
        settings=chosen,
    )
    return Refit(head=new, evidence=evidence)


def refit_head(
    head: Head,
    *,
    field: Labelled,
    replay: Labelled,
    settings: RefitSettings | None = None,
) -> Head:
    """Fit a head on field samples and replayed old ones, starting from the old head.

    Minimizes the weighted cross-entropy plus the pull towards the old head by
    Nesterov's accelerated gradient with backtracking and restarts (A. Beck and
    M. Teboulle, "A Fast Iterative Shrinkage-Thresholding Algorithm", 2009;
    B. O'Donoghue and E. Candès, "Adaptive Restart for Accelerated Gradient Schemes",
    2015), in float64.

    Returns:
        A head of the old one's dtype; never worse than the old one in what is
        minimized.
    """
    chosen = settings or RefitSettings()
    embeddings = np.concatenate([field.embeddings, replay.embeddings])
    labels = np.concatenate([field.labels, replay.labels])
    x = embeddings.astype(np.float64).reshape(len(labels), -1)
    mean = x.mean(axis=0)
    scale = float(x.std(axis=0).mean()) or 1.0
    share = chosen.field_share if len(replay) else 1.0
    weights = np.concatenate(
        [
            np.full(len(field), share / max(len(field), 1)),
            np.full(len(replay), (1 - share) / max(len(replay), 1)),
        ]
    )
    problem = _Problem(
        x=np.c_[(x - mean) / scale, np.ones(len(x))],
        targets=np.eye(len(head.bias))[labels],
        weights=weights[:, None],
        start=_to_standard(head, mean, scale),
        pull=chosen.pull,
    )
    theta = _descend(problem, chosen.rounds)
    weight = theta[:, :-1] / scale
    bias = theta[:, -1] - weight @ mean
    return Head(
        weight=weight.astype(head.weight.dtype), bias=bias.astype(head.bias.dtype)
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Problem:
    x: Floats
    targets: Floats
    weights: Floats
    start: Floats
    pull: float

    def value(self, theta: Floats) -> tuple[float, Floats]:
        """What is minimized, and its gradient."""
        logits = self.x @ theta.T
        logits -= logits.max(axis=1, keepdims=True)
        log_sum = np.log(np.exp(logits).sum(axis=1, keepdims=True))
        log_share = logits - log_sum
        away = theta - self.start
        loss = -(self.weights * self.targets * log_share).sum()
        slope = (self.weights * (np.exp(log_share) - self.targets)).T @ self.x
        return float(loss + 0.5 * self.pull * (away**2).sum()), slope + self.pull * away


def _to_standard(head: Head, mean: Floats, scale: float) -> Floats:
    weight = np.asarray(head.weight, np.float64)
    bias = np.asarray(head.bias, np.float64) + weight @ mean
    return np.column_stack([weight * scale, bias])


def _descend(problem: _Problem, rounds: int) -> Floats:
    theta = problem.start
    best, _ = problem.value(theta)
    ahead, momentum, step = theta, 1.0, 1.0
    for _ in range(rounds):
        value, slope = problem.value(ahead)
        square = float((slope**2).sum())
        reached = ahead - step * slope
        while (found := problem.value(reached)[0]) > value - 0.5 * step * square:
            step /= 2
            if step < 1e-12:
                return theta
            reached = ahead - step * slope
        if found > best:
            # The momentum overshoots: begin again from the best place, without it.
            ahead, momentum = theta, 1.0
            continue
        gain, best = best - found, found
        grown = (1 + math.sqrt(1 + 4 * momentum**2)) / 2
        ahead = reached + (momentum - 1) / grown * (reached - theta)
        theta, momentum, step = reached, grown, step * 1.1
        if gain < 1e-9 * max(best, 1e-3):
            break
    return theta


def _cross_validate(
    head: Head,
    field: Labelled,
    old: Labelled,
    rng: np.random.Generator,
    settings: RefitSettings,
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which samples, field and old, a head gets right that was fitted without them."""
    groups = (field, old)
    right = [np.zeros(len(group), dtype=bool) for group in groups]
    orders = [rng.permutation(len(group)) for group in groups]
    for fold in range(settings.folds):
        held = [order[fold :: settings.folds] for order in orders]
        kept = [
            group.take(np.setdiff1d(order, part))
            for group, order, part in zip(groups, orders, held, strict=True)
        ]
        fitted = refit_head(head, field=kept[0], replay=kept[1], settings=settings)
        for group, part, found in zip(groups, held, right, strict=True):
            asked = group.take(part)
            found[part] = fitted.predict(asked.embeddings) == asked.labels
    return right[0], right[1]


def _judge(
    *,
    field_right: tuple[NDArray[np.bool_], NDArray[np.bool_]],
    old_right: tuple[NDArray[np.bool_], NDArray[np.bool_]],
    settings: RefitSettings,
) -> Evidence:
    gain = paired_interval(*field_right)
    change = paired_interval(*old_right)
    reason = ""
    if gain.delta < settings.least_gain or gain.low <= 0:
        reason = (
            f"accuracy on {gain.n} field samples changes by {gain.delta:+.3f} "
            f"(95 % interval {gain.low:+.3f} to {gain.high:+.3f}), at least "
            f"{settings.least_gain:+.3f} and an interval above 0 expected"
        )
    elif -change.delta > settings.most_drop:
        reason = (
            f"accuracy on {change.n} old samples changes by {change.delta:+.3f}, at "
            f"worst {-settings.most_drop:+.3f} expected"
        )
    return Evidence(
        passed=not reason,
        reason=reason,
        n_field=gain.n,
        field_before=float(field_right[0].mean()),
        field_after=float(field_right[1].mean()),
        field_gain=gain,
        n_old=change.n,
        old_before=float(old_right[0].mean()),
        old_after=float(old_right[1].mean()),
        old_change=change,
    )


def _check_settings(settings: RefitSettings) -> None:
    is_sane = 0 < settings.field_share < 1 and 0 <= settings.pull < math.inf
    is_sane = is_sane and settings.rounds >= 1 and 0 <= settings.most_drop <= 1
    if not is_sane or not 2 <= settings.folds <= settings.fewest:
        raise UsageError(
            f"these settings of a refit make no sense: {settings}",
            hint="Leave them at their defaults.",
        )


def _check(name: str, part: Labelled, head: Head) -> None:
    classes, size = head.weight.shape
    if not len(part) or part.embeddings.shape != (len(part), size):
        raise DataError(
            f"the {name} embeddings have shape {part.embeddings.shape}, expected "
            f"({len(part) or 'N'}, {size})",
            hint="Compute them with the model whose head is fitted.",
        )
    if part.labels.min() < 0 or part.labels.max() >= classes:
        raise DataError(
            f"the {name} labels go from {part.labels.min()} to {part.labels.max()}, "
            f"the head knows 0 to {classes - 1}",
            hint="A refit learns no new classes: train the model again.",
        )
    if not np.isfinite(part.embeddings).all():
        raise DataError(
            f"the {name} embeddings hold NaN or infinities",
            hint="Check the model on these samples.",
        )
