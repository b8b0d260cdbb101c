"""Decoupled contrastive learning against its oracle: by ids, as two views, with a queue; and what sets it apart."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import oracles
from oracles.comparison import assert_same, gradients, quick
from oracles.problems import problems
from oracles.problems import weights as weights_of
from tuplet.losses import DecoupledContrastiveLoss, decoupled_contrastive, nt_xent

OPTIONS = {"temperature": st.sampled_from([0.1, 0.5]), "weighted": st.booleans(), "sigma": st.sampled_from([0.3, 0.5])}


@pytest.mark.shows("oracle", "decoupled_contrastive")
@quick
@given(
    problem=problems(),
    options=st.fixed_dictionaries(OPTIONS),
    kind=st.sampled_from(["ids", "views", "queue"]),
    tile_size=st.sampled_from([1, 7, None]),
    data=st.data(),
)
def test_value_and_gradient_equal_the_oracle_for_every_tiling(problem, options, kind, tile_size, data):
    x, y, labels, theirs = problem
    rows = min(len(x), len(y)) if kind == "views" else len(x)
    sides = {"weights": data.draw(weights_of(rows)), "tile_size": tile_size}
    if kind == "views":
        truth = oracles.decoupled_contrastive(x[:rows], references=y[:rows], weights=sides["weights"], **options)
        found = decoupled_contrastive(x[:rows], references=y[:rows], **sides, **options)
    else:
        queue = {"queue": y.detach(), "queue_labels": theirs} if kind == "queue" else {}
        truth = oracles.decoupled_contrastive(x, labels, weights=sides["weights"], **queue, **options)
        found = decoupled_contrastive(x, labels, **queue, **sides, **options)
    assert_same(found, truth.value, x, y)


@quick
@given(problem=problems(least=2))
def test_a_learned_temperature_has_the_gradient_of_the_oracle(problem):
    loss = DecoupledContrastiveLoss("learned", weighted=True).double()
    scale = loss.temperature.log_scale
    truth = oracles.decoupled_contrastive(problem.anchors, problem.labels, temperature=1 / scale.exp(), weighted=True)
    assert_same(loss(problem.anchors, problem.labels), truth.value, problem.anchors, scale)


def test_a_near_positive_leaves_the_gradient_of_the_negatives_as_it_is():
    """What NT-Xent loses where the positive has all of the mass."""
    x = torch.nn.functional.normalize(torch.randn(8, 4, dtype=torch.float64), dim=1)
    x = torch.cat([x, x + 1e-3 * x.roll(1, 0)])  # ids i and i + 8 are nearly equal
    ids, x = torch.arange(8).repeat(2), x.requires_grad_()
    strength = [gradients(loss(x, ids, temperature=0.02), x)[0].norm() for loss in (decoupled_contrastive, nt_xent)]
    assert strength[0] > 2 * strength[1]


@pytest.mark.parametrize("weighted", [False, True])
def test_one_pair_has_no_negative_and_no_loss(weighted):
    x = torch.randn(2, 3, requires_grad=True)
    value = DecoupledContrastiveLoss(weighted=weighted)(x[:1], references=x[1:])
    assert value == 0
    assert not gradients(value, x)[0].any()
