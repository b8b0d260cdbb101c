"""Contrastive predictive coding: the context at a time tells the latents some steps ahead from those of others."""

import math
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from tuplet.bounds import Count
from tuplet.engine import SINGLE_PROCESS, Execution, Outcome, Processes, combine, gather, stream
from tuplet.engine.gather import all_gather, first_row, shared
from tuplet.engine.listed import Lists, listed
from tuplet.errors import ShapeError
from tuplet.losses.declare import DeclaredLoss, register
from tuplet.losses.inputs import ROWS, Checks, RowOptions, check_embeddings, check_weights
from tuplet.reductions import Softmax
from tuplet.relation import Paired
from tuplet.seeding import derive
from tuplet.tensors import wide_dtype


def mutual_information_bound(value: float | Tensor, candidates: int) -> float | Tensor:
    r"""$I(x; c) \ge \log N - L$: what a loss of InfoNCE's form says about the mutual information, in nats.

    The bound never exceeds log N, since L is at least 0: N has to grow with $e^I$.

    Args:
        value: L, the mean of the loss.
        candidates: N, positive included.

    Returns:
        log N - L.
    """
    return math.log(candidates) - value


@register("cpc")
class CPCLoss(DeclaredLoss):
    r"""Cross-entropy of the latent k steps ahead among its candidates, under one bilinear critic per step.

    $$f_k(x_{t+k}, c_t) = e^{z_{t+k}^\top W_k c_t}, \quad
    L = -\mathrm{E}_{n,t,k} \log \frac{f_k(x_{t+k}, c_t)}{\sum_{j} f_k(x_j, c_t)}$$

    The best critic is proportional to the density ratio p(x|c) / p(x), and log N - L bounds the mutual information from
    below (`mutual_information_bound`). A module owns the maps and is called as `loss(latents, contexts)`, both
    `(batch, time, dim)`. A weight belongs to a sequence, at all its times.

    Inputs:
        latents: z.
        contexts: c, each made of the latents up to its time.
        maps: W_k for k = 1 to steps; steps that no sequence is long enough for have no terms.
        lengths: Times of each sequence that count, from the start; what comes later takes no part, neither as something
            to predict nor as a candidate. None: all of them.

    Args:
        latent_dim: Length of a latent.
        context_dim: Length of a context.
        steps: How many steps ahead are predicted.
        negatives: Candidates are the latents at time t + k of all sequences ("batch", N of them), or every latent of
            the batch ("all", N T of them).
        seed: Of the maps' first values.
        processes: Who computes the loss together; all have as many times.

    References:
        van den Oord, Li, Vinyals, "Representation Learning with Contrastive Predictive Coding", 2018, eq. 3 and 4.
    """

    latent_dim: Count
    context_dim: Count
    steps: Count
    negatives: Literal["batch", "all"] = "batch"
    _: KW_ONLY
    seed: int = 0
    processes: Processes = SINGLE_PROCESS

    suits = "the future of a series"
    supervision = "none"
    fixed_geometry = "dot"
    divides_by = "all (n, t, k) with t + k inside the sequence"
    takes: ClassVar[frozenset[str]] = ROWS
    sides: ClassVar[Any] = RowOptions
    inputs: ClassVar[Mapping[str, Any]] = {
        "latents": Float[Tensor, "batch time latent"],
        "contexts": Float[Tensor, "batch time context"],
        "maps": Float[Tensor, "steps latent context"],
    }
    keyword_inputs: ClassVar[Mapping[str, Any]] = {"lengths": Int[Tensor, " batch"] | None}
    of_module: ClassVar[frozenset[str]] = frozenset({"latent_dim", "context_dim", "steps", "seed", "processes"})

    def setup(self) -> None:
        """Draw the maps."""
        shape = self.steps, self.latent_dim, self.context_dim
        start = torch.randn(*shape, generator=derive(self.seed, "cpc maps"))
        self.maps = nn.Parameter(start / math.sqrt(self.context_dim))

    def of_tensors(self, inputs: dict[str, Any], sides: dict[str, Any]) -> Outcome:
        """Maps given as a tensor."""
        vars(self)["maps"] = inputs["maps"]
        return self._outcome(inputs["latents"], inputs["contexts"], **sides)

    def _outcome(self, embeddings: Tensor, labels: Tensor | None, **sides: Any) -> Outcome:
        if labels is None or labels.ndim != 3:
            raise ShapeError(
                "CPC was called without contexts.",
                hint="Call loss(latents, contexts), both of shape (batch, time, dim).",
                reference="embedding-shape",
            )
        stream_options = StreamOptions(
            sides.get("processes", SINGLE_PROCESS), sides.get("stats", False), sides.get("execution")
        )
        maps = shared(self.maps, stream_options.processes)
        return _outcome(
            embeddings, labels, maps, self.negatives, sides.get("lengths"), sides.get("weights"), stream_options
        )


cpc = CPCLoss.function()


@dataclass(frozen=True)
class StreamOptions:
    """How the passes of a call are carried out: by whom, with statistics or not, on what."""

    processes: Processes = SINGLE_PROCESS
    stats: bool = False
    execution: Execution | None = None


def _outcome(
    latents: Tensor,
    contexts: Tensor,
    maps: Tensor,
    negatives: str,
    lengths: Tensor | None,
    weights: Tensor | None,
    stream_options: StreamOptions,
) -> Outcome:
    batch, times, dim = latents.shape
    if contexts.shape[:2] != latents.shape[:2] or maps.shape[1:] != (dim, contexts.shape[2]):
        raise ShapeError(
            f"latents have shape {tuple(latents.shape)}, contexts {tuple(contexts.shape)}, maps {tuple(maps.shape)}.",
            hint="Expected (batch, time, latent), (batch, time, context) and (steps, latent, context).",
            reference="embedding-shape",
        )
    checks, processes, is_whole = Checks(stream_options.execution), stream_options.processes, lengths is None
    check_embeddings(latents.flatten(1), "latents", checks)  # a message names the sequences
    check_embeddings(contexts.flatten(1), "contexts", checks)
    check_weights(weights, latents, checks)
    checks.done()
    lengths, first = _checked(lengths, latents), first_row(batch, processes, maps.device)
    ahead = _Ahead(gather(latents, processes), all_gather(lengths, processes), first, is_whole=is_whole)
    outcomes = []
    for k in range(1, min(len(maps), times - 1) + 1):
        wide = wide_dtype(latents, maps)
        with torch.autocast(latents.device.type, enabled=False):
            predicted = contexts[:, : times - k].to(wide) @ maps[k - 1].T.to(wide)  # (batch, time - k, latent)
        classify = ahead.among_all if negatives == "all" else ahead.among_one_time
        outcomes += classify(predicted, k, lengths, weights, stream_options)
    if not outcomes:
        return Outcome(
            latents[:0].sum() + contexts[:0].sum() + maps[:0].sum(), latents.new_zeros((), dtype=torch.float64)
        )
    return combine(*outcomes)


def _checked(lengths: Tensor | None, latents: Tensor) -> Tensor:
    """Times of each sequence that count."""
    batch, times = latents.shape[:2]
    if lengths is None:
        return torch.full((batch,), times, device=latents.device)
    if lengths.shape != (batch,) or bool(((lengths < 0) | (lengths > times)).any()):
        raise ShapeError(
            f"lengths are {lengths.tolist()[:10]} for {batch} sequences of {times} times.",
            hint="Pass one whole number from 0 to the number of times for each sequence.",
            reference="embedding-shape",
        )
    return lengths


@dataclass(frozen=True)
class _Ahead:
    """What is there to be distinguished.

    Args:
        latents: Of all processes, (sequences, time, latent).
        lengths: Times of each of these sequences that count.
        first: Which of them is the first of this process.
        is_whole: All times of all sequences count, so that nobody has to look which do.
    """

    latents: Tensor
    lengths: Tensor
    first: int
    is_whole: bool

    def among_all(
        self, predicted: Tensor, k: int, lengths: Tensor, weights: Tensor | None, stream_options: StreamOptions
    ) -> list[Outcome]:
        """Each latent k steps ahead among all latents of the batch."""
        times = self.latents.shape[1]
        if self.is_whole:
            rows = torch.arange(len(predicted), device=predicted.device) + self.first
            hit = (rows[:, None] * times + torch.arange(k, times, device=predicted.device)).flatten()
            each = None if weights is None else weights[:, None].expand(-1, times - k).flatten()
            table = self.latents.flatten(0, 1)
            relation = Paired(hit, len(table))
            return [
                stream(Softmax(), predicted.flatten(0, 1), table, relation, "dot", weights=each, **vars(stream_options))
            ]
        counts = torch.arange(times, device=predicted.device) < self.lengths[:, None]
        place = counts.flatten().cumsum(0).view_as(counts) - 1  # in the table of those that count
        table = self.latents[counts]
        asked = torch.arange(k, times, device=predicted.device) < lengths[:, None]
        hit = place[self.first : self.first + len(predicted), k:][asked]
        each = None if weights is None else weights[:, None].expand_as(asked)[asked]
        relation = Paired(hit, len(table))
        return [stream(Softmax(), predicted[asked], table, relation, "dot", weights=each, **vars(stream_options))]

    def among_one_time(
        self, predicted: Tensor, k: int, lengths: Tensor, weights: Tensor | None, stream_options: StreamOptions
    ) -> list[Outcome]:
        """Each latent k steps ahead among those of other sequences at that time; one pass for each length."""
        times, dim = self.latents.shape[1:]
        table = self.latents.reshape(-1, dim)
        outcomes, begin = [], 0
        for end in [times] if self.is_whole else torch.unique(self.lengths).tolist():
            if end > k:
                start = max(begin, k)
                mine, others = self._as_long(lengths, end), self._as_long(self.lengths, end)
                time = torch.arange(start, end, device=predicted.device)
                hit = ((mine[:, None] + self.first) * times + time).flatten()
                anchors = predicted[mine, start - k : end - k].flatten(0, 1)
                each = None if weights is None else weights[mine, None].expand(-1, end - start).flatten()
                lists = _of_one_time(hit, others, times)
                outcomes.append(listed(Softmax(), anchors, table, lists, "dot", weights=each, **vars(stream_options)))
            begin = end
        return outcomes

    def _as_long(self, lengths: Tensor, end: int) -> Tensor:
        """Which sequences have that many times."""
        if self.is_whole:
            return torch.arange(len(lengths), device=lengths.device)
        return (lengths >= end).nonzero()[:, 0]


def _of_one_time(hit: Tensor, sequences: Tensor, times: int) -> Lists:
    """For each anchor the latent it should find, then those of all other sequences at that time."""

    def lists(rows: slice) -> Tensor:
        own, time = hit[rows, None] // times, hit[rows, None] % times
        place = torch.arange(max(0, len(sequences) - 1), device=hit.device)
        others = sequences[place + (place >= torch.searchsorted(sequences, own))]
        return torch.cat([own, others], 1) * times + time

    return lists
