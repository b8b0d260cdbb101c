"""Losses around a loss: with earlier batches as references, over prefixes of the embedding, with terms beside it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from tuplet.bounds import Count, NotNegative, Positive, bounded
from tuplet.engine import SINGLE_PROCESS, Outcome, stream
from tuplet.engine.gather import first_row
from tuplet.engine.program import Found, Mean, Pair, Program, Term, count, total
from tuplet.errors import ShapeError
from tuplet.heads import ClassWeights
from tuplet.losses.base import MetricLoss
from tuplet.losses.declare import DeclaredLoss
from tuplet.losses.inputs import prepare_inputs
from tuplet.losses.npair import mean_square
from tuplet.losses.pending import Call
from tuplet.memory import FeatureQueue
from tuplet.types import GeometryName


class WrappedLoss(MetricLoss):
    """A loss that is called, compares, is saved and advances as the one that it is around.

    Args:
        loss: What it is around.
    """

    def __init__(self, loss: MetricLoss) -> None:
        super().__init__(loss.geometry, processes=loss.processes)
        self.loss = loss
        self.takes = loss.takes  # type: ignore[misc]  # each has those of its own
        self._pending.rows = loss._pending.rows  # noqa: SLF001  # it takes in the calls of the other

    @property
    def has_state(self) -> bool:
        """Whether the loss within has any."""
        return self.loss.has_state

    @property
    def ranks_by(self) -> GeometryName:
        """As the loss within ranks."""
        return self.loss.ranks_by

    def _with_own(self, sides: dict[str, Any]) -> dict[str, Any]:
        own = {} if self.execution is None else {"execution": self.execution}
        return self.loss._with_own(own | sides)  # noqa: SLF001  # as if it had been called

    def _outcome(self, embeddings: Tensor, labels: Tensor | None, **sides: Any) -> Outcome:
        return self.loss._outcome(embeddings, labels, **sides)  # noqa: SLF001  # as if it had been called

    def _call(self, embeddings: Tensor, labels: Tensor | None, sides: dict[str, Any]) -> Call:
        return self.loss._call(embeddings, labels, sides)  # noqa: SLF001  # as if it had been called

    def _take_in(self, calls: list[Call]) -> None:
        self.loss._take_in(calls)  # noqa: SLF001  # as if it had been called


class QueuedLoss(WrappedLoss):
    """A loss whose references are the batch and, behind it, the latest rows of the batches before.

    Rows of the queue are constants. `advance` moves it, once for each step, and it is saved with the loss: exactly what
    a loss does that was built with `queue=`.

    Args:
        loss: One with references, and without a queue.
        queue: The latest rows.

    Raises:
        ShapeError: If the loss has no references that a queue could stand behind, or has a queue.
    """

    def __init__(self, loss: MetricLoss, queue: FeatureQueue) -> None:
        super().__init__(loss)
        kind = type(loss).__name__
        if "queue" not in loss.takes:
            raise ShapeError(
                f"{kind} compares with no set of references, so rows of earlier batches have no place in it.",
                hint="Leave the queue out, or take a loss over pairs or triplets: supcon, multi_similarity, info_nce.",
                reference="no-queue",
            )
        if loss.queue is not None:
            raise ShapeError(f"{kind} has a queue.", hint="Give it one, or the other.", reference="no-queue")
        self.queue = queue
        self._pending.rows = max(queue.size, loss._pending.rows)  # noqa: SLF001  # it takes in the calls of the other

    @property
    def has_state(self) -> bool:
        """The queue."""
        return True

    def _with_own(self, sides: dict[str, Any]) -> dict[str, Any]:
        assert self.queue is not None  # noqa: S101  # it was given one
        return super()._with_own({**self._of_queue(self.queue, sides), **sides})

    def _take_in(self, calls: list[Call]) -> None:
        super()._take_in(calls)
        assert self.queue is not None  # noqa: S101  # it was given one
        for call in calls:
            self.queue.push(call.embeddings, call.labels, call.processes)


class MatryoshkaLoss(WrappedLoss):
    r"""The loss of every prefix of the embedding, so that its first dimensions alone serve as a shorter embedding.

    $$L = \sum_k w_k\, L(x_{1 \dots d_k})$$

    References, a queue and class weights are cut to the same prefix.

    Args:
        loss: Of one prefix.
        dims: d, ascending lengths of the prefixes; the whole embedding is one only if it is among them.
        weights: w, one for each prefix; None for 1.

    Raises:
        ShapeError: If lengths do not ascend, or there is not one weight for each.

    References:
        Kusupati et al., "Matryoshka Representation Learning", 2022, eq. 1; class weights are cut as in its efficient
        form.
    """

    @bounded
    def __init__(self, loss: MetricLoss, dims: Sequence[Count], weights: Sequence[NotNegative] | None = None) -> None:
        super().__init__(loss)
        self.dims, self.weights = tuple(dims), tuple(weights or (1.0,) * len(dims))
        if not self.dims or list(self.dims) != sorted(set(self.dims)) or len(self.weights) != len(self.dims):
            raise ShapeError(
                f"Prefixes of lengths {self.dims} with weights {self.weights} were asked for.",
                hint="Name lengths from short to long, each once, and as many weights.",
                reference="matryoshka",
            )

    def _outcome(self, embeddings: Tensor, labels: Tensor | None, **sides: Any) -> Outcome:
        whole = embeddings.shape[-1]
        self.check_dim(whole)
        found = [self._of_prefix(dim, whole, embeddings, labels, sides) for dim in self.dims]
        last = found[-1]
        value = sum(weight * each.value for weight, each in zip(self.weights, found, strict=True))
        return Outcome(value * last.count.to(last.total.dtype), last.count, last.stats)

    def check_dim(self, dim: int) -> None:
        """Refuse prefixes that are longer than an embedding.

        Raises:
            ShapeError: See above.
        """
        if self.dims[-1] > dim:
            raise ShapeError(
                f"A prefix of length {self.dims[-1]} was asked of embeddings of length {dim}.",
                hint=f"Use lengths up to {dim}.",
                reference="matryoshka",
            )

    def _of_prefix(
        self, dim: int, whole: int, embeddings: Tensor, labels: Tensor | None, sides: Mapping[str, Any]
    ) -> Outcome:
        """The loss of the first `dim` columns."""
        mine = embeddings[..., :dim]
        cut = {name: _prefix(side, dim, whole) for name, side in sides.items()}
        owned = [name for name in getattr(self.loss, "inputs", {}) if name not in _CALLED]
        if dim == whole or not owned:
            return self.loss._outcome(mine, labels, **cut)  # noqa: SLF001  # as if it had been called
        return self._of_weights({"embeddings": mine, "labels": labels}, owned, cut, (dim, whole))

    def _of_weights(
        self, called: dict[str, Tensor | None], owned: list[str], sides: dict[str, Any], cut: tuple[int, int]
    ) -> Outcome:
        """The loss with class weights that are cut too."""
        loss, kind = self.loss, type(self.loss)
        weights = getattr(loss, "classes", None)
        is_part = isinstance(weights, ClassWeights) and (weights.is_sampled or weights.shards.size > 1)
        if not isinstance(loss, DeclaredLoss) or is_part or not all(hasattr(loss, name) for name in owned):
            raise ShapeError(
                f"{kind.__name__} has no form of its own weights that could be cut to a prefix.",
                hint="Prefixes are for losses over pairs, class proxies and plain class weights.",
                reference="matryoshka",
            )
        inputs = called | {name: _prefix(getattr(loss, name), *cut) for name in owned}
        part = loss.__new__(type(loss))
        vars(part).update({name: vars(loss)[name] for name in loss.options if name in vars(loss)})
        centers = {"sub_centers": weights.centers} if isinstance(weights, ClassWeights) else {}
        return part.of_tensors({name: inputs[name] for name in loss.inputs}, sides | centers)


_CALLED = frozenset({"embeddings", "labels", "anchors", "references", "relation"})
"""Inputs that come with a call."""


class RegularisedLoss(WrappedLoss):
    r"""A loss with terms that spread directions out, or keep embeddings short.

    $$L + \lambda \log \mathbb{E}_{i \ne j}\, e^{-t \lVert \hat x_i - \hat x_j \rVert^2} + \rho\, \mathbb{E}\lVert x
    \rVert^2$$

    Uniformity is that of the embeddings, or the mean of that and of the references' where there are some.

    Args:
        loss: L.
        uniformity: λ, at least 0.
        norm_penalty: ρ, at least 0.
        sharpness: t > 0.

    References:
        Wang and Isola, "Understanding Contrastive Representation Learning through Alignment and Uniformity on the
        Hypersphere", 2020, section 4.1.2; Sohn, "Improved Deep Metric Learning with Multi-class N-pair Loss Objective",
        2016, section 3.2.2.
    """

    @bounded
    def __init__(
        self,
        loss: MetricLoss,
        uniformity: NotNegative = 0.0,
        norm_penalty: NotNegative = 0.0,
        sharpness: Positive = 2.0,
    ) -> None:
        super().__init__(loss)
        self.uniformity, self.norm_penalty, self.sharpness = uniformity, norm_penalty, sharpness

    def _outcome(self, embeddings: Tensor, labels: Tensor | None, **sides: Any) -> Outcome:
        outcome = self.loss._outcome(embeddings, labels, **sides)  # noqa: SLF001  # as if it had been called
        references = sides.get("references")
        sets = [x for x in (embeddings, references) if x is not None]
        added = outcome.total.new_zeros(())
        if self.uniformity:
            terms = [uniformity(x, self.sharpness, sides) for x in sets]
            added = added + self.uniformity * sum(terms) / len(terms)
        if self.norm_penalty:
            processes = sides.get("processes", SINGLE_PROCESS)
            added = added + self.norm_penalty * mean_square([(x, None) for x in sets], processes)
        return Outcome(outcome.total + added * outcome.count.to(added.dtype), outcome.count, outcome.stats)


def uniformity(x: Tensor, sharpness: float, sides: Mapping[str, Any]) -> Tensor:
    r"""$\log \mathbb{E}_{i \ne j} e^{-t \lVert \hat x_i - \hat x_j \rVert^2}$ over the rows of all processes.

    Args:
        x: Embeddings, (rows, dim).
        sharpness: t.
        sides: Processes, execution and tile size of the call.

    Returns:
        0 for fewer than two rows.
    """
    processes = sides.get("processes", SINGLE_PROCESS)
    given = {name: sides.get(name) for name in ("execution", "tile_size")}
    own = torch.arange(len(x), device=x.device) + first_row(len(x), processes, x.device)
    problem = prepare_inputs(x, own, given | {"processes": processes})
    found = stream(_Near(sharpness), problem.anchors, problem.references, problem.relation, **problem.stream_options)
    return torch.where(found.count > 0, torch.where(found.count > 0, found.value, 1.0).log(), 0.0)


@dataclass(frozen=True)
class _Near(Program):
    r"""The mean of $e^{-t (2 - 2 s)}$ over all pairs."""

    sharpness: float = 2.0
    local: ClassVar[bool] = True

    def terms(self, score: Tensor, pair: Pair) -> dict[str, Term]:
        """One exponential for each pair."""
        return {
            "loss": total((2 * self.sharpness * (score - 1)).exp(), where=pair.negative),
            "pairs": count(pair.negative),
        }

    def finish(self, found: Found) -> Mean:
        """Each pair counts."""
        return Mean(found["loss"], found["pairs"])


def _prefix(side: Any, dim: int, whole: int) -> Any:
    """The first columns of what is as long as an embedding."""
    is_long = isinstance(side, Tensor) and side.is_floating_point() and side.ndim > 1 and side.shape[-1] == whole
    return side[..., :dim] if is_long else side
