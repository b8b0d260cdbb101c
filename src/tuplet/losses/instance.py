"""Instance discrimination: every example is a class of its own, and a memory bank holds the class weights."""

import math
from collections.abc import Mapping
from dataclasses import KW_ONLY, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tuplet.bounds import Count, NotNegative, Share, Tau, bounded
from tuplet.engine import SINGLE_PROCESS, Outcome, Processes, gather, stream
from tuplet.engine.execution import DEFAULT, uses_tiles
from tuplet.engine.gather import all_gather, all_reduce_max, all_reduce_sum, counts, reduce_sum
from tuplet.engine.listed import list_products, listed
from tuplet.engine.rowcode import scores_at_hand
from tuplet.engine.tiles import spans
from tuplet.errors import LabelError, ShapeError
from tuplet.geometry import normalise
from tuplet.losses.base import register
from tuplet.losses.counters import count_on
from tuplet.losses.counters import known as known_number
from tuplet.losses.declare import DeclaredLoss
from tuplet.losses.inputs import (
    ROWS,
    Checks,
    RowOptions,
    check_dim,
    check_embeddings,
    check_shape,
    check_weights,
    row_ids,
)
from tuplet.losses.pending import Call
from tuplet.losses.temperature import scale_of
from tuplet.memory import BankRows, MemoryBank, positions_in
from tuplet.reductions import Logistic, Softmax
from tuplet.relation import Paired
from tuplet.seeding import derive
from tuplet.tensors import wide_dtype


@bounded
def estimate_log_z(
    embeddings: Tensor,
    bank: Tensor,
    noise: Tensor,
    temperature: Tau | Tensor = 0.07,
    processes: Processes = SINGLE_PROCESS,
) -> Tensor:
    r"""$\log Z$ with $Z \approx \frac{n}{m} \sum_k e^{v_{j_k} \cdot f / \tau}$, the mean over the batch (eq. 8).

    Args:
        embeddings: f, (rows, dim).
        bank: v, one row per example.
        noise: Positions j in the bank, (rows, m).
        temperature: tau > 0.
        processes: Who averages together.
    """
    known = torch.ones(len(embeddings), dtype=torch.bool, device=embeddings.device)
    return _log_z(embeddings, known, BankRows(bank, len(bank)), noise, temperature, processes)


@torch.no_grad()
def _log_z(
    embeddings: Tensor,
    known: Tensor,
    bank: BankRows,
    noise: Tensor,
    temperature: float | Tensor,
    processes: Processes,
) -> Tensor:
    """The mean over the embeddings that are known."""
    number = all_reduce_sum(known.sum(dtype=torch.float64), processes)
    if bank.shards.size > 1:
        embeddings, noise, known = (all_gather(x, processes) for x in (embeddings, noise, known))
    wide = wide_dtype(embeddings, bank.rows)
    units, table, (lists, there) = normalise(embeddings.to(wide)), bank.rows.to(wide), bank.own_lists(noise)
    each = [units.new_full((1,), -math.inf, dtype=torch.float64)]
    for rows in spans(len(units), scores_at_hand(units, DEFAULT) // max(1, lists.shape[1])):
        scores = list_products(units[rows], table, lists[rows]).double() * scale_of(temperature)
        each.append(scores.masked_fill(~(there[rows] & known[rows, None]), -math.inf).logsumexp(1))
    sums = torch.cat(each)
    peak = all_reduce_max(sums.max(), processes)
    total = all_reduce_sum((sums - peak).exp().sum(), processes)
    return peak + (total / number).log() + math.log(bank.size / noise.shape[1])


@register("instance_discrimination")
class InstanceDiscriminationLoss(DeclaredLoss):
    r"""Each example against all others, through a bank of their embeddings that is a constant.

    $$P(i|v) = \frac{e^{v_i \cdot v / \tau}}{\sum_j e^{v_j \cdot v / \tau}}, \quad
    L = -\log P(i|f_i) \;\text{ or }\; \mathrm{softplus}(-\delta_i) + \sum_{j=1}^m \mathrm{softplus}(\delta_j), \quad
    \delta = s/\tau - \log Z - \log(m/n)$$

    A module owns the bank, and `advance` updates it with the embeddings of a step; its labels are positions of the
    examples in the data set. Z is estimated in the first step and frozen by its `advance`; both are saved.

    Inputs:
        embeddings: f; normalised by the loss.
        bank: v, unit rows.
        positions: Row of each example in the bank; -1 leaves it out.
        noise: m positions per example, drawn uniformly from all n. Without them the sum over the bank is exact.
        log_z: log Z, a constant that belongs to the noise form; see `estimate_log_z`.

    Args:
        num_instances: n, examples in the data set.
        dim: Length of an embedding.
        temperature: tau > 0.
        noise_samples: m; None for the exact softmax over the bank.
        momentum: Of the bank's rows.
        proximal: lambda; adds lambda ‖f - v_i‖².
        sharded: Each process owns a range of the bank's rows; see `tuplet.memory.MemoryBank`.
        seed: Of the noise and of the bank's first rows.
        processes: Who computes the loss together.

    References:
        Wu, Xiong, Yu, Lin, "Unsupervised Feature Learning via Non-Parametric Instance Discrimination", 2018, eq. 2, 7
        and 10.
    """

    num_instances: Count
    dim: Count
    temperature: Tau = 0.07
    noise_samples: int | None = 4096
    momentum: Share = 0.5
    proximal: NotNegative = 0.0
    _: KW_ONLY
    sharded: bool = False
    seed: int = 0
    processes: Processes = SINGLE_PROCESS

    family = "instance-level"
    suits = "one view of each example, and a memory of all"
    supervision = "example"
    fixed_geometry = "cosine"
    divides_by = "the examples"
    takes: ClassVar[frozenset[str]] = ROWS
    sides: ClassVar[Any] = RowOptions
    of_function: ClassVar[Mapping[str, tuple[Any, Any]]] = {"temperature": (Tau | Tensor, 0.07)}
    inputs: ClassVar[Mapping[str, Any]] = {
        "embeddings": Float[Tensor, "anchors dim"],
        "bank": Float[Tensor, "instances dim"],
        "positions": Int[Tensor, " anchors"],
        "noise": Int[Tensor, "anchors samples"] | None,
        "log_z": float | Tensor | None,
    }
    of_module: ClassVar[frozenset[str]] = frozenset(
        {"num_instances", "dim", "noise_samples", "momentum", "sharded", "seed", "processes"}
    )

    def setup(self) -> None:
        """Fill the bank."""
        samples = self.noise_samples
        if samples is not None and samples < 1:
            raise ShapeError(
                f"noise_samples is {samples}; a number from 1 on, or None, is expected.",
                hint="Usual values lie between 256 and 4096; None takes the exact softmax over the bank.",
                reference="noise-samples",
            )
        self._pending.rows = self.num_instances
        shards = self.processes if self.sharded else SINGLE_PROCESS
        self.bank = MemoryBank(self.num_instances, self.dim, self.momentum, shards=shards, seed=self.seed)
        self.log_z: Tensor
        self.register_buffer("log_z", torch.tensor(math.nan, dtype=torch.float64))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def of_tensors(self, inputs: dict[str, Any], sides: dict[str, Any]) -> Outcome:
        """Bank and noise given as tensors."""
        embeddings, bank, positions, noise, log_z = inputs.values()
        rows = BankRows(bank.detach(), len(bank))
        return _outcome(embeddings, rows, positions, noise, log_z, self.temperature, self.proximal, sides)

    def _outcome(self, embeddings: Tensor, labels: Tensor | None, **sides: Any) -> Outcome:
        if labels is None:
            raise LabelError(
                "Instance discrimination was called without positions.",
                hint="Pass the position of each example in the data set as labels.",
                reference="labels-missing",
            )
        check_shape(embeddings, "embeddings")  # their numbers are looked at below
        labels = row_ids(labels, embeddings, "positions")
        check_dim(self.bank.rows, embeddings, "bank")
        noise, log_z = None, None
        if self.noise_samples is not None:
            noise = self.draw(labels, sides["processes"])
            log_z = self.log_z
            if math.isnan(known_number(self, "log_z")):
                seen = embeddings.detach(), labels != -1, self.bank.part, noise
                log_z = _log_z(*seen, self.temperature, sides["processes"])
        return _outcome(embeddings, self.bank.part, labels, noise, log_z, self.temperature, self.proximal, sides)

    def draw(self, labels: Tensor, processes: Processes = SINGLE_PROCESS) -> Tensor:
        """Noise positions in this step, (anchors, m): the rows of this process among those of the global batch."""
        rows = counts(len(labels), processes, labels.device)
        generator = derive(self.seed, "instance noise", int(known_number(self, "calls")), device=labels.device)
        shape = sum(rows), self.noise_samples or 0
        positions = torch.randint(self.bank.all_units, shape, generator=generator, device=labels.device)
        begin = sum(rows[: processes.rank])
        return positions[begin : begin + len(labels)]

    @property
    def has_state(self) -> bool:
        """The bank follows the embeddings, and each step draws other noise."""
        return True

    def _take_in(self, calls: list[Call]) -> None:
        processes = calls[0].processes
        embeddings = torch.cat([call.embeddings for call in calls])
        labels = torch.cat([call.labels for call in calls if call.labels is not None]).long()
        if self.noise_samples is not None and math.isnan(known_number(self, "log_z")):
            noise = torch.cat([self.draw(call.labels, processes) for call in calls if call.labels is not None])
            seen = embeddings, labels != -1, self.bank.part, noise
            self.log_z.copy_(_log_z(*seen, self.temperature, processes))
        self.bank.update(embeddings, labels, processes)
        count_on(self, "calls")


instance_discrimination = InstanceDiscriminationLoss.function()


def _outcome(
    embeddings: Tensor,
    bank: BankRows,
    positions: Tensor,
    noise: Tensor | None,
    log_z: float | Tensor | None,
    temperature: float | Tensor,
    proximal: float,
    options: dict[str, Any],
) -> Outcome:
    checks = Checks(options.get("execution"))
    check_embeddings(embeddings, "embeddings", checks)
    weights, processes = options.get("weights"), options.get("processes", SINGLE_PROCESS)
    check_weights(weights, embeddings, checks)
    positions = row_ids(positions, embeddings, "positions")
    check_dim(bank.rows, embeddings, "bank")
    checks.require(*positions_in(positions, bank.size))
    checks.done()
    _check_shards(bank, processes)
    known = positions != -1
    if uses_tiles(checks.execution, embeddings.device) and bank.shards.size == 1:
        # rows without a position stay, with a weight of 0
        weights = known.to(embeddings) if weights is None else torch.where(known, weights, 0.0)
        positions = positions.clamp_min(0)
    elif not bool(known.all()):
        embeddings, positions = embeddings[known], positions[known]
        weights, noise = None if weights is None else weights[known], None if noise is None else noise[known]
    together, factor = processes, float(processes.size)
    if bank.shards.size > 1:  # every process meets all examples with its own rows
        embeddings, positions = gather(embeddings, processes, factor=factor), all_gather(positions, processes)
        weights = None if weights is None else all_gather(weights, processes)
        noise = None if noise is None else all_gather(noise, processes)
        together, factor = SINGLE_PROCESS, 1.0
    scale, own = scale_of(temperature), bank.own(positions)
    stream_options: Any = {"scale": scale, "weights": weights, "processes": together}
    stream_options |= {"stats": options.get("stats", False), "execution": options.get("execution")}
    if noise is None:
        pairs = Paired(own, len(bank.rows))
        stream_options |= {"tile_size": options.get("tile_size"), "shards": bank.shards}
        outcome = stream(Softmax(), embeddings, bank.rows, pairs, "cosine", **stream_options)
    else:
        lists, offset = _candidates(bank, own, noise, log_z)
        outcome = listed(Logistic(), embeddings, bank.rows, lists, "cosine", offset=offset, **stream_options)
        met = {"rows": bank.shards.size, "scale": bank.shards.size}  # all shards meet all anchors
        stats = {name: all_reduce_sum(value, bank.shards) / met.get(name, 1) for name, value in outcome.stats.items()}
        outcome = replace(outcome, total=reduce_sum(outcome.total, bank.shards, factor=factor), stats=stats)
    if not proximal:
        return outcome
    proximity = reduce_sum(_proximal_term(embeddings, bank, own, weights), processes, factor=factor)
    return replace(outcome, total=outcome.total + proximal * proximity.to(outcome.total.dtype))


def _proximal_term(embeddings: Tensor, bank: BankRows, own: Tensor, weights: Tensor | None) -> Tensor:
    """Squared distances of the examples to their own rows, as far as these are here."""
    here = own != -1
    apart = (normalise(embeddings.to(bank.rows.dtype)) - bank.rows[own.clamp_min(0)]).square().sum(1)
    apart = torch.where(here, apart, 0.0)
    return (apart if weights is None else apart * weights).sum()


def _candidates(bank: BankRows, own: Tensor, noise: Tensor, log_z: float | Tensor | None) -> tuple[Tensor, Tensor]:
    """The row of each example and its noise rows, as far as they are here, with what is added to their scores.

    Places without a row get a score of infinity, as a positive, or minus infinity, as noise: they add nothing.
    """
    log_noise = math.log(noise.shape[1] / bank.size) if noise.shape[1] else 0.0
    constant = torch.as_tensor(0.0 if log_z is None else log_z, dtype=torch.float64, device=own.device)
    offset = -log_noise - constant.reshape(1, 1)
    if bank.shards.size == 1:
        return torch.cat([own[:, None], noise], 1), offset
    lists, there = bank.own_lists(noise)
    is_here = (own != -1)[:, None]
    offsets = [torch.where(is_here, offset, math.inf), torch.where(there, offset, -math.inf)]
    return torch.cat([own.clamp_min(0)[:, None], lists], 1), torch.cat(offsets, 1)


def _check_shards(bank: BankRows, processes: Processes) -> None:
    if bank.shards.size == 1 or bank.shards == processes:
        return
    raise ShapeError(
        f"{processes.size} processes call a loss whose bank lies in {bank.shards.size} shards.",
        hint="Build a sharded loss with the processes that call it.",
        reference="bank-size",
    )
