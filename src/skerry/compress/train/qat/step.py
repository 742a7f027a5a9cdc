"""The recipe step `qat`: fine-tune a network while its numbers are rounded."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, get_args

from skerry.compress.numbers.schemes import Method
from skerry.compress.ptq.operators import Operators
from skerry.compress.ptq.patterns import DEFAULT_RUNTIME
from skerry.compress.ptq.quantize import (
    Equalization,
    Quantize,
    Rounding,
)
from skerry.compress.train.fit import Loss, fit
from skerry.compress.train.qat.fake import Ranges
from skerry.compress.train.qat.net import QuantizedNet, quantized_net
from skerry.compress.train.qat.norms import reestimate_norms
from skerry.compress.train.qat.schedule import Order
from skerry.compress.train.training import Batch, TrainContext, Training
from skerry.core.errors import UsageError
from skerry.core.names import did_you_mean
from skerry.core.recipe import Choices, Space, Span
from skerry.runtimes.torch import Tensor, functional, nn, output_tensors, torch
from skerry.tasks.task import TaskKind

TEMPERATURE = 2.0
"""At which the float network's answers are compared with those of the rounded one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Qat:
    """Fine-tune a network with the numbers that its exported model will have.

    The step begins with what `Quantize` makes of the network and trains its weights
    and scales from there. What it returns is the exported model, in torch: the same
    codes, and a score to go by.

    Attributes:
        epochs: How long.
        learning_rate: At the beginning; 0 takes that of the training.
        ranges: How scales follow training.
        order: Which quantizers round first.
        freeze: The share of the epochs, at the end, in which scales stand still.
        imitate: How much of the loss is the distance from the float network's
            answers, 0 to 1; what remains is the training's own loss.
        norm_batches: On how many batches the statistics of batch norms are measured
            again before they are folded; 0 takes them as they are.
        weight_bits: As `Quantize` has it, and so are all that follow; blocks of weights
            are not trained.

    Raises:
        UsageError: One of them is out of bounds, or there is no such choice.
    """

    SPACE: ClassVar[Space] = {
        "epochs": Span(low=1, high=10, is_integer=True, is_log=True),
        "learning_rate": Span(low=1e-5, high=1e-2, is_log=True),
        "ranges": Choices(values=get_args(Ranges)),
        "order": Choices(values=get_args(Order)),
        "freeze": Span(low=0, high=0.5),
        "imitate": Span(low=0, high=1),
        **{
            name: Quantize.SPACE[name]
            for name in ("weight_bits", "operators", "per_channel", "rounding")
        },
    }

    epochs: int = 3
    learning_rate: float = 0.0
    ranges: Ranges = "learned"
    order: Order = "together"
    freeze: float = 0.3
    imitate: float = 0.5
    norm_batches: int = 0
    weight_bits: int = 8
    activation_bits: int = 8
    activation_symmetric: bool = False
    operators: Operators = "weights"
    method: Method = "mse"
    per_channel: bool = True
    keep_float: tuple[str, ...] = ()
    equalize: Equalization = "activations"
    weight_method: Method = "mse"
    correct_bias: bool = True
    rounding: Rounding = "nearest"
    smooth: float = 0.0
    runtime: str = DEFAULT_RUNTIME

    def __post_init__(self) -> None:
        for name, choice, known in (
            ("ranges", self.ranges, get_args(Ranges)),
            ("order", self.order, get_args(Order)),
        ):
            if choice not in known:
                raise UsageError(
                    f"{name} is {choice!r}", hint=did_you_mean(str(choice), known)
                )
        for name, share in (("freeze", self.freeze), ("imitate", self.imitate)):
            if not 0 <= share <= 1:
                raise UsageError(
                    f"{name} is {share!r}, expected 0 to 1", hint="0 leaves it out."
                )
        if self.norm_batches < 0:
            raise UsageError(
                f"norm_batches is {self.norm_batches}, expected 0 or more",
                hint="0 takes batch norms as they are.",
            )
        # A recipe file knows lists only; what the quantizer refuses, it refuses here.
        object.__setattr__(self, "keep_float", tuple(self.keep_float))
        _ = self.quantize

    @property
    def quantize(self) -> Quantize:
        """The step that decides what is rounded, and how."""
        shared = {one.name for one in fields(Quantize)} & {
            one.name for one in fields(self)
        }
        return Quantize(**{name: getattr(self, name) for name in shared})

    def apply(self, module: nn.Module, context: TrainContext) -> QuantizedNet:
        """Return the fine-tuned network, with its numbers rounded.

        Args:
            module: The float network; it is left as it was.
            context: Batches, the loss, and samples for ranges and scores.

        Raises:
            DataError: Samples or batches do not fit the network, or there are none.
            ModelError: The network cannot be exported or quantized, an operator of it
                cannot go back into torch, or training diverged.
            UsageError: There is no node of a name to keep float.
        """
        training = context.training
        if self.norm_batches:
            module = reestimate_norms(
                module, training.batches(0), count=self.norm_batches
            )
        net = quantized_net(
            module,
            training.example,
            training.calibration,
            step=self.quantize,
            ranges=self.ranges,
            inputs=training.inputs,
            outputs=training.outputs,
            progress=context.progress,
        )
        fit(
            net,
            replace(training, batches=self._staged(net, training)),
            epochs=self.epochs,
            learning_rate=self.learning_rate or None,
            loss=_imitating(module, training, self.imitate),
            seed=context.seed,
            progress=context.progress,
        )
        return net

    def _staged(
        self, net: QuantizedNet, training: Training
    ) -> Callable[[int], Iterable[Batch]]:
        """The training's batches; the network's quantizers are set for each epoch."""

        def batches(epoch: int) -> Iterable[Batch]:
            net.advance(epoch, self.epochs, order=self.order, frozen=self.freeze)
            return training.batches(epoch)

        return batches


def _imitating(module: nn.Module, training: Training, share: float) -> Loss | None:
    """The training's loss, and the distance from what the float network answers.

    Answers of a classifier are compared as distributions (G. Hinton et al.,
    "Distilling the Knowledge in a Neural Network", arXiv:1503.02531, section 2), those
    of others as numbers.
    """
    if not share:
        return None
    teacher = copy.deepcopy(module).eval().requires_grad_(requires_grad=False)
    is_classifier = training.task.kind is TaskKind.CLASSIFICATION
    distance = _divergence if is_classifier else _squared

    def loss(
        _: nn.Module, inputs: tuple[Tensor, ...], outputs: Any, labels: Any
    ) -> Tensor:
        with torch.no_grad():
            right = output_tensors(teacher(*inputs))
        found = output_tensors(outputs)
        far = torch.stack(list(map(distance, found, right))).mean()
        own = training.loss(outputs, labels) if share < 1 else 0.0
        return (1 - share) * own + share * far

    return loss


def _divergence(found: Tensor, right: Tensor) -> Tensor:
    return TEMPERATURE**2 * functional.kl_div(
        (found / TEMPERATURE).log_softmax(-1),
        (right / TEMPERATURE).log_softmax(-1),
        reduction="batchmean",
        log_target=True,
    )


def _squared(found: Tensor, right: Tensor) -> Tensor:
    return functional.mse_loss(found, right) / right.square().mean().clamp_min(1e-12)
