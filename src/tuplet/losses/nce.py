"""Noise-contrastive estimation of word embeddings, and negative sampling as its special case."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, replace
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from tuplet.bounds import Count, Finite, NotNegative
from tuplet.engine import SINGLE_PROCESS, Outcome, Processes, combine, stream
from tuplet.engine.execution import uses_tiles
from tuplet.engine.gather import counts, shared
from tuplet.engine.listed import listed
from tuplet.errors import LabelError, ShapeError
from tuplet.losses.base import register
from tuplet.losses.counters import count_on
from tuplet.losses.counters import known as known_number
from tuplet.losses.declare import DeclaredLoss
from tuplet.losses.inputs import ROWS, Checks, RowOptions, check_dim, check_embeddings, check_weights, row_ids
from tuplet.losses.pending import Call
from tuplet.noise import AliasTable
from tuplet.reductions import Logistic
from tuplet.relation import Paired
from tuplet.seeding import derive


@register("nce")
class NCELoss(DeclaredLoss):
    r"""Distinguishes the target word from k noise words, so that no sum over the vocabulary is needed.

    $$L = \mathrm{E}\Big[\mathrm{softplus}(-\Delta(w^+)) + \sum_{j=1}^{k} \mathrm{softplus}(\Delta(w_j))\Big], \quad
    \Delta(w) = h \cdot q_w + b_w - c - \log(k P_n(w))$$

    Negative sampling leaves $\log(k P_n)$ out; its scores are then not log-probabilities. A module owns the words'
    vectors `weight` and `bias` and draws the noise; its labels are target ids.

    Inputs:
        embeddings: h, one context per row.
        weight: q, one row per word.
        bias: b.
        targets: The word that belongs to each context; -1 leaves the row out.
        noise: k words drawn from P_n for each row, or k words shared by all rows.
        noise_probability: P_n of every word; not needed for negative sampling.

    Args:
        counts: How often each word of the vocabulary occurs.
        dim: Length of an embedding.
        noise_samples: k.
        power: Noise is drawn from counts^power.
        objective: "nce" or "negative_sampling".
        log_partition: c, a number or "learned".
        shared_noise: True to draw k words once for the whole batch; the noise term is then one matrix product.
        seed: Of the noise.
        processes: Who computes the loss together.

    Raises:
        LabelError: If a target or noise word lies outside the vocabulary, or `noise_probability` is missing.

    References:
        Mnih, Kavukcuoglu, "Learning word embeddings efficiently with noise-contrastive estimation", 2013, eq. 7 and 8.
        Mikolov, Sutskever, Chen, Corrado, Dean, "Distributed Representations of Words and Phrases", 2013, eq. 4.
    """

    counts: Sequence[int] | Tensor
    dim: Count
    noise_samples: int = 10
    power: NotNegative = 0.75
    objective: Literal["nce", "negative_sampling"] = "nce"
    log_partition: Finite | Literal["learned"] = 0.0
    shared_noise: bool = False
    _: KW_ONLY
    seed: int = 0
    processes: Processes = SINGLE_PROCESS

    suits = "scores that are probabilities; `negative_sampling` for vectors alone"
    supervision = "target"
    fixed_geometry = "dot"
    divides_by = "rows, of the sum over the k noise words"
    learnable: ClassVar[Mapping[str, float]] = {"log_partition": 0.0}
    takes: ClassVar[frozenset[str]] = ROWS
    sides: ClassVar[Any] = RowOptions
    inputs: ClassVar[Mapping[str, Any]] = {
        "embeddings": Float[Tensor, "anchors dim"],
        "weight": Float[Tensor, "words dim"],
        "bias": Float[Tensor, " words"],
        "targets": Int[Tensor, " anchors"],
        "noise": Int[Tensor, "*anchors samples"],
        "noise_probability": Float[Tensor, " words"] | None,
    }
    of_module: ClassVar[frozenset[str]] = frozenset(
        {"counts", "dim", "noise_samples", "power", "shared_noise", "seed", "processes"}
    )

    def setup(self) -> None:
        """Make the table of the noise and the words' vectors."""
        if self.noise_samples < 1:
            raise ShapeError(
                f"noise_samples is {self.noise_samples}; a number from 1 on is expected.",
                hint="Usual values lie between 5 and 25.",
                reference="noise-samples",
            )
        self.noise = AliasTable(vars(self).pop("counts"), self.power)
        words = len(self.noise.probability)
        self.weight = nn.Parameter(torch.zeros(words, self.dim))
        self.bias = nn.Parameter(torch.zeros(words))
        constant: Any = vars(self).pop("log_partition")
        self.fixed = 0.0 if constant == "learned" else float(constant)
        self.register_parameter("log_partition", nn.Parameter(torch.zeros(())) if constant == "learned" else None)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    @property
    def constant(self) -> nn.Parameter | None:
        """c, if it is learned; else `fixed` is its value."""
        return self._parameters.get("log_partition")

    def draw(self, rows: int, processes: Processes = SINGLE_PROCESS) -> Tensor:
        """Noise words of this call: (noise_samples,) if shared, else (rows, noise_samples): a slice of the batch's."""
        generator = derive(self.seed, "word noise", int(known_number(self, "calls")))
        if self.shared_noise:
            return self.noise.draw((self.noise_samples,), generator)
        sizes = counts(rows, processes, self.weight.device)
        begin = sum(sizes[: processes.rank])
        return self.noise.draw((sum(sizes), self.noise_samples), generator)[begin : begin + rows]

    def of_tensors(self, inputs: dict[str, Any], sides: dict[str, Any]) -> Outcome:
        """Words and noise given as tensors."""
        embeddings, weight, bias, targets, noise, probability = inputs.values()
        if self.objective == "negative_sampling":
            expected = None
        elif probability is None:
            raise LabelError(
                "The NCE objective was called without noise_probability.",
                hint="Pass P_n of every word, or objective='negative_sampling'.",
                reference="noise-probability",
            )
        else:
            expected = probability.log() + math.log(max(1, noise.shape[-1]))
        return _outcome(embeddings, weight, bias, targets, noise, expected, self.log_partition, sides)

    def _outcome(self, embeddings: Tensor, labels: Tensor | None, **sides: Any) -> Outcome:
        if labels is None:
            raise LabelError(
                "The NCE loss was called without targets.",
                hint="Pass the id of the word that belongs to each context.",
                reference="labels-missing",
            )
        processes = sides["processes"]
        noise = self.draw(len(labels), processes)
        expected = self.noise.log_expected(self.noise_samples) if self.objective == "nce" else None
        weight, bias = shared(self.weight, processes), shared(self.bias, processes)
        constant = self.fixed if self.constant is None else shared(self.constant, processes)
        return _outcome(embeddings, weight, bias, labels, noise, expected, constant, sides)

    @property
    def has_state(self) -> bool:
        """Each step draws other noise."""
        return True

    def _take_in(self, calls: list[Call]) -> None:
        del calls
        count_on(self, "calls")


nce = NCELoss.function()


def _outcome(
    embeddings: Tensor,
    weight: Tensor,
    bias: Tensor,
    targets: Tensor,
    noise: Tensor,
    expected: Tensor | None,
    log_partition: Any,
    options: Mapping[str, Any],
) -> Outcome:
    weights, processes = options.get("weights"), options.get("processes", SINGLE_PROCESS)
    checks = Checks(options.get("execution"))
    check_embeddings(embeddings, "embeddings", checks)
    check_weights(weights, embeddings, checks)
    targets = row_ids(targets, embeddings, "targets")
    check_dim(weight, embeddings, "weight")
    _check_words(targets, noise, len(weight), checks)
    checks.done()
    known = targets != -1
    if uses_tiles(checks.execution, embeddings.device):  # rows without a target stay, with a weight of 0
        weights = known.to(embeddings) if weights is None else torch.where(known, weights, 0.0)
        targets = targets.clamp_min(0)
    elif not bool(known.all()):
        embeddings, targets = embeddings[known], targets[known]
        weights = None if weights is None else weights[known]
        noise = noise if noise.ndim == 1 else noise[known]

    def offset(words: Tensor) -> Tensor:
        noise_term = 0.0 if expected is None else expected[words].to(bias.dtype)
        return bias[words] - log_partition - noise_term

    stream_options: dict[str, Any] = {"weights": weights, "processes": processes, "stats": options.get("stats", False)}
    stream_options["execution"] = options.get("execution")
    if noise.ndim == 2:
        lists = torch.cat([targets[:, None], noise], 1)
        return listed(Logistic(), embeddings, weight, lists, "dot", offset=offset(lists), **stream_options)
    mine = targets[:, None]
    target_outcome = listed(Logistic(), embeddings, weight, mine, "dot", offset=offset(mine), **stream_options)
    nobody = Paired(torch.full_like(targets, -1), len(noise))
    stream_options |= {"offset": offset(noise), "tile_size": options.get("tile_size")}
    noise_outcome = stream(Logistic(), embeddings, weight[noise], nobody, "dot", **stream_options)
    of_noise = {name: value for name, value in noise_outcome.stats.items() if name.startswith("negative")}
    return combine(target_outcome, replace(noise_outcome, stats=of_noise))


def _check_words(targets: Tensor, noise: Tensor, words: int, checks: Checks) -> None:
    for ids, name, least in ((targets, "targets", -1), (noise, "noise", 0)):
        outside = (ids < least) | (ids >= words)

        def explain(ids: Tensor = ids, outside: Tensor = outside, name: str = name) -> None:
            raise LabelError(
                f"{name} hold the word id {int(ids[outside][0])}; the vocabulary has {words} words.",
                hint="Word ids run from 0 to the size of the vocabulary minus 1; a target of -1 leaves its row out.",
                reference="word-id",
            )

        checks.require(~outside.any(), explain)
