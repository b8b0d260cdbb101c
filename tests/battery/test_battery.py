"""What every registered loss must do, whoever wrote it."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import oracles
from battery.setups import Batch, batch, build, draws, is_replayed
from oracles.comparison import gradients
from tuplet.errors import TupletError
from tuplet.losses import PairLoss, registry

every_loss = pytest.mark.parametrize("name", list(registry))
every_replayed = pytest.mark.parametrize("name", [name for name in registry if is_replayed(name)])
labelled = pytest.mark.parametrize(
    "name", [name for name in registry if registry[name].supervision in {"class", "target", "example"}]
)


def call(loss: nn.Module, given: Batch) -> Tensor:
    return loss(*given.tensors, **given.given)


def value_and_gradients(loss: nn.Module, given: Batch) -> tuple[Tensor, tuple[Tensor, ...]]:
    value = call(loss, given)
    return value.detach(), gradients(value, *given.leaves(), *loss.parameters())


def assert_equal(found: tuple[Tensor, tuple[Tensor, ...]], truth: tuple[Tensor, tuple[Tensor, ...]]) -> None:
    torch.testing.assert_close(found[0], truth[0], rtol=1e-10, atol=1e-12)
    for ours, theirs in zip(found[1], truth[1], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-10 * max(1.0, theirs.abs().max().item()))


@every_loss
def test_the_setup_has_a_loss_and_a_gradient(name):
    value, found = value_and_gradients(build(name), batch(name))
    assert value > 0
    assert all(gradient.abs().sum() > 0 for gradient in found)


@every_loss
def test_permuting_the_batch_permutes_the_gradient(name):
    if draws(name):
        pytest.skip("noise is drawn for rows by position")
    given, order = batch(name), torch.randperm(12, generator=torch.Generator().manual_seed(1))
    value, found = value_and_gradients(build(name), given)
    permuted_value, permuted = value_and_gradients(build(name), given.take(order))
    rows = len(given.leaves())
    expected = (*(gradient[order] for gradient in found[:rows]), *found[rows:])
    assert_equal((permuted_value, permuted), (value, expected))


@every_loss
@pytest.mark.parametrize("rows", [0, 1])
def test_no_rows_and_one_row_give_a_finite_loss(name, rows):
    value, found = value_and_gradients(build(name), batch(name).take(torch.arange(rows)))
    assert torch.isfinite(value)
    assert all(torch.isfinite(gradient).all() for gradient in found)
    if rows == 0:
        assert value == 0


@labelled
def test_unknown_labels_give_exactly_zero(name):
    given = batch(name)
    value, found = value_and_gradients(build(name), given.changed(labels=torch.full((12,), -1)))
    assert value == 0
    assert all((gradient == 0).all() for gradient in found)


@labelled
def test_an_unknown_row_is_as_if_it_were_not_there(name):
    if draws(name):
        pytest.skip("noise is drawn for rows by position")
    given = batch(name)
    there = torch.tensor([0, 1, 2, 3, 5, 6, 7, 8, 10])
    labels = torch.full((12,), -1)
    labels[there] = given.given["labels"][there]
    value, found = value_and_gradients(build(name), given.changed(labels=labels))
    expected, without = value_and_gradients(build(name), given.take(there))
    assert_equal((value, (found[0][there], *found[1:])), (expected, without))
    assert (found[0][labels == -1] == 0).all()


@every_loss
@pytest.mark.parametrize("same", [1.0, 0.0, -1.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_equal_opposite_and_zero_rows_give_finite_numbers(name, same, dtype):
    given = batch(name).to(dtype)
    for x in given.leaves():
        x.data[:] = x.data[:1] * abs(same)
        x.data[::2] *= -1 if same < 0 else 1
    loss = build(name, torch.float64 if dtype == torch.float64 else torch.float32)
    value, found = value_and_gradients(loss, given)
    assert torch.isfinite(value)
    assert all(torch.isfinite(gradient).all() for gradient in found)


@every_loss
def test_one_class_gives_finite_numbers(name):
    given = batch(name)
    if "labels" not in given.given:
        pytest.skip("no labels")
    value, found = value_and_gradients(build(name), given.changed(labels=torch.zeros_like(given.given["labels"])))
    assert torch.isfinite(value)
    assert all(torch.isfinite(gradient).all() for gradient in found)


@every_loss
def test_equal_weights_change_nothing(name):
    given = batch(name)
    truth = value_and_gradients(build(name), given)
    assert_equal(value_and_gradients(build(name), given.changed(weights=torch.ones(12).double())), truth)
    assert_equal(value_and_gradients(build(name), given.changed(weights=torch.full((12,), 0.25).double())), truth)


@every_loss
def test_weights_without_sum_give_exactly_zero(name):
    value, found = value_and_gradients(build(name), batch(name).changed(weights=torch.zeros(12).double()))
    assert value == 0
    assert all((gradient == 0).all() for gradient in found)


@every_loss
@pytest.mark.parametrize("bad", [-1.0, torch.nan, torch.inf])
def test_a_bad_weight_is_refused(name, bad):
    weights = torch.ones(12).double()
    weights[3] = bad
    with pytest.raises(TupletError, match="weight"):
        call(build(name), batch(name).changed(weights=weights))


@every_loss
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_embeddings_that_are_no_numbers_are_refused_by_row(name, bad):
    given = batch(name)
    given.tensors[0].data[7, ..., 1] = bad
    given.tensors[0].data[10, ..., 0] = bad
    with pytest.raises(TupletError, match=r"7.*10") as caught:
        call(build(name), given)
    assert caught.value.hint
    assert caught.value.reference


@every_loss
def test_float32_is_no_worse_than_its_inputs_allow(name):
    truth, exact = value_and_gradients(build(name), batch(name).to(torch.float32).to(torch.float64))
    value, found = value_and_gradients(build(name, torch.float32), batch(name, dtype=torch.float32))
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.double(), truth, rtol=1e-5, atol=1e-6)
    for ours, theirs in zip(found, exact, strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours.double(), theirs, rtol=0, atol=1e-4 * max(1e-2, theirs.abs().max().item()))


@every_loss
def test_bfloat16_inputs_are_finite_and_close(name):
    given = batch(name).to(torch.bfloat16)
    truth, exact = value_and_gradients(build(name), given.to(torch.float64))
    value, found = value_and_gradients(build(name, torch.float32), given)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.double(), truth, rtol=0.02, atol=0.02)
    for ours, theirs in zip(found, exact, strict=True):
        assert torch.isfinite(ours).all()
        torch.testing.assert_close(ours.double(), theirs, rtol=0, atol=0.05 * max(1e-2, theirs.abs().max().item()))


@every_loss
def test_autocast_changes_nothing(name):
    given = batch(name, dtype=torch.float32)
    truth = value_and_gradients(build(name, torch.float32), given)
    with torch.autocast("cpu", torch.bfloat16):
        value = call(build(name, torch.float32), given)
    torch.testing.assert_close(value, truth[0])


@every_loss
def test_gradients_agree_with_differences(name):
    loss, given = build(name), batch(name, rows=8)
    if loss.stops_gradient:  # by definition the gradient is not the derivative of the value
        own = {key: getattr(loss, key) for key in loss.inputs if key not in {"embeddings", "labels"}}
        truth = getattr(oracles, name)(*given.tensors, **given.given, **own).value
        assert_equal(
            value_and_gradients(loss, given), (truth.detach(), gradients(truth, *given.leaves(), *loss.parameters()))
        )
        return
    call(loss, given)
    loss.advance()  # what is estimated in the first step is a constant from then on
    loss.eval()

    def of(*leaves: Tensor) -> Tensor:
        fresh = iter(leaves)
        tensors = tuple(next(fresh) for _ in given.tensors)
        return call(loss, Batch(tensors, {k: next(fresh) if x.requires_grad else x for k, x in given.given.items()}))

    assert torch.autograd.gradcheck(of, tuple(given.leaves()), fast_mode=True)


@every_loss
def test_inputs_are_left_as_they_were(name):
    given = batch(name)
    tensors = [*given.tensors, *given.given.values()]
    before = [(x.clone(), x._version) for x in tensors]
    call(build(name), given).backward()
    for x, (values, version) in zip(tensors, before, strict=True):
        assert torch.equal(x, values)
        assert x._version == version


@every_loss
def test_the_value_is_that_of_measure_and_needs_no_gradient(name):
    given = batch(name)
    outcome = build(name).measure(*given.tensors, **given.given)
    with torch.no_grad():
        value = call(build(name), given)
    assert not value.requires_grad
    assert value.shape == ()
    torch.testing.assert_close(value, outcome.value.detach())
    assert outcome.count > 0
    assert all(isinstance(stat, Tensor) and not stat.requires_grad for stat in outcome.stats.values())


@every_loss
def test_a_call_leaves_no_attributes_behind(name):
    loss = build(name)
    before = {path: dict(vars(module)) for path, module in loss.named_modules()}
    call(loss, batch(name)).backward()
    loss.advance()
    for path, module in loss.named_modules():
        assert vars(module).keys() == before[path].keys()
        for key, value in vars(module).items():
            if not key.startswith("_"):
                assert value is before[path][key] or value == before[path][key], key


@every_loss
def test_nothing_moves_in_eval_mode(name):
    loss = build(name).eval()
    before = copy.deepcopy(loss.state_dict())
    first, second = call(loss, batch(name)), call(loss, batch(name))
    assert torch.equal(first, second)
    for key, value in loss.state_dict().items():
        torch.testing.assert_close(value, before[key], rtol=0, atol=0, equal_nan=True, msg=key)


@every_loss
def test_a_loaded_state_goes_on_where_the_saved_one_stood(name):
    loss = build(name)
    for step in range(2):
        call(loss, batch(name, seed=step))
        loss.advance()
    other = build(name)
    other.load_state_dict(copy.deepcopy(loss.state_dict()))
    assert_equal(value_and_gradients(other, batch(name, seed=7)), value_and_gradients(loss, batch(name, seed=7)))


class _Largest(TorchDispatchMode):
    """Keeps the most elements of any tensor that an operation returned with memory of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for x in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(x, Tensor):
                self.elements = max(self.elements, x.untyped_storage().nbytes() // x.element_size())
        return result


@pytest.mark.shows("streamed")
@every_loss
def test_no_tensor_is_as_large_as_the_matrix(name):
    rows = 2048 if registry[name].supervision == "none" else 1536  # a tile has 2^20 entries; a row of some is a series
    loss, given = build(name, torch.float32), batch(name, rows, dtype=torch.float32)
    if issubclass(registry[name], PairLoss) and "labels" in given.given:
        given = given.changed(labels=torch.arange(rows) // 4)
    with _Largest() as seen:
        call(loss, given).backward()
    assert seen.elements < rows * rows


@every_loss
def test_second_derivatives_are_refused_or_right(name):
    given = batch(name)
    value = call(build(name), given)
    first = torch.autograd.grad(value, given.leaves()[0], create_graph=True)[0]
    if not first.requires_grad:
        return
    try:
        torch.autograd.grad(first.square().sum(), given.leaves()[0])
    except TupletError as error:
        assert "engine.reference" in error.hint  # noqa: PT017  # either way is right


@pytest.mark.shows("tiles")
@pytest.mark.parametrize("name", [name for name in registry if "tile_size" in registry[name].takes])
def test_the_result_does_not_depend_on_the_tiles(name):
    given = batch(name, rows=8)
    truth = value_and_gradients(build(name), given)
    for tile_size in (1, 7, 100):
        loss = build(name)
        value = loss(*given.tensors, **given.given, tile_size=tile_size)
        assert_equal((value.detach(), gradients(value, *given.leaves(), *loss.parameters())), truth)


@every_loss
def test_an_unknown_argument_is_refused(name):
    with pytest.raises(TypeError, match=r"'wieghts'.*weights"):
        call(build(name), batch(name).changed(wieghts=torch.ones(12)))
