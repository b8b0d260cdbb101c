import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import oracles
from oracles import rules
from oracles.comparison import assert_same, gradients, quick, thorough
from oracles.problems import Problem, case, problems, weights
from tuplet import losses
from tuplet.losses import InfoNCELoss, info_nce
from tuplet.relation import SameLabel

temperatures = st.sampled_from([0.01, 0.07, 1.0])
tile_sizes = st.sampled_from([1, 7, None])
geometries = st.sampled_from(["cosine", "dot", "squared_euclidean"])


def paired(problem: Problem) -> tuple[torch.Tensor, torch.Tensor]:
    """Anchors, and at least as many references."""
    x, y = problem.anchors, problem.references
    return (x, y) if len(x) <= len(y) else (y, x)


@pytest.mark.shows("oracle", "info_nce")
@thorough
@given(
    problem=problems(),
    data=st.data(),
    tile_size=tile_sizes,
    temperature=temperatures,
    symmetric=st.booleans(),
    geometry=geometries,
)
def test_value_and_gradient_equal_the_oracle_for_every_tiling(problem: Problem, data, tile_size, **options):
    x, y = paired(problem)
    w = data.draw(weights(len(x)))
    found = info_nce(x, y, weights=w, tile_size=tile_size, **options)
    assert_same(found, oracles.info_nce(x, y, weights=w, **options).value, x, y)


@quick
@given(problem=problems(), tile_size=tile_sizes, symmetric=st.booleans(), temperature=temperatures)
def test_the_temperature_has_its_gradient(problem: Problem, tile_size, symmetric, temperature):
    x, y = paired(problem)
    tau = torch.tensor(temperature, dtype=torch.float64, requires_grad=True)
    found = info_nce(x, y, temperature=tau, symmetric=symmetric, tile_size=tile_size)
    assert_same(found, oracles.info_nce(x, y, temperature=tau, symmetric=symmetric).value, x, y, tau)


@quick
@given(problem=problems(), data=st.data(), tile_size=tile_sizes, temperature=temperatures)
def test_any_relation_says_who_is_positive(problem: Problem, data, tile_size, temperature):
    x, y, mine, theirs = problem
    w = data.draw(weights(len(x)))
    found = info_nce(x, y, SameLabel(mine, theirs), temperature=temperature, weights=w, tile_size=tile_size)
    masks = rules.masks(rules.relate(x, mine, references=y, reference_labels=theirs))
    assert_same(found, oracles.info_nce(x, y, *masks, temperature=temperature, weights=w).value, x, y)


@quick
@given(problem=problems(least=4, most=4), data=st.data(), symmetric=st.booleans())
def test_class_ids_make_every_row_of_the_class_a_positive(problem: Problem, data, symmetric):
    x, y, mine, theirs = problem
    w = data.draw(weights(len(x)))
    given_weights = {} if w is None else {"weights": w}
    found = InfoNCELoss(0.2, symmetric=symmetric)(x, mine, references=y, reference_labels=theirs, **given_weights)
    masks = rules.masks(rules.relate(x, mine, references=y, reference_labels=theirs))
    truth = oracles.info_nce(x, y, *masks, temperature=0.2, symmetric=symmetric, weights=w)
    assert_same(found, truth.value, x, y)


@pytest.mark.parametrize("name", ["info_nce", "nt_xent", "supcon, in", "instance_discrimination", "npair"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_whose_positive_is_opposite_are_given_a_gradient_at_temperature_one_hundredth(name, dtype):
    """exp((s_ip - s_in) / 0.01) is 0 in float32; the gradient is not."""
    x = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    y = torch.tensor([[-1.0, 0.1], [0.1, -1.0]])  # each nearer to the other's anchor than to its own
    a, b = x.to(dtype).requires_grad_(), y.to(dtype).requires_grad_()
    ids = torch.tensor([0, 1])
    value = {
        "info_nce": lambda: losses.info_nce(a, b, temperature=0.01),
        "nt_xent": lambda: losses.nt_xent(a, references=b, temperature=0.01),
        "supcon, in": lambda: losses.supcon(torch.cat([a, b]), ids.repeat(2), temperature=0.01, where="in"),
        "instance_discrimination": lambda: losses.instance_discrimination(a, y, ids, temperature=0.01),
        "npair": lambda: losses.npair(a * 10, references=b * 10),
    }[name]()
    assert torch.isfinite(value)
    assert gradients(value, a)[0].norm(dim=1).min() > 1


@quick
@given(case=case())
def test_one_set_or_a_queue_is_as_in_supcon(case):
    found = InfoNCELoss(0.1)(case.embeddings, case.labels, **case.sides)
    assert_same(found, oracles.supcon(case.embeddings, case.labels, **case.sides).value, *case.leaves)


@pytest.mark.parametrize("log_scale", [math.log(1 / 0.07), math.log(99.0), math.log(101.0), 9.0])
def test_a_learned_temperature_is_a_log_scale_with_a_cap(log_scale):
    x, y = torch.randn(2, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).unbind()
    x, y = x.requires_grad_(), y.requires_grad_()
    loss = InfoNCELoss("learned", symmetric=True).double()
    (parameter,) = loss.parameters()
    assert parameter.item() == pytest.approx(math.log(1 / 0.07))
    parameter.data.fill_(log_scale)
    truth = oracles.info_nce(x, y, temperature=oracles.capped_temperature(parameter), symmetric=True)
    assert_same(loss(x, references=y), truth.value, x, y, parameter)
