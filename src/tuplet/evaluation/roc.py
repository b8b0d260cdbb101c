"""What follows from how many pairs of either kind each threshold accepts; several weightings of the pairs at once."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Accepted:
    """Shares of accepted pairs, from the strictest threshold to the one that accepts all.

    Attributes:
        tar: Of the pairs of one class, at each distinct score; NaN if there are none.
        far: Of the pairs of two classes.
        purity: Share of pairs of one class among the accepted ones, each pair as often as it stands for others.
        auc: Area under the polygon of TAR over FAR: P(same > different) + P(equal) / 2; from sums, not from shares, so
            that separated scores give 1.
    """

    tar: Float[Tensor, "weightings points"]
    far: Float[Tensor, "weightings points"]
    purity: Float[Tensor, "weightings points"]
    auc: Float[Tensor, " weightings"]

    @classmethod
    def of(
        cls,
        weights: Float[Tensor, "weightings pairs"],
        same: Bool[Tensor, " pairs"],
        ends: Int64[Tensor, " points"],
        odds: float = 1.0,
    ) -> "Accepted":
        """Accept weighted pairs, which are in descending order of score, up to each of `ends`.

        Args:
            weights: How often each pair counts; sums of whole numbers are exact, and so are the shares 0 and 1.
            same: Which pairs are of one class.
            ends: Last accepted pair.
            odds: How many pairs a pair of two classes stands for, relative to one of one class.
        """
        right = (weights * same).cumsum(1)[:, ends]
        wrong = (weights * ~same).cumsum(1)[:, ends]
        accepted = right + odds * wrong
        below = torch.trapezoid(_from_zero(right), _from_zero(wrong), dim=1)
        auc = below / (right[:, -1] * wrong[:, -1])
        return cls(right / right[:, -1:], wrong / wrong[:, -1:], right / accepted.where(accepted > 0, 1), auc)

    def measures(self, far: tuple[float, ...]) -> dict[str, Float[Tensor, " weightings"]]:
        """All measures by name; NaN for a weighting without pairs of both kinds."""
        found = {"auc": self.auc, "eer": self._equal_error_rate()}
        found |= {f"tar@far={limit:g}": self._tar_at(limit) for limit in far}
        found["average_precision"] = (
            self.tar.diff(dim=1, prepend=torch.zeros_like(self.tar[:, :1])) * self.purity
        ).sum(1)
        empty = (self.tar[:, -1] + self.far[:, -1]).isnan()
        return {name: values.masked_fill(empty, torch.nan) for name, values in found.items()}

    def last_within(self, limit: float) -> Int64[Tensor, " weightings"]:
        """Point of the largest false accept rate up to `limit`; -1 if the strictest threshold exceeds it."""
        return (self.far <= limit).sum(1) - 1

    def best(self) -> Int64[Tensor, " weightings"]:
        """Strictest point of the largest (TAR + 1 - FAR) / 2."""
        return (self.tar - self.far).argmax(1)

    def _tar_at(self, limit: float) -> Tensor:
        at = self.last_within(limit)
        return self.tar.gather(1, at.clamp_min(0)[:, None])[:, 0].where(at >= 0, 0.0)

    def _equal_error_rate(self) -> Tensor:
        """Where the polygon meets FAR = 1 - TAR."""
        far, gap = _from_zero(self.far), _from_zero(self.far) + _from_zero(self.tar) - 1
        after = (gap >= 0).int().argmax(1).clamp_min(1)[:, None]  # the polygon starts at gap -1
        gap_before, gap_after = gap.gather(1, after - 1), gap.gather(1, after)
        far_before, far_after = far.gather(1, after - 1), far.gather(1, after)
        return (far_after + gap_after / (gap_after - gap_before) * (far_before - far_after))[:, 0]


def tie_ends(keys: Float[Tensor, " pairs"]) -> Int64[Tensor, " points"]:
    """Last pair of each run of equal keys."""
    return torch.cat([(keys[1:] != keys[:-1]).nonzero()[:, 0], torch.tensor([len(keys) - 1])])


def midway(keys: Float[Tensor, " points"], at: int) -> float:
    """Threshold in the middle between the last accepted score and the first refused one; scores descend.

    It is the last accepted score where there is no lower one, or no number between them.
    """
    accepted = float(keys[at])
    if at + 1 == len(keys):
        return accepted
    refused = float(keys[at + 1])
    middle = refused + (accepted - refused) / 2
    return middle if refused < middle else accepted


def _from_zero(shares: Tensor) -> Tensor:
    return torch.nn.functional.pad(shares, (1, 0))
