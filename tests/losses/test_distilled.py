"""A loss beside the divergence of its rows of scores from those of a teacher, against plain softmaxes."""

import copy

import pytest
import torch

import oracles
from distributed.launch import launch
from oracles.comparison import assert_same
from oracles.rules import unit
from tuplet import losses
from tuplet.engine import Execution, Processes
from tuplet.errors import TupletError
from tuplet.losses import DistilledLoss, FeatureQueue

IDS = torch.arange(12) % 4


def rows(seed=0, dim=6, count=12):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, dim, dtype=torch.float64, generator=generator).requires_grad_()


def divergence(x, y, teacher, others, temperature, weights=None):
    """sum_j p_ij log(p_ij / q_ij) row by row; y is None where a set meets itself."""
    itself = y is None
    y, others = (x, teacher) if itself else (y, others)
    found = []
    for i in range(len(x)):
        at = [j for j in range(len(y)) if not (itself and i == j)]
        p = torch.softmax(unit(others)[at] @ unit(teacher)[i] / temperature, 0)
        q = torch.softmax(unit(y)[at] @ unit(x)[i] / temperature, 0)
        found.append(sum(a * (a.log() - b.log()) for a, b in zip(p, q, strict=True)))
    each = torch.ones(len(x)).double() if weights is None else weights
    return (torch.stack(found) * each).sum() / each.sum()


@pytest.mark.parametrize("tile_size", [1, 7, None])
@pytest.mark.parametrize("temperature", [0.05, 1.0])
def test_one_set_is_held_to_its_teacher(temperature, tile_size):
    x, teacher, weights = rows(), rows(1, 3).detach(), rows(2, 1).detach()[:, 0].abs()
    for each in (None, weights):
        sides = {} if each is None else {"weights": each}
        truth = oracles.supcon(x, IDS, **sides).value + 0.7 * divergence(x, None, teacher, None, temperature, each)
        loss = DistilledLoss(losses.SupConLoss(), 0.7, temperature)
        assert_same(loss(x, IDS, teacher=teacher, tile_size=tile_size, **sides), truth, x)


@pytest.mark.parametrize("tile_size", [1, 7, None])
def test_references_are_held_to_those_of_the_teacher(tile_size):
    x, y, teacher, others = rows(), rows(1, count=15), rows(2, 4).detach(), rows(3, 4, 15).detach()
    truth = oracles.info_nce(x, y).value + divergence(x, y, teacher, others, 0.1)
    loss = DistilledLoss(losses.InfoNCELoss(), 1.0, 0.1)
    given = {"references": y, "teacher": teacher, "reference_teacher": others}
    assert_same(loss(x, tile_size=tile_size, **given), truth, x, y)


def test_tile_code_gives_the_same():
    x, teacher = rows(), rows(1, 3).detach()
    truth = DistilledLoss(losses.SupConLoss())(x, IDS, teacher=teacher)
    loss = DistilledLoss(losses.SupConLoss())
    loss.execution = Execution(engine="tiles", memory=16 * 30)
    assert_same(loss(x, IDS, teacher=teacher), truth, x)


@pytest.mark.parametrize("name", ["arcface", "proxy_anchor", "log_ratio", "instance_discrimination", "nca"])
def test_it_stands_around_losses_of_every_kind(name):
    from battery.setups import batch, build  # noqa: PLC0415  # builds every loss, which no other test here needs

    given, teacher = batch(name), rows(1, 3).detach()
    inner, plain = build(name), build(name)
    x = given.tensors[0]
    found = DistilledLoss(inner, 2.0, 0.5)(x, **given.given, teacher=teacher)
    truth = plain(x, **given.given) + 2 * divergence(x, None, teacher, None, 0.5)
    assert_same(found, truth, x)


def test_a_teacher_that_is_the_student_adds_nothing_and_rows_without_labels_are_taught():
    x = rows()
    plain = losses.SupConLoss()(x, IDS)
    assert_same(DistilledLoss(losses.SupConLoss())(x, IDS, teacher=x), plain, x, tolerance=1e-9)
    unknown, teacher = torch.full_like(IDS, -1), rows(1).detach()
    found = DistilledLoss(losses.SupConLoss())(x, unknown, teacher=teacher)
    assert_same(found, divergence(x, None, teacher, None, 0.05), x)
    assert DistilledLoss(losses.SupConLoss())(x[:1], IDS[:1], teacher=teacher[:1]) == 0


def test_what_the_loss_within_keeps_moves_and_is_saved():
    x, teacher = rows(), rows(1).detach()
    loss = DistilledLoss(losses.SupConLoss(queue=FeatureQueue(24, 6))).double()
    other = copy.deepcopy(loss)
    loss(x, IDS, teacher=teacher)
    loss.advance()
    assert len(loss.loss.queue.filled()[0]) == 12
    other.load_state_dict(loss.state_dict())
    assert torch.equal(loss(x, IDS, teacher=teacher), other(x, IDS, teacher=teacher))


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"teacher": torch.ones(11, 3)},
        {"teacher": torch.full((12, 3), torch.nan)},
        {"references": torch.ones(12, 6).double(), "teacher": torch.ones(12, 3)},
    ],
)
def test_rows_that_are_not_those_of_the_call_are_refused(given):
    loss = DistilledLoss(losses.InfoNCELoss())
    sides = {"labels": IDS} if "references" not in given else {}
    with pytest.raises(TupletError) as caught:
        loss(rows(), **sides, **given)
    assert caught.value.reference in {"teacher", "non-finite-embeddings"}


def huber(x):
    return x.square() / 2 if x.abs() <= 1 else x.abs() - 0.5


def relational(x, y, teacher, others, weights=None):
    """Distances over their means and cosines at each vertex, in loops; y is None where a set meets itself."""
    itself = y is None
    y, others = (x, teacher) if itself else (y, others)
    x, y, teacher, others = (unit(each) for each in (x, y, teacher, others))
    w = torch.ones(len(x)).double() if weights is None else weights
    pairs = [(i, j) for i in range(len(x)) for j in range(len(y)) if not (itself and i == j)]
    far = [[torch.linalg.vector_norm(a[i] - b[j]) for i, j in pairs] for a, b in ((x, y), (teacher, others))]
    student, its = (torch.stack(one) / torch.stack(one).mean() for one in far)
    terms = torch.stack([w[i] * huber(a - b) for (i, _), a, b in zip(pairs, student, its, strict=True)])
    by_distance = terms.sum() / sum(w[i] for i, _ in pairs)
    found, total = [], 0
    for j in range(len(x)):
        at = [i for i in range(len(y)) if not (itself and i == j)]
        for i, k in ((i, k) for i in at for k in at if i != k):
            cosines = [unit(b[i] - a[j]) @ unit(b[k] - a[j]) for a, b in ((x, y), (teacher, others))]
            found.append(w[j] * huber(cosines[0] - cosines[1]))
            total += w[j]
    return by_distance, torch.stack(found).sum() / total


@pytest.mark.parametrize("tile_size", [1, 7, 40, None])
@pytest.mark.parametrize("weighted", [False, True])
def test_distances_and_angles_are_those_of_the_teacher(tile_size, weighted):
    x, teacher = rows(count=6), rows(1, 3, 6).detach()
    sides = {"weights": rows(2, 1, 6).detach()[:, 0].abs()} if weighted else {}
    by_distance, by_angle = relational(x, None, teacher, None, **sides)
    ids = IDS[:6]
    truth = oracles.supcon(x, ids, **sides).value + 3 * by_distance + 2 * by_angle
    loss = DistilledLoss(losses.SupConLoss(), 0.0, distances=3.0, angles=2.0)
    assert_same(loss(x, ids, teacher=teacher, tile_size=tile_size, **sides), truth, x)


@pytest.mark.parametrize("tile_size", [1, 9, None])
def test_distances_and_angles_to_references_are_those_of_the_teacher(tile_size):
    x, y, teacher, others = rows(count=4), rows(1, count=5), rows(2, 3, 4).detach(), rows(3, 3, 5).detach()
    by_distance, by_angle = relational(x, y, teacher, others)
    truth = oracles.info_nce(x, y).value + by_distance + by_angle
    loss = DistilledLoss(losses.InfoNCELoss(), 0.0, distances=1.0, angles=1.0)
    given = {"references": y, "teacher": teacher, "reference_teacher": others}
    assert_same(loss(x, tile_size=tile_size, **given), truth, x, y)


def test_far_distances_count_by_their_size_and_equal_ones_not_at_all():
    """Two clusters as the teacher has them, which the student has apart by little: differences above 1 are met."""
    x = torch.tensor([[1.0, 0.0], [1.0, 1e-3], [1.0, 2e-3], [-1.0, 0.0]], dtype=torch.float64).requires_grad_()
    teacher = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]], dtype=torch.float64)
    by_distance, by_angle = relational(x, None, teacher, None)
    loss = DistilledLoss(losses.SupConLoss(), 0.0, distances=1.0, angles=1.0)
    truth = oracles.supcon(x, IDS[:4]).value + by_distance + by_angle
    assert_same(loss(x, IDS[:4], teacher=teacher), truth, x, tolerance=1e-8)
    same = DistilledLoss(losses.SupConLoss(), 0.0, distances=1.0, angles=1.0)(x, IDS[:4], teacher=2 * x.detach())
    assert same.item() == pytest.approx(0.0, abs=1e-12)
    for count in (1, 2):  # no pair, and no triple
        few = DistilledLoss(losses.SupConLoss(), 0.0, distances=1.0, angles=1.0)
        assert few(x[:count], IDS[:count], teacher=teacher[:count]).isfinite()


def part(rank, size):
    bounds = [0, 5, 12] if size == 2 else [0, 12]
    return slice(bounds[rank], bounds[rank + 1])


def taught_together():
    """Value, and gradient of the rows of this process."""
    processes = Processes.default()
    mine = part(processes.rank, processes.size)
    found = {}
    for name, y in (("one", None), ("two", rows(4))):
        x = rows().detach()[mine].requires_grad_()
        loss = DistilledLoss(losses.SupConLoss(processes=processes), 1.0, 0.1, distances=2.0, angles=3.0)
        sides = {"teacher": rows(1, 3).detach()[mine]}
        if y is not None:
            sides |= {"references": y.detach()[mine], "reference_labels": IDS[mine]}
            sides |= {"reference_teacher": rows(2, 3).detach()[mine]}
        value = loss(x, IDS[mine], **sides)
        value.backward()
        found[name] = value.detach(), x.grad
    return found


@pytest.mark.distributed
def test_two_processes_are_as_one(tmp_path):
    alone, together = taught_together(), launch("losses.test_distilled:taught_together", 2, tmp_path)
    for name, (value, gradient) in alone.items():
        for each in together:
            torch.testing.assert_close(each[name][0], value, rtol=0, atol=1e-12)
        scale = len(together)  # as torch averages gradients over processes
        mine = torch.cat([each[name][1] for each in together]) / scale
        torch.testing.assert_close(mine, gradient, rtol=0, atol=1e-12)
