import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import oracles
from oracles.comparison import assert_same, gradients, thorough
from oracles.problems import rows, weights
from tuplet.errors import TupletError
from tuplet.losses import ASoftmaxLoss, a_softmax


@st.composite
def classes(draw: st.DrawFn, centers: int = 1):
    """Embeddings, class weights (equal and zero rows among them), labels (some -1) and weights."""
    count, number, dim = draw(st.integers(1, 6)), draw(st.integers(1, 6)), draw(st.integers(1, 4))
    both = draw(rows(count + number * centers, dim))  # so that some embeddings are class weights
    x, weight = (part.clone().requires_grad_() for part in both.split([count, number * centers]))
    labels = torch.tensor(draw(st.lists(st.integers(-1, number - 1), min_size=count, max_size=count)))
    return x, weight, labels, draw(weights(count))


@pytest.mark.shows("oracle", "a_softmax")
@thorough
@given(
    classes=classes(),
    tile_size=st.sampled_from([1, 7, None]),
    margin=st.sampled_from([1, 2, 3, 4]),
    annealing=st.sampled_from([0.0, 5.0, 1000.0]),
)
def test_value_and_gradient_equal_the_oracle_for_every_tiling(classes, tile_size, **options):
    x, weight, labels, w = classes
    found = a_softmax(x, weight, labels, weights=w, tile_size=tile_size, **options)
    assert_same(found, oracles.a_softmax(x, weight, labels, weights=w, **options).value, x, weight)


def test_the_mixture_follows_the_schedule_step_by_step():
    loss = ASoftmaxLoss(4, 3, annealing=(100.0, 5.0, 0.5, 1.0)).double()
    generator = torch.Generator().manual_seed(0)
    for step in range(60):
        x = torch.randn(5, 3, generator=generator, dtype=torch.float64).requires_grad_()
        labels = torch.randint(4, (5,), generator=generator)
        mixed = oracles.annealing(step, 100.0, 5.0, 0.5, 1.0)
        truth = oracles.a_softmax(x, loss.weight, labels, annealing=mixed)
        if step % 20 == 0 or step < 3:
            with torch.no_grad():
                loss.eval()(x, labels)  # counts no step
            assert_same(loss.train()(x, labels), truth.value, x, loss.weight)
        else:
            loss(x, labels)
        loss.advance()
    assert mixed == 5.0


def test_the_default_schedule_is_the_public_one():
    assert oracles.annealing(0) == 1000
    loss, x, labels = ASoftmaxLoss(4, 3).double(), torch.randn(5, 3, dtype=torch.float64), torch.arange(5) % 4
    torch.testing.assert_close(loss(x, labels), oracles.a_softmax(x, loss.weight, labels, annealing=1000.0).value)


def test_the_step_of_the_schedule_is_saved():
    loss, other = (
        ASoftmaxLoss(4, 3, annealing=(10.0, 0.0, 1.0, 1.0)),
        ASoftmaxLoss(4, 3, annealing=(10.0, 0.0, 1.0, 1.0)),
    )
    x, labels = torch.randn(5, 3), torch.arange(5) % 4
    for _ in range(3):
        loss(x, labels)
        loss.advance()
    other.load_state_dict(loss.state_dict())
    assert torch.equal(other(x, labels), loss(x, labels))
    loss.advance()
    torch.testing.assert_close(
        loss(x, labels), oracles.a_softmax(x, loss.weight, labels, annealing=oracles.annealing(4, 10.0, 0.0, 1.0)).value
    )


def test_opposite_and_zero_rows_have_finite_gradients():
    weight = torch.eye(3).requires_grad_()
    x = torch.stack([torch.tensor([1.0, 0.0, 0.0]), torch.tensor([-1.0, 0.0, 0.0]), torch.zeros(3)]).requires_grad_()
    value = a_softmax(x, weight, torch.tensor([0, 0, 0]), annealing=0.0)
    for gradient in gradients(value, x, weight):
        assert torch.isfinite(gradient).all()
    assert (gradients(value, x)[0][2] == 0).all()


@pytest.mark.parametrize("label", [4, -2])
def test_labels_outside_the_classes_are_refused(label):
    with pytest.raises(TupletError, match=str(label)):
        ASoftmaxLoss(4, 3)(torch.randn(2, 3), torch.tensor([0, label]))
