"""What a student is told by its teacher, as pure functions: one loss a sample.

Teachers are given without gradients. Each function returns float32 [n], so that samples
can be weighted before the mean is taken.
"""

from __future__ import annotations

from collections.abc import Sequence

from skerry.runtimes.torch import Tensor, functional, torch

BOX_COLUMNS = 4
"""Columns of a detector's row that are a box; the next one says if there is any."""

LEAST_PROBABILITY = 1e-7
"""What a probability of 0 counts as where its logarithm is needed."""


def softened(student: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
    """The plain loss of knowledge distillation.

    G. Hinton et al., "Distilling the Knowledge in a Neural Network" (2015), section 2:
    T² · KL(teacher ‖ student) of the probabilities at temperature T. The factor keeps
    the gradients' size where T changes.

    Args:
        student: Logits, [n, C].
        teacher: Logits, [n, C].
        temperature: Above 0; 1 leaves the probabilities as they are.
    """
    own = functional.log_softmax(student / temperature, dim=1)
    told = functional.log_softmax(teacher / temperature, dim=1)
    return temperature**2 * _divergence(told, own)


def decoupled(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor,
    *,
    temperature: float,
    target_weight: float = 1.0,
    others_weight: float = 8.0,
) -> Tensor:
    """Distil how sure the teacher is apart from what it takes the other classes for.

    B. Zhao et al., "Decoupled Knowledge Distillation" (2022), equation 7:
    T² · (α · TCKD + β · NCKD). TCKD is the divergence of the two probabilities "the
    target" and "any other class", NCKD that of the classes without the target. With
    α = 1 and β = 1 - p(target) of the teacher it is `softened` (equation 6).

    Args:
        student: Logits, [n, C].
        teacher: Logits, [n, C].
        labels: The target of each sample, int64 [n].
        temperature: Above 0.
        target_weight: α.
        others_weight: β; the paper takes 2 to 8, more where the teacher is surer.
    """
    own_target, own_others = _parted(student / temperature, labels)
    told_target, told_others = _parted(teacher / temperature, labels)
    target = _divergence(told_target, own_target)
    others = _divergence(told_others, own_others)
    return temperature**2 * (target_weight * target + others_weight * others)


def matched(student: Tensor, teacher: Tensor) -> Tensor:
    """How far features are from the teacher's: 0 where equal, 1 for a student of zeros.

    The hint of A. Romero et al., "FitNets: Hints for Thin Deep Nets" (2015), equation
    3, divided by the mean square of the teacher's features, so that a weight means the
    same for each layer.

    Args:
        student: Features that an adapter has brought to the teacher's shape, [n, …].
        teacher: The teacher's.
    """
    far = (student - teacher).square().flatten(1).mean(1)
    return far / teacher.square().mean().clamp_min(LEAST_PROBABILITY)


def boxed(student: Tensor, teacher: Tensor) -> Tensor:
    """Distil a detector's answers, where the teacher sees an object.

    R. Mehta and C. Ozturk, "Object detection at 200 Frames Per Second" (2018), section
    3.3: squared differences of boxes and of classes count as much as the teacher is
    sure of an object there, or the background would teach the most; how sure it is
    counts everywhere. Divided by the objects the teacher sees, at least one.

    Args:
        student: Rows of boxes, objectness and classes, probabilities 0–1,
            [n, cells, 5 + C].
        teacher: The same.
    """
    there = teacher[..., BOX_COLUMNS]
    far = (student - teacher).square()
    boxes = far[..., :BOX_COLUMNS].sum(-1)
    classes = far[..., BOX_COLUMNS + 1 :].sum(-1)
    rows = far[..., BOX_COLUMNS] + there * (boxes + classes)
    return rows.sum(1) / there.sum(1).clamp_min(1)


def mean_of(teachers: Sequence[Tensor], *, temperature: float) -> Tensor:
    """The logits of several teachers' mean probabilities at a temperature.

    Args:
        teachers: Logits, [n, C] each.
        temperature: That at which the student will be compared with them.

    Returns:
        [n, C]; at that temperature their softmax is the mean of the teachers' ones.
    """
    told = [functional.log_softmax(one / temperature, dim=1) for one in teachers]
    return temperature * (torch.stack(told).logsumexp(0))


def agreed(teachers: Sequence[Tensor], *, temperature: float) -> tuple[Tensor, Tensor]:
    """What most teachers agree on, and how many they are.

    Each teacher has a vote for one class; on a tie the class of the higher mean
    probability wins. Those who voted for it are averaged, and a sample weighs as much
    as their share: what teachers quarrel about teaches less.

    Args:
        teachers: Logits, [n, C] each.
        temperature: That at which the student will be compared with them.

    Returns:
        Logits [n, C], and the weights of samples, 0–1, [n].
    """
    told = torch.stack(list(teachers))
    probabilities = functional.softmax(told, dim=2)
    votes = functional.one_hot(told.argmax(2), told.shape[2]).sum(0)
    chosen = (votes + probabilities.mean(0) / 2).argmax(1)
    is_for = told.argmax(2) == chosen
    at = functional.log_softmax(told / temperature, dim=2)
    kept = at.masked_fill(~is_for[..., None], -torch.inf).logsumexp(0)
    return temperature * kept, is_for.float().mean(0)


def _divergence(told: Tensor, own: Tensor) -> Tensor:
    """KL(told ‖ own) of logarithms of probabilities [n, C], [n]."""
    return functional.kl_div(own, told, reduction="none", log_target=True).sum(1)


def _parted(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Log probabilities of target and rest, [n, 2], and of the rest alone, [n, C-1]."""
    is_target = functional.one_hot(labels, logits.shape[1]).bool()
    others = logits[~is_target].view(len(logits), -1)
    both = torch.stack([logits[is_target], others.logsumexp(1)], dim=1)
    return functional.log_softmax(both, dim=1), functional.log_softmax(others, dim=1)
