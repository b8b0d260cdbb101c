"""Losses whose rows are one learned vector for each class, a proxy, and whose columns are the examples of the batch."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from tuplet.engine import SINGLE_PROCESS, Outcome, Processes, gather
from tuplet.engine.gather import all_gather, shared
from tuplet.heads import Head
from tuplet.losses.classes import ClassLoss
from tuplet.losses.inputs import PairBatch, known, options_of
from tuplet.relation import SameLabel
from tuplet.seeding import normal_rows
from tuplet.tensors import wide_dtype


class ProxyLoss(ClassLoss):
    """A declaration over class proxies; its program reads examples as the columns of a row.

    A program finds the logarithm of an example's weight, relative to the mean of all, as `pair.of_col["log_weight"]`
    where weights were given.

    Inputs:
        proxies: One vector per class; its length does not count.
    """

    inputs: ClassVar[Mapping[str, Any]] = {
        "embeddings": Float[Tensor, "anchors dim"],
        "proxies": Float[Tensor, "classes dim"],
        "labels": Shaped[Tensor, " anchors"],
    }

    def setup(self) -> None:
        """Draw the proxies."""
        self.proxies = nn.Parameter(normal_rows(0, self.num_classes, self.dim, self.seed, "class proxies"))

    @property
    def classes(self) -> Head:  # type: ignore[override]  # kept under the name that users read
        """The proxies."""
        return Head(self.proxies, len(self.proxies))

    def of_tensors(self, inputs: dict[str, Any], sides: dict[str, Any]) -> Outcome:
        """Proxies given as a tensor."""
        vars(self)["proxies"] = inputs["proxies"]
        return self._outcome(inputs["embeddings"], inputs["labels"], **sides)

    def problem(self, embeddings: Tensor, labels: Tensor | None, sides: Mapping[str, Any]) -> PairBatch:
        """Proxies, dealt out to the processes, against the examples of all of them."""
        labels, processes = self.checked(embeddings, labels, sides), sides.get("processes", SINGLE_PROCESS)
        embeddings, labels, weights = known(embeddings, labels, sides.get("weights"), sides.get("execution"))
        gathered, theirs = gather(embeddings, processes), all_gather(labels, processes)
        weights = None if weights is None else all_gather(weights, processes)
        count, parts, part = len(self.proxies), processes.size, processes.rank
        if count < parts:  # each has all of them: sums and what they are divided by are multiples
            parts, part = 1, 0
        mine = slice(count * part // parts, count * (part + 1) // parts)
        classes = torch.arange(count, device=theirs.device)[mine]
        proxies = shared(self.proxies, processes)[mine]
        return PairBatch(proxies, gathered, SameLabel(classes, theirs), weights, 0, options_of(sides))

    def values(self, problem: PairBatch, processes: Processes) -> dict[str, Any]:
        """Weights as shifts of exponents."""
        del processes
        if problem.weights is None:
            return {}
        wide = wide_dtype(problem.references)
        here = (problem.relation.reference_labels != -1).to(wide)  # type: ignore[attr-defined]  # it is SameLabel
        weights = problem.weights.to(wide)
        mean = (weights * here).sum() / here.sum().clamp_min(1)
        relative = weights / torch.where(mean > 0, mean, 1.0)
        return {
            "of_col": {"log_weight": torch.where(relative > 0, relative, 1.0).log().where(relative > 0, -torch.inf)}
        }
