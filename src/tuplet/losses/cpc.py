"""Contrastive predictive coding: the context at a time tells the latents some steps ahead from those of others."""

import math
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from tuplet.bounds import Count
from tuplet.engine import SINGLE_PROCESS, Execution, Outcome, Processes, gather, stream
from tuplet.engine.execution import DEFAULT, uses_tiles
from tuplet.engine.gather import all_gather, first_row, shared
from tuplet.engine.grouped import Groups, grouped
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
    checks, processes = Checks(stream_options.execution), stream_options.processes
    check_embeddings(latents.flatten(1), "latents", checks)  # a message names the sequences
    check_embeddings(contexts.flatten(1), "contexts", checks)
    check_weights(weights, latents, checks)
    _check_lengths(lengths, latents, checks)
    checks.done()
    maps = maps[: max(0, times - 1)]
    horizon, end = torch.triu_indices(len(maps), times - 1, device=maps.device) if len(maps) else maps.new_zeros(2, 0)
    if not len(horizon):
        nothing = latents[:0].sum() + contexts[:0].sum() + maps[:0].sum()
        return Outcome(nothing, latents.new_zeros((), dtype=torch.float64))
    wide = wide_dtype(latents, maps)
    with torch.autocast(latents.device.type, enabled=False):
        predicted = torch.einsum("btc,klc->ktbl", contexts[:, :-1].to(wide), maps.to(wide)).flatten(0, 1)
    ahead = _Ahead(
        predicted,
        gather(latents, processes),
        lengths,
        None if lengths is None else all_gather(lengths, processes),
        first_row(batch, processes, maps.device),
        horizon * (times - 1) + (end - horizon),  # the prediction of the time `end + 1` by that of the context
        end + 1,
        weights,
    )
    return ahead.among_all(stream_options) if negatives == "all" else ahead.among_one_time(stream_options)


def _check_lengths(lengths: Tensor | None, latents: Tensor, checks: Checks) -> None:
    """Refuse what is not one number of times for each sequence."""
    batch, times = latents.shape[:2]
    if lengths is None:
        return

    def explain() -> None:
        raise ShapeError(
            f"lengths are {lengths.tolist()[:10]} for {batch} sequences of {times} times.",
            hint="Pass one whole number from 0 to the number of times for each sequence.",
            reference="embedding-shape",
        )

    if lengths.shape != (batch,):
        explain()
    checks.require(((lengths >= 0) & (lengths <= times)).all(), explain)


@dataclass(frozen=True)
class _Ahead:
    """What is there to be distinguished.

    Args:
        predicted: For each step ahead and each time of the context, (steps · contexts, batch, latent).
        latents: Of all processes, (sequences, time, latent).
        lengths: Times of the sequences of this process that count; None for all.
        all_lengths: The same of all sequences.
        first: Which of them is the first of this process.
        asked: Which predictions are asked for, (pairs,).
        time: Of what, (pairs,).
        weights: One per sequence of this process.
    """

    predicted: Tensor
    latents: Tensor
    lengths: Tensor | None
    all_lengths: Tensor | None
    first: int
    asked: Tensor
    time: Tensor
    weights: Tensor | None

    def among_one_time(self, stream_options: StreamOptions) -> Outcome:
        """Each latent ahead among those of other sequences at that time."""
        partner, weights = self._partners()
        there = None
        if self.all_lengths is not None:
            there = torch.arange(self.latents.shape[1], device=partner.device)[:, None] < self.all_lengths
        groups = Groups(self.asked, self.time, partner, there, weights)
        return grouped(Softmax(), self.predicted, self.latents.transpose(0, 1), groups, **vars(stream_options))

    def among_all(self, stream_options: StreamOptions) -> Outcome:
        """Each latent ahead among all latents of the batch."""
        times = self.latents.shape[1]
        partner, weights = self._partners()
        place = (partner * times + self.time[:, None]).masked_fill(partner < 0, -1).flatten()
        anchors, table = self.predicted[self.asked].flatten(0, 1), self.latents.flatten(0, 1)
        each = None if weights is None else weights.flatten()
        live = None
        if self.all_lengths is not None:
            live = (torch.arange(times, device=place.device) < self.all_lengths[:, None]).flatten()
            if not uses_tiles(stream_options.execution or DEFAULT, place.device):  # without those that do not count
                known = place >= 0
                place = (live.cumsum(0) - 1)[place[known]]
                anchors, table, each, live = anchors[known], table[live], None if each is None else each[known], None
        relation = Paired(place, len(table), live)
        return stream(Softmax(), anchors, table, relation, "dot", weights=each, **vars(stream_options))

    def _partners(self) -> tuple[Tensor, Tensor | None]:
        """The sequence that each prediction is about, -1 for none; and weights; both (pairs, batch)."""
        own = torch.arange(self.predicted.shape[1], device=self.time.device)
        partner = (own + self.first).expand(len(self.time), -1)
        weights = None if self.weights is None else self.weights.expand(len(self.time), -1)
        if self.lengths is None:
            return partner, weights
        counts = self.time[:, None] < self.lengths
        weights = counts.to(self.predicted) if weights is None else weights * counts
        return torch.where(counts, partner, -1), weights
