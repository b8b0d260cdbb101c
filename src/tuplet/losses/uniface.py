"""Binary cross-entropy of each class by one threshold for all examples."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from tuplet.bounds import NotNegative, Part, Scale
from tuplet.engine import SINGLE_PROCESS, Processes
from tuplet.engine.gather import counts, shared
from tuplet.engine.program import Found, Mean, Pair, Term, softplus, total
from tuplet.errors import ShapeError
from tuplet.losses.base import register
from tuplet.losses.counters import count_on, known
from tuplet.losses.pending import Call
from tuplet.losses.target_head import TargetHeadLoss
from tuplet.seeding import derive


@register("uniface")
class UniFaceLoss(TargetHeadLoss):
    r"""Each class by itself: the own one above a learned threshold, that all examples share, and all others below it.

    $$L_i = \log\big(1 + e^{b - s(\cos\theta_{y_i} - m)}\big) + \lambda \sum_{j \ne y_i,\; p_{ij} < r} \log\big(1 +
    e^{s\cos\theta_j - b}\big), \quad p_{ij} = (u_i + v_j) \bmod 1$$

    b / s is the threshold; b starts at log(10 r C) for C classes. u and v are uniform in [0, 1) and new in each step:
    the p of a row are independent and uniform, as in the paper, and so are those of a class, without a matrix of them.

    Inputs:
        threshold: b.
        row_chances: u, one for each row; a module draws them.
        class_chances: v, one for each class; a module draws them.

    Args:
        margin: m, in units of the cosine.
        negative_weight: λ, at least 0.
        scale: s > 0.
        negative_share: r, the share of the negatives that count in a step, above 0; at 1 all do.
        seed: Of the first weights and of the draws.

    References:
        Zhou, Jia, Li, Shen, Duan, "UniFace: Unified Cross-Entropy Loss for Deep Face Recognition", 2023, section 3.4,
        eq. 31 and 32; b starts as in the code of its authors.
    """

    margin: NotNegative = 0.4
    negative_weight: NotNegative = 1.0
    scale: Scale = 64.0
    negative_share: Part = 1.0

    suits = "one threshold for all classes, as verification needs it"
    inputs: ClassVar[Mapping[str, Any]] = {
        "embeddings": Float[Tensor, "anchors dim"],
        "weight": Float[Tensor, "classes dim"],
        "labels": Shaped[Tensor, " anchors"],
        "threshold": Float[Tensor, ""],
    }
    keyword_inputs: ClassVar[Mapping[str, Any]] = {
        "row_chances": Float[Tensor, " anchors"] | None,
        "class_chances": Float[Tensor, " classes"] | None,
    }

    def setup(self) -> None:
        """Draw the class weights; the threshold starts where few negatives are above it."""
        super().setup()
        self.threshold = nn.Parameter(torch.tensor(math.log(10 * self.negative_share * self.num_classes)))
        if self.negative_share < 1:
            self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def of_rows(self, embeddings: Tensor, angle: Tensor, labels: Tensor, processes: Processes) -> dict[str, Tensor]:
        """The target's score, and the threshold."""
        del embeddings, labels
        threshold = shared(self.threshold, processes).to(angle)
        return {"own": angle.cos() - self.margin, "threshold": threshold.expand(len(angle))}

    def sampled(self, labels: Tensor, sides: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Random numbers of rows and classes, where a share of the negatives counts."""
        if self.negative_share == 1:
            return {}, {}
        given = [sides.get(name) for name in self.keyword_inputs]
        if "calls" in vars(self).get("_buffers", {}):
            of_step = self.draw(labels, sides.get("processes", SINGLE_PROCESS))
            given = [own if said is None else said for said, own in zip(given, of_step, strict=True)]
        rows, classes = given
        if rows is None or classes is None or (len(rows), len(classes)) != (len(labels), self.classes.num_classes):
            raise ShapeError(
                f"negative_share is {self.negative_share}, and there is not a random number for each of {len(labels)} "
                f"rows and {self.classes.num_classes} classes.",
                hint="Pass row_chances= and class_chances=, or call UniFaceLoss, which draws them, without prefixes of "
                "the embedding.",
                reference="chances",
            )
        return {"row_chance": rows.to(labels.device)}, {"class_chance": classes.to(labels.device)}

    def draw(self, labels: Tensor, processes: Processes) -> tuple[Tensor, Tensor]:
        """The numbers u of this process's rows among those of the global batch, and v, in this step."""
        rows = counts(len(labels), processes, labels.device)
        generator = derive(self.seed, "negatives", int(known(self, "calls")))
        chances = torch.rand(sum(rows) + self.num_classes, generator=generator)  # not every device has float64
        begin = sum(rows[: processes.rank])
        return chances[begin : begin + len(labels)], chances[sum(rows) :]

    @property
    def has_state(self) -> bool:
        """Each step draws other negatives, where a share of them counts."""
        return self.negative_share < 1

    def _take_in(self, calls: list[Call]) -> None:
        del calls
        count_on(self, "calls")

    def terms(self, score: Tensor, pair: Pair) -> dict[str, Term]:
        """Binary cross-entropy of the other classes."""
        chosen = pair.negative
        if self.negative_share < 1:
            chance = pair.of_row["row_chance"] + pair.of_col["class_chance"]
            chosen = chosen & (torch.where(chance >= 1, chance - 1, chance) < self.negative_share)
        return {"others": total(softplus(self.scale * score - pair.of_row["threshold"]), where=chosen)}

    def finish(self, found: Found) -> Mean:
        """And of the own one."""
        own = softplus(found["threshold"] - self.scale * found["own"])
        return Mean(own + self.negative_weight * found["others"], torch.ones_like(own))


uniface = UniFaceLoss.function()
