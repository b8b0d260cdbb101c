"""Statistics against counts over the whole matrix."""

import pytest
import torch

from tuplet.losses import ContrastiveLoss, CosFaceLoss, SupConLoss, TripletLoss, readings


def batch():
    """Embeddings of four classes, one of them with a single example, and two rows without a label."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 3, -1, -1])
    return torch.randn(len(labels), 6, generator=generator, dtype=torch.float64), labels


def pairs(labels):
    known = (labels[:, None] >= 0) & (labels >= 0)
    known &= ~torch.eye(len(labels), dtype=torch.bool)
    same = known & (labels[:, None] == labels)
    return same, known & ~same


@pytest.mark.parametrize("tile_size", [1, 10**6])
@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_scores_are_means_before_the_scale(temperature, tile_size):
    x, labels = batch()
    found = readings(SupConLoss(temperature=temperature).measure(x, labels, tile_size=tile_size).stats)
    same, different = pairs(labels)
    unit = torch.nn.functional.normalize(x, dim=1)
    scores = unit @ unit.T
    assert found["positive_score"] == pytest.approx(scores[same].mean().item())
    assert found["negative_score"] == pytest.approx(scores[different].mean().item())
    assert found.get("temperature", 1.0) == pytest.approx(temperature)
    assert found["lonely_share"] == pytest.approx(1 / 9)  # the class with one example, of all that are labelled
    assert found["norm"] == pytest.approx(x.norm(dim=1).mean().item())


def test_shares_of_triplets_are_those_of_a_count():
    x, labels = batch()
    found = readings(TripletLoss(margin=0.5, geometry="euclidean").measure(x, labels).stats)
    same, different = pairs(labels)
    apart = torch.cdist(x, x)
    triplets = [
        (float(apart[a, p]), float(apart[a, n]))
        for a in range(len(x))
        for p in same[a].nonzero()[:, 0]
        for n in different[a].nonzero()[:, 0]
    ]
    count = len(triplets)
    assert found["active_share"] == pytest.approx(sum(near + 0.5 > far for near, far in triplets) / count)
    assert found["easy_share"] == pytest.approx(sum(near + 0.5 < far for near, far in triplets) / count)
    assert found["hard_share"] == pytest.approx(sum(far < near for near, far in triplets) / count)
    assert sum(found[f"{kind}_share"] for kind in ("easy", "semihard", "hard")) == pytest.approx(1)
    assert "temperature" not in found


@pytest.mark.parametrize("mean_over", ["all", "active", "anchors"])
def test_active_pairs_are_counted_whatever_the_mean_divides_by(mean_over):
    x, labels = batch()
    loss = ContrastiveLoss(margin=2.0, mean_over=mean_over)
    found = readings(loss.measure(x, labels).stats)
    same, different = pairs(labels)
    apart = torch.cdist(x, x)
    active = ((apart > 0) & same) | ((apart < 2.0) & different)
    assert found["active_share"] == pytest.approx((active.sum() / (same | different).sum()).item())
    assert loss.measure(x, labels, stats=False).stats == {}


def test_weighted_classes_have_the_temperature_of_their_scale():
    x, labels = batch()
    known = labels >= 0
    found = readings(CosFaceLoss(num_classes=4, dim=6, scale=16.0).measure(x[known].float(), labels[known]).stats)
    assert found["temperature"] == pytest.approx(1 / 16)
    assert -1 <= found["positive_score"] <= 1
