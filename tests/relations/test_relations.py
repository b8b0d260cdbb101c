"""Rules about pairs against loops over pairs, and losses under a rule against the same pairs given one by one."""

import itertools
import math

import pytest
import torch

from oracles.comparison import assert_same
from tuplet import losses, relations
from tuplet.engine import Execution
from tuplet.errors import LabelError
from tuplet.memory import FeatureQueue
from tuplet.relations import matrix, paired, same_class, shared_label, similar, within
from tuplet.rule import RuleRelation

ROWS, OTHERS = 9, 7
TILES = Execution(engine="tiles", memory=2**12)


def numbers(count, seed):
    generator = torch.Generator().manual_seed(seed)
    return {
        "ids": torch.randint(-1, 3, (count,), generator=generator),
        "cameras": torch.randint(0, 3, (count,), generator=generator),
        "sets": (torch.rand(count, 4, generator=generator) < 0.3).long(),
        "times": torch.randint(0, 20, (count,), generator=generator) + 2**55,
        "places": torch.randn(count, 2, generator=generator, dtype=torch.float64),
        "guide": torch.randn(count, 3, generator=generator),
        "x": torch.randn(count, 4, generator=generator, dtype=torch.float64).requires_grad_(),
    }


MINE, THEIRS = numbers(ROWS, 0), numbers(OTHERS, 1)
MINE["places"][2, 0] = math.nan


def same(a, b):
    return None if -1 in (a["ids"], b["ids"]) else bool(a["ids"] == b["ids"])


def camera(a, b):
    return bool(a["cameras"] == b["cameras"])


def sets(a, b):
    return bool((a["sets"] & b["sets"]).any()) if a["sets"].any() and b["sets"].any() else None


def soon(a, b):
    return abs(int(a["times"]) - int(b["times"])) <= 6


def near(a, b):
    apart = math.dist(a["places"].tolist(), b["places"].tolist())
    return None if math.isnan(apart) else apart <= 1.2


def alike(a, b):
    return bool(torch.cosine_similarity(a["guide"], b["guide"], dim=0) >= 0.3)


def both(one, two):
    return False if False in (one, two) else None if None in (one, two) else True


def turned(one):
    return None if one is None else not one


def either(one, two):
    return turned(both(turned(one), turned(two)))


def of(function, name, *options):
    """A rule of values, with those of a second set if there is one."""
    return lambda second: function(MINE[name], *options, *([THEIRS[name]] if second else []))


SAME, CAMERA, SETS = of(same_class, "ids"), of(same_class, "cameras"), of(shared_label, "sets")
SOON, NEAR, ALIKE = of(within, "times", 6), of(within, "places", 1.2), of(similar, "guide", 0.3)
RULES = {
    "same_class": (SAME, same),
    "shared_label": (SETS, sets),
    "time": (SOON, soon),
    "place": (NEAR, near),
    "guide": (ALIKE, alike),
    "and": (lambda second: SAME(second) & SOON(second), lambda a, b: both(same(a, b), soon(a, b))),
    "or": (lambda second: SAME(second) | NEAR(second), lambda a, b: either(same(a, b), near(a, b))),
    "not": (lambda second: ~SETS(second), lambda a, b: turned(sets(a, b))),
    "ignoring": (
        lambda second: SAME(second).ignoring(CAMERA(second)),
        lambda a, b: None if camera(a, b) else same(a, b),
    ),
    "false negatives": (
        lambda second: SAME(second).ignoring(ALIKE(second) & ~SAME(second)),
        lambda a, b: None if both(alike(a, b), turned(same(a, b))) else same(a, b),
    ),
}


def table(said, second):
    """What loops over pairs say: 1, 0, and -1 for nothing; nobody is compared with itself."""
    rows, theirs = (
        [{name: values[i] for name, values in side.items()} for i in range(len(side["ids"]))]
        for side in (MINE, THEIRS if second else MINE)
    )
    found = torch.full((len(rows), len(theirs)), -1)
    for (i, a), (j, b) in itertools.product(enumerate(rows), enumerate(theirs)):
        answer = said(a, b) if second or i != j else None
        found[i, j] = -1 if answer is None else int(answer)
    return found


@pytest.mark.parametrize("second", [False, True])
@pytest.mark.parametrize("name", RULES)
def test_a_rule_says_what_loops_over_pairs_say_for_every_tile(name, second):
    rule, said = RULES[name][0](second), table(RULES[name][1], second)
    own = OTHERS if second else ROWS
    relation = RuleRelation(
        rule, ROWS, own, own, first=None if second else 0, begin=0, gathered=lambda x: x, device=torch.device("cpu")
    )
    for size in (1, 4, 9):
        for i, j in itertools.product(range(0, ROWS, size), range(0, own, size)):
            tile = slice(i, min(i + size, ROWS)), slice(j, min(j + size, own))
            positive, negative = relation.masks(*tile)
            assert torch.equal(positive, said[tile] == 1)
            assert torch.equal(negative, said[tile] == 0)
    assert {-1, 0, 1} <= set(said.flatten().tolist()) or name in {"time", "guide"}


def compares_pairs(name):
    return issubclass(losses.registry[name], losses.PairLoss) and losses.registry[name].__module__.startswith("tuplet.")


ONE_SET = ("nt_xent", "decoupled_contrastive")
"""Of a second set they need as many rows."""
BOTH_ENDS = ("lifted_structure", "dynamic_soft_margin")
"""They look at both ends of a pair, of which a matrix says one."""
CLASSES = ("centroid_triplet",)
"""Centres are those of classes, which a rule does not name."""
PAIRS = [name for name in losses.registry if compares_pairs(name) and name not in CLASSES]


def measured(name, relation, second, **how):
    sides = {"references": THEIRS["x"]} if second else {}
    loss = losses.registry[name]().double()
    return loss(MINE["x"], relation=relation, **sides, **how)


@pytest.mark.parametrize("name", [name for name in PAIRS if name not in BOTH_ENDS])
def test_a_loss_under_a_rule_is_that_of_its_pairs_for_every_tiling_and_engine(name):
    """A matrix of pairs goes another way than values do: no half of it stands for the other."""
    for second in (False,) if name in ONE_SET else (False, True):
        rule, said = RULES["ignoring"][0](second), table(RULES["ignoring"][1], second)
        leaves = [MINE["x"], *([THEIRS["x"]] if second else [])]
        truth = measured(name, matrix(said), second)
        for how in ({}, {"tile_size": 5}, {"execution": TILES}):
            assert_same(measured(name, rule, second, **how), truth, *leaves, tolerance=1e-9)
            assert_same(measured(name, matrix(lambda i, j, s=said: s[i, j]), second, **how), truth, *leaves)
        assert truth.item() != 0 or name == "smooth_ap"


@pytest.mark.parametrize("name", BOTH_ENDS)
def test_a_loss_of_both_ends_refuses_a_matrix(name):
    with pytest.raises(LabelError) as refused:
        measured(name, matrix(torch.eye(ROWS, dtype=torch.bool)), second=False)
    assert refused.value.reference == "relation-of-both-ends"


@pytest.mark.parametrize("name", PAIRS)
def test_same_class_is_what_labels_are(name):
    loss = losses.registry[name]().double()
    x, ids = MINE["x"], MINE["ids"]
    assert_same(loss(x, relation=same_class(ids)), loss(x, ids), x, tolerance=1e-9)


def test_a_loss_under_a_rule_is_the_equation():
    said, scores = table(RULES["and"][1], second=False), None
    x = MINE["x"]
    unit = x / x.norm(dim=1, keepdim=True)
    scores, terms = unit @ unit.T / 0.1, []
    for i in range(ROWS):
        wanted, met = (said[i] == 1).nonzero()[:, 0], (said[i] >= 0).nonzero()[:, 0]
        if len(wanted):
            terms.append(torch.logsumexp(scores[i, met], 0) - scores[i, wanted].mean())
    rule = RULES["and"][0](second=False)
    assert_same(losses.supcon(x, relation=rule, temperature=0.1), torch.stack(terms).mean(), x)


def test_a_symmetric_loss_turns_a_rule_round():
    rule, said = RULES["same_class"][0](second=True), table(RULES["same_class"][1], second=True)
    x, y = MINE["x"], THEIRS["x"]
    forth = losses.info_nce(x, y, matrix(said))
    back = losses.info_nce(y, x, matrix(said.T.contiguous()))
    assert_same(losses.info_nce(x, y, rule, symmetric=True), (forth + back) / 2, x, y)


def test_levels_are_a_weighted_mean_and_agree_down_to_each():
    levels = torch.tensor([[0, 0], [0, 1], [0, 0], [1, 0], [1, 0], [1, 1], [-1, -1], [1, 1], [0, 1]])
    deep = torch.where(levels[:, 1] < 0, -1, levels[:, 0] * 2 + levels[:, 1])
    x = MINE["x"]
    truth = (losses.supcon(x, levels[:, 0]) + 3 * losses.supcon(x, deep)) / 4
    for call in (losses.supcon, losses.SupConLoss().double()):
        assert_same(call(x, relation=relations.hierarchy(levels, (1, 3))), truth, x, tolerance=1e-7)


def test_a_taxonomy_is_a_label_distance():
    levels = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
    apart = relations.tree_distance((2.0, 1.0))(levels.double(), levels.double())
    assert apart.tolist() == [[0, 1, 2, 3], [1, 0, 3, 2], [2, 3, 0, 1], [3, 2, 1, 0]]
    x = MINE["x"][:4]
    assert losses.log_ratio(x, levels, label_distance=relations.tree_distance((2.0, 1.0))).item() > 0


def test_the_one_partner_of_each_is_its_positive():
    x, y = MINE["x"][:7], THEIRS["x"]
    assert_same(losses.info_nce(x, y, paired(torch.arange(7))), losses.info_nce(x, y), x, y)


def test_a_function_is_asked_for_no_more_than_a_tile():
    asked = []

    def said(i, j):
        asked.append(i.shape[0] * j.shape[1])
        return (i + j) % 3 == 0

    losses.supcon(MINE["x"], relation=matrix(said), tile_size=12).backward()
    assert max(asked) <= 12 < ROWS * ROWS


REFUSED = {
    "relation-and-labels": [
        lambda x, rule: losses.supcon(x, MINE["ids"], relation=rule),
        lambda x, rule: losses.SupConLoss(queue=FeatureQueue(4, 4)).double()(x, relation=rule),
    ],
    "relation-size": [
        lambda x, rule: losses.supcon(x[:4], relation=rule),
        lambda x, rule: losses.supcon(x, relation=rule, references=THEIRS["x"]),
        lambda x, _: losses.supcon(x, relation=same_class(MINE["ids"], THEIRS["ids"])),
        lambda x, _: losses.supcon(x, relation=matrix(lambda i, _: i == 0)),
        lambda *_: relations.hierarchy(torch.zeros(3, 2).long(), (1.0,)),
    ],
    "relation-direction": [
        lambda x, _: losses.info_nce(x, THEIRS["x"], matrix(torch.ones(ROWS, OTHERS).bool()), symmetric=True)
    ],
    "label-shape": [lambda *_: same_class(torch.zeros(3))],
}


@pytest.mark.parametrize(("reference", "call"), [(key, call) for key, calls in REFUSED.items() for call in calls])
def test_what_a_rule_cannot_mean_is_refused(reference, call):
    with pytest.raises(LabelError) as caught:
        call(MINE["x"], same_class(MINE["ids"]))
    assert caught.value.reference == reference
