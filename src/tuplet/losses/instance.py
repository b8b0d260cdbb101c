"""Instance discrimination: every example is a class of its own, and a memory bank holds the class weights."""

import math
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tuplet.engine import ALONE, Outcome, Processes, stream
from tuplet.engine.gather import add_up, counts, sum_of
from tuplet.engine.listed import listed
from tuplet.errors import LabelError
from tuplet.geometry import normalise
from tuplet.losses.base import ROWS, MetricLoss, check_embeddings, check_weights, register
from tuplet.losses.temperature import scale_of
from tuplet.memory import MemoryBank, check_positions
from tuplet.reductions import Logistic, Softmax
from tuplet.relation import Paired
from tuplet.seeding import derive
from tuplet.types import Supervision


def instance_discrimination(
    embeddings: Float[Tensor, "anchors dim"],
    bank: Float[Tensor, "instances dim"],
    positions: Int[Tensor, " anchors"],
    noise: Int[Tensor, "anchors samples"] | None = None,
    log_z: float | Tensor | None = None,
    *,
    temperature: float | Tensor = 0.07,
    proximal: float = 0.0,
    weights: Float[Tensor, " anchors"] | None = None,
    tile_size: int | None = None,
    processes: Processes = ALONE,
) -> Float[Tensor, ""]:
    r"""Each example against all others, through a bank of their embeddings that is a constant.

    $$P(i|v) = \frac{e^{v_i \cdot v / \tau}}{\sum_j e^{v_j \cdot v / \tau}}, \quad
    L = -\log P(i|f_i) \;\text{ or }\; \mathrm{softplus}(-\delta_i) + \sum_{j=1}^m \mathrm{softplus}(\delta_j), \quad
    \delta = s/\tau - \log Z - \log(m/n)$$

    Args:
        embeddings: f; normalised by the loss.
        bank: v, unit rows.
        positions: Row of each example in the bank; -1 leaves it out.
        noise: m positions per example, drawn uniformly from all n. Without them the sum over the bank is exact.
        log_z: log Z, a constant that belongs to the noise form; see `estimate_log_z`.
        temperature: tau > 0.
        proximal: lambda; adds lambda ‖f - v_i‖².
        weights: One per example.
        tile_size: Most entries of a tile.
        processes: Who computes the loss together.

    Returns:
        Mean over the examples.

    References:
        Wu, Xiong, Yu, Lin, "Unsupervised Feature Learning via Non-Parametric Instance Discrimination", 2018, eq. 2, 7
        and 10.
    """
    options = {"weights": weights, "tile_size": tile_size, "processes": processes}
    return _outcome(embeddings, bank, positions, noise, log_z, temperature, proximal, options).value


@torch.no_grad()
def estimate_log_z(
    embeddings: Tensor, bank: Tensor, noise: Tensor, temperature: float | Tensor = 0.07, processes: Processes = ALONE
) -> Tensor:
    r"""$\log Z$ with $Z \approx \frac{n}{m} \sum_k e^{v_{j_k} \cdot f / \tau}$, the mean over the batch (eq. 8).

    Args:
        embeddings: f, (rows, dim).
        bank: v, one row per example.
        noise: Positions j in the bank, (rows, m).
        temperature: tau > 0.
        processes: Who averages together.
    """
    scores = torch.einsum("rd,rcd->rc", normalise(embeddings).double(), bank[noise].double()) * scale_of(temperature)
    each = scores.logsumexp(1) + math.log(len(bank) / noise.shape[1])
    peak = each.max() if len(each) else each.new_tensor(-math.inf)
    if processes.size > 1:
        torch.distributed.all_reduce(peak, torch.distributed.ReduceOp.MAX, group=processes.group)
    total, number = sum_of((each - peak).exp().sum(), processes), sum_of(each.new_tensor(float(len(each))), processes)
    return peak + (total / number).log()


@register("instance_discrimination")
class InstanceDiscriminationLoss(MetricLoss):
    """Module form of `instance_discrimination`; labels are positions of the examples in the data set.

    The bank is a constant in the gradient and is updated at the end of a call in training mode. Z is estimated in the
    first call and frozen; both are saved.

    Args:
        num_instances: n, examples in the data set.
        dim: Length of an embedding.
        temperature: tau.
        noise_samples: m; None for the exact softmax over the bank.
        momentum: Of the bank's rows.
        proximal: lambda.
        seed: Of the noise and of the bank's first rows.
        processes: Who computes the loss together.
    """

    supervision: ClassVar[Supervision] = "example"
    takes: ClassVar[frozenset[str]] = ROWS
    log_z: Tensor
    calls: Tensor

    def __init__(
        self,
        num_instances: int,
        dim: int,
        temperature: float = 0.07,
        noise_samples: int | None = 4096,
        momentum: float = 0.5,
        proximal: float = 0.0,
        *,
        seed: int = 0,
        processes: Processes = ALONE,
    ) -> None:
        super().__init__(processes=processes)
        scale_of(temperature)
        self.temperature, self.noise_samples, self.proximal, self.seed = temperature, noise_samples, proximal, seed
        self.bank = MemoryBank(num_instances, dim, momentum, seed=seed)
        self.register_buffer("log_z", torch.tensor(math.nan, dtype=torch.float64))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def _outcome(self, embeddings: Tensor, labels: Tensor | None, **sides: Any) -> Outcome:
        if labels is None:
            raise LabelError(
                "Instance discrimination was called without positions.",
                hint="Pass the position of each example in the data set as labels.",
                reference="labels-missing",
            )
        noise, log_z = None, None
        if self.noise_samples is not None:
            noise = self.draw(labels, sides["processes"])
            log_z = self.log_z
            if bool(log_z.isnan()):
                known = labels != -1
                seen = embeddings.detach()[known], self.bank.rows, noise[known]
                log_z = estimate_log_z(*seen, self.temperature, sides["processes"])
                if self.training:
                    self.log_z.copy_(log_z)
        rows = self.bank.rows
        return _outcome(embeddings, rows, labels, noise, log_z, self.temperature, self.proximal, sides)

    def draw(self, labels: Tensor, processes: Processes = ALONE) -> Tensor:
        """Noise positions of this call, (anchors, m): the rows of this process among those of the global batch."""
        rows = counts(len(labels), processes, labels.device)
        generator = derive(self.seed, "instance noise", int(self.calls))
        drawn = torch.randint(len(self.bank.rows), (sum(rows), self.noise_samples or 0), generator=generator)
        begin = sum(rows[: processes.rank])
        return drawn[begin : begin + len(labels)].to(labels.device)

    def _advance(self, embeddings: Tensor, labels: Tensor | None, sides: dict[str, Any]) -> None:
        if self.training and labels is not None:
            self.bank.update(embeddings.detach(), labels, sides.get("processes", self.processes))
            self.calls += 1


def _outcome(
    embeddings: Tensor,
    bank: Tensor,
    positions: Tensor,
    noise: Tensor | None,
    log_z: float | Tensor | None,
    temperature: float | Tensor,
    proximal: float,
    options: dict[str, Any],
) -> Outcome:
    check_embeddings(embeddings, "embeddings")
    weights, processes = options.get("weights"), options.get("processes", ALONE)
    check_weights(weights, embeddings)
    bank = bank.detach()
    check_positions(positions, len(bank))
    known = positions != -1
    if not bool(known.all()):
        embeddings, positions = embeddings[known], positions[known]
        weights, noise = None if weights is None else weights[known], None if noise is None else noise[known]
    scale = scale_of(temperature)
    if noise is None:
        tile = {"tile_size": options.get("tile_size"), "stats": options.get("stats", False)}
        relation = Paired(positions, len(bank))
        outcome = stream(
            Softmax(), embeddings, bank, relation, "cosine", scale=scale, weights=weights, processes=processes, **tile
        )
    else:
        lists = torch.cat([positions[:, None], noise], 1)
        drawn = math.log(noise.shape[1] / len(bank)) if noise.shape[1] else 0.0
        constant = torch.as_tensor(0.0 if log_z is None else log_z, dtype=torch.float64, device=embeddings.device)
        offset = -drawn - constant.reshape(1, 1)
        outcome = listed(
            Logistic(),
            embeddings,
            bank,
            lists,
            "cosine",
            scale=scale,
            offset=offset,
            weights=weights,
            processes=processes,
        )
    if not proximal:
        return outcome
    apart = (normalise(embeddings.to(bank.dtype)) - bank[positions]).square().sum(1)
    pulled = add_up((apart if weights is None else apart * weights).sum(), processes)
    return Outcome(outcome.total + proximal * pulled.to(outcome.total.dtype), outcome.count, outcome.stats)
