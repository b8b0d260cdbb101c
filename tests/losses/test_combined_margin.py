import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy, normalize

import oracles
from oracles.comparison import assert_same, gradients, quick, thorough
from oracles.problems import rows, weights
from tuplet.errors import TupletError
from tuplet.losses import ArcFaceLoss, CombinedMarginLoss, CosFaceLoss, arcface, combined_margin, cosface
from tuplet.margin import Combined, apply_margin
from tuplet.relation import Entries

extensions = st.sampled_from(["reflect", "linear", "easy", "tangent", "none"])


@st.composite
def classes(draw: st.DrawFn, centers: int = 1):
    """Embeddings, class weights (some equal, zero, aligned or opposite), labels (some -1) and weights."""
    count, number, dim = draw(st.integers(1, 6)), draw(st.integers(1, 5)), draw(st.integers(2, 4))
    both = draw(rows(count + number * centers, dim, grid=False, copies=False))
    x, weight = (part.clone() for part in both.split([count, number * centers]))
    labels = torch.tensor(draw(st.lists(st.integers(-1, number - 1), min_size=count, max_size=count)))
    if draw(st.booleans()):  # exactly: along an axis, where normalising does not round
        weight[0] = torch.eye(dim)[0].double() * 2
        x[0] = torch.eye(dim)[0].double() * draw(st.sampled_from([0.5, -0.5]))
    if draw(st.booleans()):
        draw(st.sampled_from([x, weight]))[-1] = 0
    return x.requires_grad_(), weight.requires_grad_(), labels, draw(weights(count))


@pytest.mark.shows("oracle", "combined_margin")
@thorough
@given(
    classes=classes(),
    tile_size=st.sampled_from([1, 7, None]),
    extension=extensions,
    m1=st.sampled_from([1.0, 0.9, 2.0]),
    m2=st.sampled_from([0.0, 0.5]),
    m3=st.sampled_from([0.0, 0.2]),
    scale=st.sampled_from([8.0, 64.0]),
)
def test_value_and_gradient_equal_the_oracle_for_every_tiling(classes, tile_size, **options):
    x, weight, labels, w = classes
    if options["extension"] in {"linear", "easy"}:
        options["m1"] = 1.0
    found = combined_margin(x, weight, labels, weights=w, tile_size=tile_size, **options)
    assert_same(
        found, oracles.combined_margin(x, weight, labels, weights=w, **options).value, x, weight, tolerance=1e-9
    )


@thorough
@given(classes=classes(centers=3), tile_size=st.sampled_from([1, 7, None]))
def test_the_nearest_of_several_centers_speaks_for_its_class(classes, tile_size):
    x, weight, labels, w = classes
    options = {"scale": 16.0, "m2": 0.5, "m3": 0.0, "sub_centers": 3, "weights": w}
    found = combined_margin(x, weight, labels, tile_size=tile_size, **options)
    assert_same(found, oracles.combined_margin(x, weight, labels, **options).value, x, weight, tolerance=1e-9)


def test_among_equal_centers_the_first_is_given_a_gradient():
    x = torch.tensor([[1.0, 2.0]], dtype=torch.float64, requires_grad=True)
    weight = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]], dtype=torch.float64, requires_grad=True)
    options = {"scale": 4.0, "m2": 0.5, "m3": 0.0, "sub_centers": 2}
    value = combined_margin(x, weight, torch.tensor([0]), **options)
    assert_same(value, oracles.combined_margin(x, weight, torch.tensor([0]), **options).value, x, weight)
    (gradient,) = gradients(value, weight)
    assert (gradient[[1, 3]] == 0).all()
    assert gradient[0].any()


@quick
@given(classes=classes(), scale=st.sampled_from([4.0, 64.0]))
def test_without_margins_it_is_cross_entropy_of_cosines(classes, scale):
    x, weight, labels, _ = classes
    labels = labels.clamp_min(0)
    nothing = {"m1": 1.0, "m2": 0.0, "m3": 0.0, "scale": scale}
    x, weight = (t.detach().where(t.detach().any(1, keepdim=True), 1.0).requires_grad_() for t in (x, weight))
    expected = cross_entropy(scale * normalize(x) @ normalize(weight).T, labels)
    assert_same(combined_margin(x, weight, labels, **nothing), expected, x, weight)
    assert_same(cosface(x, weight, labels, margin=0.0, scale=scale), expected, x, weight)
    assert_same(arcface(x, weight, labels, margin=0.0, scale=scale), expected, x, weight)


@pytest.mark.shows("oracle", "arcface", "cosface")
@quick
@given(classes=classes(), tile_size=st.sampled_from([1, 7, None]))
def test_cosface_and_arcface_equal_the_oracle_of_combined_margins(classes, tile_size):
    x, weight, labels, w = classes
    for function, name in ((cosface, "m3"), (arcface, "m2")):
        options = {"scale": 16.0, "m1": 1.0, "m2": 0.0, "m3": 0.0, name: 0.4}
        truth = oracles.combined_margin(x, weight, labels, weights=w, **options).value
        found = function(x, weight, labels, margin=0.4, scale=16.0, weights=w, tile_size=tile_size)
        assert_same(found, truth, x, weight, tolerance=1e-9)


@pytest.mark.parametrize(
    ("module", "options"),
    [
        (CosFaceLoss, {"m1": 1.0, "m2": 0.0, "m3": 0.35}),
        (ArcFaceLoss, {"m1": 1.0, "m2": 0.5, "m3": 0.0}),
        (CombinedMarginLoss, {"m1": 1.0, "m2": 0.3, "m3": 0.2}),
    ],
)
def test_the_defaults_are_those_of_the_papers(module, options):
    loss = module(5, 3).double()
    (weight,) = loss.parameters()
    assert weight.shape == (5, 3)
    x = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    labels = torch.tensor([0, 1, 2, -1, 4, 4])
    outcome = loss.measure(x, labels)
    assert outcome.count == 5
    assert_same(outcome.value, oracles.combined_margin(x, weight, labels, scale=64.0, **options).value, x, weight)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("extension", ["reflect", "tangent", "linear", "easy", "none"])
def test_aligned_opposite_and_zero_rows_have_finite_gradients(dtype, extension):
    weight = torch.eye(4, dtype=dtype).requires_grad_()
    x = (
        torch.stack([weight[0], -weight[0], 0 * weight[0], -weight[0] + 1e-3, weight[0] + 1e-3])
        .detach()
        .requires_grad_()
    )
    value = combined_margin(x, weight, torch.zeros(5, dtype=torch.int64), m2=0.5, m3=0.0, extension=extension)
    assert torch.isfinite(value)
    for gradient in gradients(value, x, weight):
        assert torch.isfinite(gradient).all()


def test_the_worst_samples_are_given_a_gradient():
    """Nearly opposite of its class: a clamp of the cosine would leave the sample without a gradient."""
    weight = torch.eye(3)
    for angle in (3.0, 3.1, 3.14, 3.1415):
        x = torch.tensor([[angle]]).cos() * weight[:1] + torch.tensor([[angle]]).sin() * weight[1:2]
        x.requires_grad_()
        (gradient,) = gradients(arcface(x, weight, torch.tensor([0])), x)
        exact = x.detach().double().requires_grad_()
        truth = oracles.combined_margin(exact, weight.double(), torch.tensor([0]), m2=0.5, m3=0.0).value
        torch.testing.assert_close(gradient.double(), gradients(truth, exact)[0], rtol=1e-3, atol=1e-3)
        assert gradient.norm() > 1


@pytest.mark.parametrize("label", [5, -2])
@pytest.mark.parametrize("module", [CosFaceLoss, ArcFaceLoss, CombinedMarginLoss])
def test_labels_outside_the_classes_are_refused(module, label):
    with pytest.raises(TupletError, match=str(label)):
        module(5, 3)(torch.randn(2, 3), torch.tensor([0, label]))


@thorough
@given(
    classes=classes(centers=2),
    data=st.data(),
    tile_size=st.sampled_from([1, 7, None]),
    correction=st.booleans(),
    sub_centers=st.sampled_from([1, 2]),
)
def test_classes_that_were_not_sampled_are_not_in_the_sum(classes, data, tile_size, **options):
    x, weight, labels, w = classes
    number = len(weight) // options["sub_centers"]
    sampled = data.draw(st.lists(st.integers(0, number - 1), unique=True))
    kept = sorted({*sampled, *labels[labels != -1].tolist()} or {0})
    options |= {"scale": 8.0, "weights": w}
    found = combined_margin(x, weight, labels, classes=torch.tensor(kept), tile_size=tile_size, **options)
    truth = oracles.combined_margin(x, weight, labels, classes=kept, **options).value
    assert_same(found, truth, x, tolerance=1e-9)
    ours, theirs = gradients(found, weight)[0].to_dense(), gradients(truth, weight)[0]
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9 * max(1.0, theirs.abs().max().item()))


def test_the_gradient_of_sampled_classes_touches_their_rows_alone():
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    weight = torch.randn(9, 4, generator=torch.Generator().manual_seed(1)).requires_grad_()
    value = combined_margin(x, weight, torch.tensor([2, 7, 2]), classes=torch.tensor([2, 5, 7]))
    (gradient,) = gradients(value, weight)
    assert gradient.is_sparse
    assert sorted(gradient.coalesce().indices()[0].tolist()) == [2, 5, 7]


def test_a_class_of_the_batch_that_was_not_sampled_is_an_error():
    with pytest.raises(TupletError, match="7"):
        combined_margin(torch.randn(2, 4), torch.randn(9, 4), torch.tensor([2, 7]), classes=torch.tensor([2, 5]))


@pytest.mark.parametrize("sub_centers", [1, 2])
def test_the_module_draws_the_classes_of_the_batch_and_others_up_to_the_rate(sub_centers):
    loss = ArcFaceLoss(20, 4, scale=8.0, sub_centers=sub_centers, sample_rate=0.4, correction=True).double()
    generator = torch.Generator().manual_seed(0)
    seen = set()
    for _ in range(4):
        x = torch.randn(5, 4, generator=generator, dtype=torch.float64).requires_grad_()
        labels = torch.randint(-1, 20, (5,), generator=generator)
        value = loss(x, labels)
        touched = gradients(value, loss.weight)[0].coalesce().indices()[0]
        sampled = sorted({row // sub_centers for row in touched.tolist()})
        assert len(sampled) == 8
        assert set(labels[labels != -1].tolist()) <= set(sampled)
        options = {"scale": 8.0, "m2": 0.5, "m3": 0.0, "sub_centers": sub_centers, "correction": True}
        truth = oracles.combined_margin(x, loss.weight, labels, classes=sampled, **options).value
        assert_same(value, truth, x)
        seen.add(tuple(sampled))
        loss.advance()
    assert len(seen) == 4


def test_a_rate_of_one_is_the_whole_sum():
    x, labels = torch.randn(5, 4), torch.tensor([0, 3, 19, 3, -1])
    assert torch.equal(ArcFaceLoss(20, 4, sample_rate=1.0)(x, labels), ArcFaceLoss(20, 4)(x, labels))


def test_the_corrected_sum_is_that_of_all_classes_on_average():
    x = torch.randn(1, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weight = torch.randn(12, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    label, scale = torch.tensor([3]), 2.0
    target = scale * (normalize(x) @ normalize(weight[3:4]).T).item()

    def mass(**options) -> float:
        nothing = {"m2": 0.0, "m3": 0.0, "scale": scale}
        return (combined_margin(x, weight, label, **nothing, **options) + target).exp().item()

    generator = torch.Generator().manual_seed(2)
    others = torch.tensor([j for j in range(12) if j != 3])
    found = [
        mass(classes=torch.cat([label, others[torch.randperm(11, generator=generator)[:4]]]), correction=True)
        for _ in range(400)
    ]
    average = torch.tensor(found)
    assert abs(average.mean().item() - mass()) < 4 * average.std().item() / 20


def test_straight_through_has_the_value_of_the_margin_and_the_gradient_of_the_cosine():
    x = torch.tensor([[1.0, 0.5], [-0.3, 1.0]], dtype=torch.float64, requires_grad=True)
    weight = torch.eye(2, dtype=torch.float64).requires_grad_()
    labels, options = torch.tensor([0, 0]), {"m2": 0.5, "m3": 0.0, "scale": 4.0}
    found = combined_margin(x, weight, labels, gradient="straight_through", **options)
    torch.testing.assert_close(found, combined_margin(x, weight, labels, **options))
    cosines = normalize(x) @ normalize(weight).T
    logit = torch.stack([oracles.target_score(c, c.acos(), m2=0.5) for c in cosines[:, 0].detach()])
    logits = 4.0 * torch.cat([(cosines[:, 0] + (logit - cosines[:, 0]).detach())[:, None], cosines[:, 1:]], 1)
    assert_same(found, cross_entropy(logits, labels), x, weight)


@pytest.mark.parametrize("scale", [0.0, -1.0, torch.inf])
def test_a_scale_that_is_no_scale_is_refused(scale):
    with pytest.raises(TupletError, match="scale"):
        cosface(torch.randn(2, 3), torch.randn(4, 3), torch.tensor([0, 1]), scale=scale)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("dim", [2, 7, 64, 512])
@pytest.mark.parametrize("sign", [1, -1])
def test_rows_on_one_line_with_their_class_weight_have_no_direction(dtype, dim, sign):
    """Integers times one direction: only rounding tells the unit rows apart, and rounding is not a gradient."""
    line = torch.randint(-9, 10, (40, dim), generator=torch.Generator().manual_seed(dim)).to(dtype)
    line[:, 0] = 1  # never zero
    x, weight = line * torch.arange(1, 41)[:, None].to(dtype), sign * line * 3
    place = torch.arange(40)
    logit = apply_margin(Combined(m2=0.5), Entries(place, place), normalize(x), normalize(weight))
    assert (logit.mine == 0).all()
    assert (logit.theirs == 0).all()
    aligned = math.cos(0.5) if sign == 1 else -2 - math.cos(math.pi + 0.5)
    torch.testing.assert_close(logit.score, torch.full((40,), aligned, dtype=dtype), rtol=0, atol=2e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_angle_of_a_few_more_units_has_its_direction(dtype):
    """Just above rounding the tangent is there, with the length that the angle's derivative says."""
    angle = 1e3 * torch.finfo(dtype).eps
    x = torch.tensor([[1.0, angle]], dtype=dtype, requires_grad=True)
    weight = torch.eye(2, dtype=dtype)
    value = combined_margin(x, weight, torch.tensor([0]), m1=1.0, m2=0.5, m3=0.0, scale=1.0)
    (gradient,) = gradients(value, x)
    exact = x.detach().double().requires_grad_()
    truth = oracles.combined_margin(exact, weight.double(), torch.tensor([0]), m1=1.0, m2=0.5, m3=0.0, scale=1.0).value
    assert abs(gradient[0, 1].item()) > 0.1
    torch.testing.assert_close(gradient.double(), gradients(truth, exact)[0], rtol=1e-2, atol=1e-6)
