"""Metrics of a loss: means and shares instead of sums."""

from collections.abc import Mapping

from torch import Tensor

_SHARES = {
    "active_share": ("active", ("triplets", "pairs", "anchors")),
    "easy_share": ("easy", ("triplets",)),
    "semihard_share": ("semihard", ("triplets",)),
    "hard_share": ("hard", ("triplets",)),
    "without_positives_share": ("anchors_without_positives", ("rows",)),
    "positive_score": ("positive_score", ("positives",)),
    "negative_score": ("negative_score", ("negatives",)),
    "norm": ("norm", ("embeddings",)),
    "temperature": ("rows", ("scale",)),
}


def loss_metrics(stats: Mapping[str, Tensor]) -> dict[str, float]:
    r"""Make means and shares of the sums that `loss.measure` returns.

    Args:
        stats: Of an `Outcome`.

    Returns:
        As far as the loss has them: `positive_score` and `negative_score`, means of scores before the scale, in the
        sense that the loss reads them (similarity or distance); `active_share`, triplets (pairs, anchors) with a loss
        above 0; `easy_share`, `semihard_share` and `hard_share` of all triplets; `without_positives_share`, anchors
        that have negatives but no positive; `temperature`, 1 / the mean scale, where scores are scaled; `norm`, the
        mean length of an embedding. Numbers under other names are returned as they are.
    """
    found: dict[str, float] = {}
    used = {name for part, wholes in _SHARES.values() for name in (part, *wholes)}
    for name, (part, wholes) in _SHARES.items():
        whole = next((float(stats[key]) for key in wholes if key in stats), 0.0)
        if part in stats and whole > 0:
            found[name] = float(stats[part]) / whole
    if found.get("temperature") == 1:  # nothing is scaled
        del found["temperature"]
    return found | {name: float(value) for name, value in stats.items() if name not in used}
