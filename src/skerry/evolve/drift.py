"""Has the world in front of the model changed, and does the model suffer from it?

Two charts look at each answer, since no single one sees every change:

- The *input* chart follows the embedding, what the model's head reads: how far it lies
  from what is usual for the class that the model predicts. The distance is taken along
  the few main axes of the reference, each in its own standard deviation, and across
  them, and smoothed (the multivariate exponentially weighted moving average of
  C. A. Lowry et al., "A Multivariate Exponentially Weighted Moving Average Control
  Chart", Technometrics 34(1), 1992). As it compares within a class, another mixture of
  the same classes is no change.
- The *confidence* chart adds up by how much the confidence stays below its mean (the
  one-sided cumulative sum of E. S. Page, "Continuous Inspection Schemes", Biometrika
  41, 1954).

What is usual is learnt once, from clean samples, when a release is made; it travels as
a document of schema `skerry.drift/1`: an `.npz` of a JSON `header` and three arrays.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import msgspec
import numpy as np
from numpy.typing import NDArray

from skerry.core.documents import from_json, to_json
from skerry.core.errors import DataError
from skerry.core.seams import Array, Verdict
from skerry.tasks import _npz

DRIFT_SCHEMA = "skerry.drift/1"
LARGEST_REFERENCE_BYTES = 1 << 24
"""Most bytes of a reference, packed or unpacked."""

FEWEST_SAMPLES = 50
"""Fewer say too little of what is usual."""

FALSE_ALARM_FRAMES = 100_000
"""Clean frames between two false alarms of a chart, unless told otherwise."""

SMOOTHING = 0.05
"""Weight of the newest sample; about 1 / SMOOTHING samples are looked at."""

ALLOWANCE = 0.5
"""How many standard deviations of confidence are no fall (half the fall that is looked
for: Page's rule for the quickest detection)."""

STRONG_CHANGE = 5.0
"""The input chart counts as drift of its own from this multiple of its limit on.

Measured on the meter reader: at 2–3 times the limit its accuracy is 1.5 points lower,
at 4–6 times 5 points; a model far from home is often quite sure of its nonsense, so
the confidence alone would miss the worst."""

MOST_AXES = 16
_MOST_CLASSES = 4096
_FEWEST_OF_A_CLASS = 8
_FARTHEST = 5.0
"""One odd sample moves the input chart by no more standard deviations than this."""
_LOWEST = 3.0
"""One unsure answer adds no more standard deviations of confidence than this."""
_MOST_CONFIDENCE_SUM = 4.0
"""Times the limit: the sum stops there, so that it comes down again after a change."""
_STREAMS, _STREAM_FRAMES = 64, 1000
_SPARE = 1.5
"""Limits are this much wider than the few hundred samples behind them say."""
_EULER = 0.5772156649015329
_TINY = 1e-30
_ABOVE_0 = (
    "residual_deviation",
    "confidence_deviation",
    "allowance",
    "input_limit",
    "confidence_limit",
    "false_alarm_frames",
)

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reference:
    """What embeddings and confidences of clean samples were like.

    Attributes:
        means: Mean embedding of each predicted class, float32 [classes + 1, D]; the
            last row is that of all classes, for those too rare to have their own.
        axes: Main directions within a class, float32 [D, K], each divided by its
            standard deviation.
        deviations: The standard deviations along the axes, float32 [K].
        residual_mean: Mean of the logarithm of the squared distance across the axes.
        residual_deviation: Its standard deviation.
        confidence_mean: Mean confidence, under the condition where it is lowest.
        confidence_deviation: Its standard deviation there.
        allowance: How many standard deviations of confidence are no fall.
        input_limit: The input chart's statistic that raises an alarm.
        confidence_limit: The confidence chart's.
        false_alarm_frames: Clean, independent frames between two false alarms of one
            chart that the limits were set for.
    """

    means: NDArray[np.float32]
    axes: NDArray[np.float32]
    deviations: NDArray[np.float32]
    residual_mean: float
    residual_deviation: float
    confidence_mean: float
    confidence_deviation: float
    allowance: float
    input_limit: float
    confidence_limit: float
    false_alarm_frames: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Observation:
    """What the watch needs of one answer.

    Attributes:
        embedding: What the head read, any float shape; it is flattened.
        confidence: 0–1.
        label: Index of the predicted class; -1 where there are no classes.
    """

    embedding: Array
    confidence: float
    label: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftVerdict(Verdict):
    """What both charts say.

    `statistic` is the larger of the two in units of what makes it a drift, so that
    `limit` is 1.

    Attributes:
        input: The input chart: `is_drift` when the input has changed at all.
        confidence: The confidence chart: `is_drift` when the confidence has fallen.
        seen: Samples seen.
    """

    input: Verdict
    confidence: Verdict
    seen: int

    @property
    def is_calm(self) -> bool:
        """Whether both charts are below half of what makes a drift."""
        return self.statistic < self.limit / 2


class _Header(msgspec.Struct, frozen=True, kw_only=True):
    residual_mean: float
    residual_deviation: float
    confidence_mean: float
    confidence_deviation: float
    allowance: float
    input_limit: float
    confidence_limit: float
    false_alarm_frames: int


def make_reference(
    embeddings: Array,
    confidences: Array,
    *,
    rng: np.random.Generator,
    labels: Array | None = None,
    conditions: Array | None = None,
    false_alarm_frames: int = FALSE_ALARM_FRAMES,
) -> Reference:
    """Learn what is usual, and set the limits so that false alarms are rare.

    One half of the samples, drawn at random, gives means and axes. The other half has
    not been looked at, so streams drawn from it behave as clean frames will: the
    maxima of 64 streams of 1,000 frames are fitted by a Gumbel distribution, whose
    tail gives the limit for the false alarm run length that is asked for. Each stream
    is of one condition, since a lens that is fogged stays so for a while, and the
    condition that needs the widest limit sets it. Frames that resemble each other for
    long are not independent: where a camera looks at one thing for minutes, expect
    more alarms of the input chart.

    Args:
        embeddings: float [N, …], N ≥ 50.
        confidences: float [N], 0–1.
        rng: Chance.
        labels: Predicted classes, int [N]; None where there are no classes.
        conditions: Under which of several usual conditions each was taken, int [N];
            None where there is but one.
        false_alarm_frames: Mean run length between false alarms of one chart.

    Raises:
        DataError: There are too few samples, or not the same number of each, or not
            all are finite.
    """
    flat, sure, classes = _check_samples(embeddings, confidences, labels)
    groups = _groups(conditions, len(flat))
    order = rng.permutation(len(flat))
    fit, rest = order[: len(flat) // 2], order[len(flat) // 2 :]
    means = _class_means(flat[fit], classes[fit])
    axes, deviations = _main_axes(flat[fit] - means[classes[fit]])
    along, across = _project(flat[rest] - means[classes[rest]], axes, deviations)
    residual_mean, residual_deviation = _moments(across)
    lowest = min(groups, key=lambda group: float(sure[group].mean()))
    confidence_mean, confidence_deviation = _moments(sure[lowest])
    z = np.c_[along, (across - residual_mean) / residual_deviation]
    everything = np.arange(len(flat))
    falls = (confidence_mean - sure) / confidence_deviation
    return Reference(
        means=means.astype(np.float32),
        axes=np.ascontiguousarray(axes, dtype=np.float32),
        deviations=deviations.astype(np.float32),
        residual_mean=residual_mean,
        residual_deviation=residual_deviation,
        confidence_mean=confidence_mean,
        confidence_deviation=confidence_deviation,
        # The mean is known to about one standard deviation / √n only.
        allowance=ALLOWANCE + 2 / math.sqrt(len(lowest)),
        input_limit=_widest_limit(
            partial(_input_maxima, z), groups, rest, rng, false_alarm_frames
        ),
        confidence_limit=_widest_limit(
            partial(_fall_maxima, falls), groups, everything, rng, false_alarm_frames
        ),
        false_alarm_frames=false_alarm_frames,
    )


class DriftWatch:
    """Both charts on one stream of answers; a `Detector[Observation]`.

    A sample costs O(D · K) multiplications with K ≤ 16, and no memory.

    Args:
        reference: What is usual.
        strong_change: From which multiple of its limit on a changed input alone is a
            drift.
    """

    def __init__(
        self, reference: Reference, *, strong_change: float = STRONG_CHANGE
    ) -> None:
        self._reference = reference
        self._strong_limit = reference.input_limit * strong_change
        self._deviations = reference.deviations.astype(np.float64)
        self._floor = _floor(self._deviations)
        self._smooth = np.zeros(reference.axes.shape[1] + 1)
        self._fall = 0.0
        self._seen = 0

    def update(self, observed: Observation, /) -> DriftVerdict:
        """Take one answer.

        Raises:
            DataError: The embedding is not as long as those of the reference.
        """
        self._seen += 1
        changed = self._update_input(observed)
        fell = self._update_confidence(observed.confidence)
        reference = self._reference
        relative = max(changed / self._strong_limit, fell / reference.confidence_limit)
        return DriftVerdict(
            is_drift=relative > 1,
            statistic=relative,
            limit=1.0,
            input=_verdict(changed, reference.input_limit),
            confidence=_verdict(fell, reference.confidence_limit),
            seen=self._seen,
        )

    def _update_input(self, observed: Observation) -> float:
        means = self._reference.means
        embedding = observed.embedding.reshape(-1)
        if embedding.shape[0] != means.shape[1]:
            raise DataError(
                f"the embedding has {embedding.shape[0]} numbers, the reference "
                f"{means.shape[1]}",
                hint="The reference belongs to another model: make the release again.",
            )
        is_known = 0 <= observed.label < len(means) - 1
        offset = embedding - means[observed.label if is_known else -1]
        z = self._standardize(offset)
        self._smooth += SMOOTHING * (z - self._smooth)
        return float(self._smooth @ self._smooth) * (2 - SMOOTHING) / SMOOTHING

    def _standardize(self, offset: Array) -> Floats:
        """Along each axis and across all, in standard deviations, cut at 5."""
        reference = self._reference
        with np.errstate(all="ignore"):
            along = offset @ reference.axes
            inside = along * self._deviations
            square = float(offset @ offset) - float(inside @ inside)
        across = (
            math.log(max(square, self._floor)) if math.isfinite(square) else math.inf
        )
        z = np.empty(len(along) + 1)
        z[:-1] = along
        z[-1] = (across - reference.residual_mean) / reference.residual_deviation
        if not math.isfinite(float(z.sum())):
            # What is not a number is as far from usual as anything can be.
            z = np.nan_to_num(z, nan=_FARTHEST)
        return np.minimum(np.maximum(z, -_FARTHEST), _FARTHEST)

    def _update_confidence(self, confidence: float) -> float:
        reference = self._reference
        if not math.isfinite(confidence):
            confidence = 0.0
        z = (reference.confidence_mean - confidence) / reference.confidence_deviation
        fall = self._fall + min(max(z, -_LOWEST), _LOWEST) - reference.allowance
        most = _MOST_CONFIDENCE_SUM * reference.confidence_limit
        self._fall = min(max(fall, 0.0), most)
        return self._fall


def write_reference(reference: Reference) -> bytes:
    """Pack a reference; the same one gives the same bytes."""
    header = _Header(
        residual_mean=reference.residual_mean,
        residual_deviation=reference.residual_deviation,
        confidence_mean=reference.confidence_mean,
        confidence_deviation=reference.confidence_deviation,
        allowance=reference.allowance,
        input_limit=reference.input_limit,
        confidence_limit=reference.confidence_limit,
        false_alarm_frames=reference.false_alarm_frames,
    )
    stream = io.BytesIO()
    np.savez_compressed(
        stream,
        header=np.frombuffer(to_json(header, schema=DRIFT_SCHEMA), np.uint8),
        means=reference.means,
        axes=reference.axes,
        deviations=reference.deviations,
    )
    return stream.getvalue()


def read_reference(content: bytes, *, name: str = "the drift reference") -> Reference:
    """Unpack a reference from outside.

    Raises:
        NewerSchemaError: It was written by a newer Skerry.
        DataError: It is none, is damaged, or holds what makes no sense.
    """
    if len(content) > LARGEST_REFERENCE_BYTES:
        raise _damaged(name, f"it has {len(content)} bytes")
    with _npz.open_npz(content, name=name) as archive:
        members = _npz.read_members(archive, name=name)
        size_bytes = sum(part.shape[0] * part.row_bytes for part in members.values())
        if size_bytes > LARGEST_REFERENCE_BYTES:
            raise _damaged(name, f"it unpacks to {size_bytes} bytes")
        arrays = {
            part.name: np.array(list(_npz.read_rows(archive, part)), dtype=part.dtype)
            for part in members.values()
        }
    text = arrays.pop("header", np.empty(0, np.uint8)).tobytes()
    header = from_json(_Header, text, schema=DRIFT_SCHEMA, name=name)
    _check_arrays(arrays, name)
    _check_header(header, name)
    return Reference(
        means=arrays["means"],
        axes=arrays["axes"],
        deviations=arrays["deviations"],
        **msgspec.structs.asdict(header),
    )


def _check_samples(
    embeddings: Array, confidences: Array, labels: Array | None
) -> tuple[Floats, Floats, NDArray[np.int64]]:
    n = len(embeddings)
    flat = np.asarray(embeddings, np.float64).reshape(n, -1)
    sure = np.asarray(confidences, np.float64).reshape(-1)
    classes = np.full(n, -1) if labels is None else np.asarray(labels, np.int64)
    if n < FEWEST_SAMPLES or len(sure) != n or classes.shape != (n,):
        raise DataError(
            f"got {n} embeddings, {len(sure)} confidences and {classes.size} labels, "
            f"expected as many of each and at least {FEWEST_SAMPLES}",
            hint="Give more clean samples.",
        )
    if not np.isfinite(flat).all() or not np.isfinite(sure).all() or not flat.size:
        raise DataError(
            "embeddings or confidences are empty, NaN or infinite",
            hint="Check the model on these samples.",
        )
    if classes.max() >= _MOST_CLASSES:
        classes = np.full(n, -1)
    return flat, sure, np.where(classes < 0, -1, classes)


def _groups(conditions: Array | None, n: int) -> list[NDArray[np.int64]]:
    """The samples of each condition."""
    if conditions is None:
        return [np.arange(n)]
    if conditions.shape != (n,):
        raise DataError(
            f"got {conditions.size} conditions for {n} samples",
            hint="Give one a sample.",
        )
    return [np.flatnonzero(conditions == which) for which in np.unique(conditions)]


def _widest_limit(
    maxima: Callable[[NDArray[np.int64]], Floats],
    groups: list[NDArray[np.int64]],
    rest: NDArray[np.int64],
    rng: np.random.Generator,
    false_alarm_frames: int,
) -> float:
    """The limit under the condition that needs the widest.

    Args:
        maxima: Gives the maximum of the chart's statistic in each stream, [streams],
            of rows of `rest`, int [frames, streams].
        groups: The samples of each condition.
        rest: The samples that streams are drawn from.
        rng: Chance.
        false_alarm_frames: Mean run length between false alarms.
    """
    limits = []
    for group in groups:
        rows = np.flatnonzero(np.isin(rest, group))
        if len(rows):
            limits.append(_limit(maxima(_draw(rows, rng)), false_alarm_frames))
    return max(limits)


def _draw(rows: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw streams, int [frames, streams]; how often each row comes differs by stream.

    How frequent each kind of sample is, is itself known from these few only (the
    Bayesian bootstrap of D. Rubin, The Annals of Statistics 9(1), 1981).
    """
    streams = [
        rng.choice(rows, _STREAM_FRAMES, p=rng.dirichlet(np.ones(len(rows))))
        for _ in range(_STREAMS)
    ]
    return np.stack(streams, axis=1)


def _class_means(flat: Floats, classes: NDArray[np.int64]) -> Floats:
    means = np.tile(flat.mean(0), (int(classes.max()) + 2, 1))
    for label in range(len(means) - 1):
        ours = classes == label
        if ours.sum() >= _FEWEST_OF_A_CLASS:
            means[label] = flat[ours].mean(0)
    return means


def _main_axes(offsets: Floats) -> tuple[Floats, Floats]:
    """Principal directions, divided by their standard deviations [D, K], [K]."""
    _, singular, directions = np.linalg.svd(offsets, full_matrices=False)
    is_alive = singular > max(float(singular[0]), _TINY) * 1e-6
    # One direction at least is left for the distance across the axes.
    k = max(min(MOST_AXES, len(offsets) // 4, int(is_alive.sum()) - 1), 0)
    deviations = singular[:k] / math.sqrt(len(offsets))
    return directions[:k].T / deviations, deviations


def _project(
    offsets: Floats, axes: Floats, deviations: Floats
) -> tuple[Floats, Floats]:
    """Distances along the axes [N, K]; log squared distance across them [N]."""
    along = offsets @ axes
    square = (offsets**2).sum(1) - ((along * deviations) ** 2).sum(1)
    return along, np.log(np.maximum(square, _floor(deviations)))


def _floor(deviations: Floats) -> float:
    """Squared distances below this are rounding: float32 has seven digits."""
    return 1e-5 * float((deviations**2).sum()) + _TINY


def _moments(values: Floats) -> tuple[float, float]:
    deviation = float(values.std())
    return float(values.mean()), deviation if deviation > 1e-6 else 1.0


def _input_maxima(z: Floats, draws: NDArray[np.int64]) -> Floats:
    cut = np.clip(z, -_FARTHEST, _FARTHEST)
    smooth = np.zeros((draws.shape[1], z.shape[1]))
    most = np.zeros(draws.shape[1])
    for drawn in draws:
        smooth += SMOOTHING * (cut[drawn] - smooth)
        most = np.maximum(most, (smooth**2).sum(1))
    return most * (2 - SMOOTHING) / SMOOTHING


def _fall_maxima(falls: Floats, draws: NDArray[np.int64]) -> Floats:
    cut = np.clip(falls, -_LOWEST, _LOWEST) - ALLOWANCE
    total = np.zeros(draws.shape[1])
    most = np.zeros(draws.shape[1])
    for drawn in draws:
        total = np.maximum(total + cut[drawn], 0.0)
        most = np.maximum(most, total)
    return most


def _limit(maxima: Floats, false_alarm_frames: int) -> float:
    """The level that a stream exceeds once in so many frames, by a Gumbel tail."""
    scale = max(float(maxima.std()) * math.sqrt(6) / math.pi, 1e-3)
    location = float(maxima.mean()) - _EULER * scale
    rarer = max(false_alarm_frames / _STREAM_FRAMES, 1.0)
    return _SPARE * (location + scale * math.log(rarer))


def _verdict(statistic: float, limit: float) -> Verdict:
    return Verdict(is_drift=statistic > limit, statistic=statistic, limit=limit)


def _check_arrays(arrays: dict[str, Array], name: str) -> None:
    ranks = {"means": 2, "axes": 2, "deviations": 1}
    found = {key: (array.dtype.name, array.ndim) for key, array in arrays.items()}
    if found != {key: ("float32", rank) for key, rank in ranks.items()}:
        raise _damaged(name, f"its arrays are {found}")
    means, axes, deviations = (arrays[key] for key in ranks)
    if means.shape[1] != axes.shape[0] or axes.shape[1] != len(deviations):
        raise _damaged(name, "the sizes of its arrays disagree")
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise _damaged(name, "an array holds NaN or infinities")
    if not means.size:
        raise _damaged(name, "an array is empty")


def _check_header(header: _Header, name: str) -> None:
    numbers = msgspec.structs.asdict(header)
    is_finite = all(math.isfinite(number) for number in numbers.values())
    if not is_finite or min(numbers[key] for key in _ABOVE_0) <= 0:
        raise _damaged(name, "a number in its header makes no sense")


def _damaged(name: str, why: str) -> DataError:
    return DataError(
        f"{name} is not a whole {DRIFT_SCHEMA}: {why}", hint="Make the release again."
    )
