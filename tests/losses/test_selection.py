"""Negatives sampled by distance: which triplets there are, and how often each negative is sampled."""

import torch
from torch.nn.functional import normalize

from tuplet.losses import TripletLoss, distance_weighted


def problem():
    """60 examples in one place, and 5 of other classes at distances of their own."""
    generator = torch.Generator().manual_seed(0)
    middle = normalize(torch.randn(1, 8, generator=generator))
    beside = torch.randn(5, 8, generator=generator)
    beside = normalize(beside - (beside @ middle.T) * middle)
    angles = torch.tensor([0.2, 0.6, 0.9, 1.2, 1.5])[:, None]  # of the last the distance is 1.36
    others = angles.cos() * middle + angles.sin() * beside
    return torch.cat([middle.repeat(60, 1), others]), torch.cat([torch.zeros(60), torch.arange(5) + 1]).long()


def test_negatives_are_sampled_by_the_inverse_of_the_density_of_their_distance():
    x, labels = problem()
    a, p, n = distance_weighted(x, labels, generator=torch.Generator().manual_seed(1))
    assert len(a) == 60 * 59
    assert bool((a != p).all() and (labels[a] == labels[p]).all() and (labels[a] != labels[n]).all())
    d = (x[0] - x[60:]).norm(dim=1).clamp_min(0.5)
    weights = 1 / (d**6 * (1 - d**2 / 4) ** 2.5)
    torch.testing.assert_close(torch.bincount(n - 60, minlength=5) / len(n), weights / weights.sum(), atol=0.02, rtol=0)


def test_far_negatives_are_not_sampled_and_unknown_rows_take_no_part():
    x, labels = problem()
    labels[:2] = -1
    draw = {"generator": torch.Generator().manual_seed(1), "most": 0.7}
    a, p, n = distance_weighted(x * 3, labels, **draw)
    assert set(n.tolist()) == {60, 61}
    assert min(a.min(), p.min()) == 2
    assert [len(rows) for rows in distance_weighted(x, labels, **draw | {"most": 0.1})] == [0, 0, 0]


def test_what_is_sampled_is_a_call_of_listed_triplets():
    x, labels = problem()
    x.requires_grad_()
    a, p, n = distance_weighted(x, labels, generator=torch.Generator().manual_seed(1))
    TripletLoss(normalise=True)(x[a], positives=x[p], negatives=x[n]).backward()
    assert x.grad.abs().sum() > 0
