"""Logits of targets over all angles: values, derivatives, monotony; and what would have no gradient elsewhere."""

import math

import pytest
import torch

import oracles
from tuplet.errors import TupletError
from tuplet.losses import ArcFaceLoss, CosFaceLoss
from tuplet.margin import Combined, Multiplicative, StraightThrough, least_scale, nearest_cosine

ANGLES = torch.linspace(0, math.pi, 1001, dtype=torch.float64)
COMBINED = {
    "softmax": Combined(),
    "cosface": Combined(m3=0.35),
    "arcface": Combined(m2=0.5),
    "cm1": Combined(1.0, 0.3, 0.2),
    "cm2": Combined(0.9, 0.4, 0.15),
    "sphere": Combined(1.35),
    "four": Combined(4.0),
    "tangent": Combined(m2=0.5, extension="tangent"),
    "tangent-3": Combined(3.0, 0.2, extension="tangent"),
    "linear": Combined(m2=0.5, extension="linear"),
    "easy": Combined(m2=0.5, extension="easy"),
    "none": Combined(m2=0.5, extension="none"),
}
MONOTONE = [name for name in COMBINED if name not in {"easy", "none"}]
FALLS = [name for name in MONOTONE if name != "linear"]  # without a jump


@pytest.mark.parametrize("name", COMBINED)
def test_the_margin_score_is_that_of_the_oracle(name):
    margin = COMBINED[name]
    found, _ = margin(ANGLES.cos(), ANGLES.sin())
    options = {"m1": margin.m1, "m2": margin.m2, "m3": margin.m3, "extension": margin.extension}
    truth = torch.stack([oracles.target_score(angle.cos(), angle, **options) for angle in ANGLES])
    torch.testing.assert_close(found, truth, rtol=0, atol=1e-12)


@pytest.mark.parametrize("times", [1, 2, 3, 4])
@pytest.mark.parametrize("annealing", [0.0, 5.0, 1000.0])
def test_psi_is_that_of_the_oracle(times, annealing):
    found, _ = Multiplicative(times, annealing)(ANGLES.cos(), ANGLES.sin())
    truth = (annealing * ANGLES.cos() + oracles.psi(ANGLES.cos(), times)) / (1 + annealing)
    torch.testing.assert_close(found, truth, rtol=0, atol=1e-12)
    if not annealing:
        assert found[0] == 1
        assert found[-1].item() == pytest.approx(-(2 * times - 1))
        reflected, _ = Combined(float(times))(ANGLES.cos(), ANGLES.sin())
        torch.testing.assert_close(found, reflected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "margin", [*(COMBINED[name] for name in MONOTONE), *map(Multiplicative, (1, 2, 3, 4))], ids=repr
)
def test_the_score_of_a_target_never_rises_with_its_angle(margin):
    score, neg_dlogit = margin(ANGLES.cos(), ANGLES.sin())
    assert (score.diff() <= 1e-12).all()
    assert (neg_dlogit >= -1e-12).all()


@pytest.mark.parametrize("margin", [*(COMBINED[name] for name in FALLS), *map(Multiplicative, (1, 2, 3, 4))], ids=repr)
def test_the_derivative_is_the_derivative_over_the_angle(margin):
    h = 1e-6
    middle = ANGLES[1:-1]
    (after, _), (before, _) = (margin((middle + step).cos(), (middle + step).sin()) for step in (h, -h))
    _, neg_dlogit = margin(middle.cos(), middle.sin())
    torch.testing.assert_close(
        neg_dlogit, (before - after) / (2 * h), rtol=0, atol=2e-5
    )  # at a breakpoint the second is a kink


def test_a_straight_through_margin_has_the_gradient_of_the_cosine():
    logit, _ = COMBINED["arcface"](ANGLES.cos(), ANGLES.sin())
    found, neg_dlogit = StraightThrough(COMBINED["arcface"])(ANGLES.cos(), ANGLES.sin())
    torch.testing.assert_close(found, logit, rtol=0, atol=1e-12)
    torch.testing.assert_close(neg_dlogit, ANGLES.sin())


@pytest.mark.parametrize(
    "options",
    [{"m1": 0.0}, {"m2": -0.1}, {"m3": math.nan}, {"m1": 2.0, "extension": "linear"}, {"m1": 2.0, "extension": "easy"}],
)
def test_what_is_no_margin_is_refused(options):
    with pytest.raises(TupletError, match="margin"):
        Combined(**options)


@pytest.mark.parametrize("times", [0, 5])
def test_a_multiplicative_margin_is_a_small_whole_number(times):
    with pytest.raises(TupletError, match="margin"):
        Multiplicative(times)


@pytest.mark.parametrize(("classes", "probability", "scale"), [(10, 0.9, 3.96), (1000, 0.99, 11.49)])
def test_the_least_scale_is_that_of_the_paper_and_grows_with_the_margin(classes, probability, scale):
    assert least_scale(classes, probability) == pytest.approx(scale, abs=0.005)
    with_margin = math.log((classes - 1) * probability / (1 - probability)) / (classes / (classes - 1) - 0.35)
    assert least_scale(classes, probability, 1 - 0.35) == pytest.approx(with_margin)


@pytest.mark.parametrize(("classes", "dim"), [(3, 2), (4, 3), (9, 8), (5, 2), (12, 2)])
def test_no_arrangement_has_its_nearest_vectors_further_apart(classes, dim):
    """The bound of the margin, 1 - max w_i . w_j, against vectors that were pushed apart."""
    w = torch.randn(classes, dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    optimizer = torch.optim.Adam([w], lr=0.05)
    for step in range(600):
        optimizer.zero_grad()
        unit = torch.nn.functional.normalize(w)
        cosines = (unit @ unit.T)[~torch.eye(classes, dtype=torch.bool)]
        ((5 + step / 2) * cosines).logsumexp(0).div(5 + step / 2).backward()
        optimizer.step()
    found = cosines.max().item()
    assert nearest_cosine(classes, dim) - 1e-9 <= found < nearest_cosine(classes, dim) + 0.05


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: CosFaceLoss(10, 16, margin=0.35, scale=5.0), "scale 5"),
        (lambda: CosFaceLoss(10, 16, margin=1.2), "margin leaves"),  # C/(C-1) = 1.11
        (lambda: CosFaceLoss(8, 2, margin=0.35), "margin leaves"),  # 1 - cos(2 pi / 8) = 0.29
        (lambda: ArcFaceLoss(1000, 2, margin=0.5), "margin leaves"),
    ],
)
def test_a_scale_or_margin_beyond_its_bound_is_reported(caplog, build, said):
    build()
    assert said in caplog.text
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    "build", [lambda: CosFaceLoss(10, 16), lambda: CosFaceLoss(8, 2, margin=0.28), lambda: ArcFaceLoss(10**4, 128)]
)
def test_within_the_bounds_nothing_is_reported(caplog, build):
    build()
    assert caplog.text == ""
