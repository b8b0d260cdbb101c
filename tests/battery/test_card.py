"""What every registered loss must do on an accelerator that is there."""

import pytest
import torch

from battery.setups import batch, build
from battery.test_battery import every_loss, every_replayed
from tuplet.engine import Execution
from tuplet.errors import TupletError
from tuplet.losses import replay

pytestmark = pytest.mark.gpu

PLAIN = Execution(graphs=False)


@pytest.fixture(autouse=True)
def _card():
    if not torch.cuda.is_available():
        pytest.skip("no accelerator is here")


def on_card(name, rows=12, seed=0, dtype=torch.float64):
    """A loss and a batch there, all tensors leaves."""
    given = batch(name, rows, seed=seed, dtype=dtype)
    tensors = [x.detach().cuda().requires_grad_(x.requires_grad) for x in given.tensors]
    reported = {key: x.detach().cuda().requires_grad_(x.requires_grad) for key, x in given.given.items()}
    return tensors, reported


def value_and_gradients(loss, tensors, reported):
    leaves = [x for x in (*tensors, *reported.values(), *loss.parameters()) if x.requires_grad]
    for x in leaves:
        x.grad = None
    value = loss(*tensors, **reported)
    value.backward()
    return [value.detach(), *(torch.zeros_like(x) if x.grad is None else x.grad.clone() for x in leaves)]


@every_loss
def test_value_and_gradient_are_those_of_the_cpu(name):
    loss, given = build(name), batch(name)
    truth = value_and_gradients(loss, given.tensors, given.given)
    found = value_and_gradients(build(name).cuda(), *on_card(name))
    for mine, theirs in zip(found, truth, strict=True):
        torch.testing.assert_close(mine.cpu(), theirs, rtol=1e-9, atol=1e-11)


@every_replayed
def test_a_replayed_call_is_the_call_for_other_inputs_of_the_same_shapes(name):
    loss, plain = build(name).cuda(), build(name).cuda()
    plain.execution = PLAIN
    for seed in range(replay.AFTER + 3):
        given = on_card(name, seed=seed)
        for mine, theirs in zip(value_and_gradients(loss, *given), value_and_gradients(plain, *given), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-13)
    assert len(loss._replays.graphs) == 1
    assert not loss._replays.refused


def test_a_replayed_call_refuses_what_the_call_refuses_and_makes_room_for_more_positives():
    loss = build("triplet").cuda()
    x, two, six = torch.randn(12, 4, device="cuda", requires_grad=True), torch.arange(12) // 2, torch.arange(12) // 6
    for _ in range(replay.AFTER + 2):
        value_and_gradients(loss, [x], {"labels": two.cuda()})
    plain = build("triplet").cuda()
    plain.execution = PLAIN
    more = [value_and_gradients(each, [x], {"labels": six.cuda()}) for each in (loss, plain)]
    torch.testing.assert_close(*more)
    for _ in range(replay.AFTER + 2):
        value_and_gradients(loss, [x], {"labels": six.cuda()})
    x.data[7, 1] = torch.nan
    with pytest.raises(TupletError, match="7"):
        loss(x, six.cuda())


def test_an_option_that_changes_is_no_replay_of_the_old_one():
    loss, (tensors, reported) = build("contrastive").cuda(), on_card("contrastive")
    for _ in range(replay.AFTER + 2):
        before = loss(*tensors, **reported)
    loss.margin = loss.margin * 3
    plain = build("contrastive", margin=loss.margin).cuda()
    assert loss(*tensors, **reported) != before
    torch.testing.assert_close(loss(*tensors, **reported), plain(*tensors, **reported))


def test_a_step_of_model_and_loss_is_captured_in_a_graph_of_its_own():
    torch.manual_seed(0)
    model, loss = torch.nn.Linear(6, 8).cuda(), build("supcon", torch.float32).cuda()
    loss.execution = Execution(check="off")
    rows, labels = torch.randn(64, 6, device="cuda"), torch.arange(64, device="cuda") // 4
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            model.zero_grad()
            loss(model(rows), labels).backward()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    model.zero_grad()
    with torch.cuda.graph(graph, stream=stream):
        value = loss(model(rows), labels)
        value.backward()
    rows.copy_(torch.randn_like(rows))
    model.weight.grad.zero_()
    graph.replay()
    found = [value.clone(), model.weight.grad.clone()]
    model.zero_grad()
    true = loss(model(rows), labels)
    true.backward()
    torch.testing.assert_close(found, [true, model.weight.grad])


@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
def test_lower_precision_is_near(precision):
    loss = build("supcon", torch.float32).cuda()
    x, labels = torch.randn(300, 64, device="cuda", requires_grad=True), torch.arange(300, device="cuda") // 5
    exact = value_and_gradients(loss, [x], {"labels": labels})
    loss.execution = Execution(precision=precision)
    near = value_and_gradients(loss, [x], {"labels": labels})
    for mine, theirs in zip(near, exact, strict=True):
        assert (mine - theirs).norm() <= 2e-2 * theirs.norm()


def test_a_scaled_half_precision_step_is_finite():
    loss, scaler = build("info_nce", torch.float32).cuda(), torch.amp.GradScaler("cuda")
    model = torch.nn.Linear(6, 8).cuda()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with torch.autocast("cuda", torch.float16):
        x, y = model(torch.randn(32, 6, device="cuda")), model(torch.randn(32, 6, device="cuda"))
        value = loss(x, references=y)
    scaler.scale(value).backward()
    scaler.step(optimizer)
    scaler.update()
    assert value.isfinite()
    assert all(p.isfinite().all() for p in model.parameters())
