import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import oracles
from oracles.comparison import assert_same, quick, thorough
from oracles.problems import rows, weights
from tuplet.errors import TupletError
from tuplet.losses import InstanceDiscriminationLoss, instance_discrimination
from tuplet.memory import MemoryBank


@st.composite
def instances(draw: st.DrawFn):
    """Embeddings, a bank of unit rows, positions (repeated, some unknown), noise and weights."""
    count, size, dim = draw(st.integers(1, 6)), draw(st.integers(1, 7)), draw(st.integers(1, 4))
    f = draw(rows(count, dim)).requires_grad_()
    bank = torch.nn.functional.normalize(draw(rows(size, dim, grid=False)))
    positions = torch.tensor(draw(st.lists(st.integers(-1, size - 1), min_size=count, max_size=count)))
    noise = torch.randint(size, (count, draw(st.integers(1, 4))), generator=torch.Generator().manual_seed(count))
    return f, bank, positions, noise, draw(weights(count))


options = {"temperature": st.sampled_from([0.07, 0.5]), "proximal": st.sampled_from([0.0, 0.7])}


@pytest.mark.shows("oracle", "instance_discrimination")
@thorough
@given(instances=instances(), tile_size=st.sampled_from([1, 7, None]), **options)
def test_the_softmax_over_the_bank_equals_the_oracle_for_every_tiling(instances, tile_size, **options):
    f, bank, positions, _, w = instances
    found = instance_discrimination(f, bank, positions, weights=w, tile_size=tile_size, **options)
    assert_same(found, oracles.instance_discrimination(f, bank, positions, weights=w, **options).value, f)


@pytest.mark.shows("oracle", "instance_discrimination")
@thorough
@given(instances=instances(), tile_size=st.sampled_from([1, 7, None]), log_z=st.sampled_from([0.0, 3.2]), **options)
def test_the_noise_form_equals_the_oracle_for_every_tiling(instances, tile_size, log_z, **options):
    f, bank, positions, noise, w = instances
    found = instance_discrimination(f, bank, positions, noise, log_z, weights=w, tile_size=tile_size, **options)
    truth = oracles.instance_discrimination_nce(f, bank, positions, noise, log_z, weights=w, **options)
    assert_same(found, truth.value, f)


@quick
@given(instances=instances(), momentum=st.sampled_from([0.0, 0.5, 0.9]))
def test_the_bank_is_updated_like_the_oracle_in_any_order(instances, momentum):
    f, rows, positions, _, _ = instances
    truth = oracles.updated_bank(rows, f.detach(), positions, momentum=momentum)
    for order in (slice(None), torch.arange(len(f)).flip(0)):
        bank = MemoryBank(*rows.shape, momentum).double()
        bank.rows.copy_(rows)
        bank.update(f.detach()[order], positions[order])
        torch.testing.assert_close(bank.rows, truth, rtol=0, atol=1e-12)


@pytest.mark.parametrize("noise_samples", [None, 3])
def test_training_is_a_sequence_of_losses_and_updates(noise_samples):
    """Z is estimated in the first call and kept; every loss reads the bank from before its update."""
    loss = InstanceDiscriminationLoss(9, 4, 0.2, noise_samples, proximal=0.3).double()
    bank, log_z = torch.nn.functional.normalize(loss.bank.rows), None  # from rows of length one in float32
    loss.bank.rows.copy_(bank)
    for step in range(3):
        generator = torch.Generator().manual_seed(step)
        f = torch.randn(5, 4, dtype=torch.float64, generator=generator).requires_grad_()
        positions = torch.randint(-1, 9, (5,), generator=generator)
        there = positions != -1
        if noise_samples is None:
            truth = oracles.instance_discrimination(f, bank, positions, temperature=0.2, proximal=0.3)
        else:
            noise = loss.draw(positions)
            if log_z is None:
                log_z = oracles.estimated_log_z(f.detach()[there], bank, noise[there], temperature=0.2)
            truth = oracles.instance_discrimination_nce(f, bank, positions, noise, log_z, temperature=0.2, proximal=0.3)
        assert_same(loss(f, positions), truth.value, f)
        loss.advance()
        bank = oracles.updated_bank(bank, f.detach(), positions)
        torch.testing.assert_close(loss.bank.rows, bank, rtol=0, atol=1e-12)


def test_a_position_outside_the_bank_is_refused():
    with pytest.raises(TupletError, match="9"):
        InstanceDiscriminationLoss(9, 4)(torch.randn(2, 4), torch.tensor([0, 9]))
    with pytest.raises(TupletError, match="9"):
        instance_discrimination(torch.randn(2, 4), torch.randn(9, 4), torch.tensor([0, 9]))


def test_a_loss_by_noise_draws_some():
    with pytest.raises(TupletError, match="noise_samples is 0") as error:
        InstanceDiscriminationLoss(9, 4, noise_samples=0)
    assert error.value.reference == "noise-samples"
