"""Numbers that the pages state are those that the library gives."""

import contextlib
import io
import math
import re
from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_digits

from tuplet import evaluation, losses
from tuplet.margin import least_scale, nearest_cosine

DOCS = Path(__file__).parents[2] / "docs"


def page(name: str) -> str:
    return (DOCS / "losses" / f"{name}.md").read_text(encoding="utf-8")


def printed(text: str) -> str:
    """What the first Python of a page prints."""
    torch.manual_seed(0)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(re.search(r"```python\n(.*?)```", text, re.DOTALL)[1], "page", "exec"), {})  # noqa: S102
    return said.getvalue()


def test_the_bound_that_info_nce_prints_is_one():
    """Between 0 and log N; of views that share nothing it said that the information is at least -2.83."""
    bound = float(re.search(r"at least (\S+)", printed(page("info_nce")))[1])
    assert 0 < bound <= math.log(256)


def test_the_first_python_of_the_readme_prints_a_line():
    assert len(printed((DOCS.parent / "README.md").read_text(encoding="utf-8")).splitlines()) == 1


def test_a_margin_beyond_the_papers_bound_can_be_met_by_one_pair_of_classes():
    """The bound 1 - max w_i . w_j = 0.5 is that of features on their weights."""
    weight = torch.tensor([[1.0, 0.0], [0.5, math.sqrt(0.75)]], dtype=torch.float64)
    away = weight - weight.flip(0)
    loss = losses.cosface(away, weight, torch.arange(2), margin=0.95, scale=64.0)
    stated = float(re.search(r"margin of 0\.95\D+(\d\.\d+)", page("cosface"))[1])
    assert round(loss.item(), 2) == stated


@pytest.mark.parametrize(("classes", "dim"), [(3, 2), (5, 2), (4, 3), (6, 8)])
def test_no_weights_and_features_give_all_classes_more_than_the_bound_at_once(classes, dim):
    generator = torch.Generator().manual_seed(classes)
    both = torch.randn(2, 8, classes, dim, generator=generator, dtype=torch.float64).requires_grad_()
    optimizer = torch.optim.Adam([both], lr=0.05)
    own = torch.eye(classes, dtype=torch.bool)
    for step in range(800):
        optimizer.zero_grad()
        weights, features = torch.nn.functional.normalize(both, dim=-1)
        cosines = features @ weights.mT
        leads = (cosines.diagonal(dim1=1, dim2=2)[:, :, None] - cosines)[:, ~own]
        sharpness = 5 + step / 4
        ((-sharpness * leads).logsumexp(1) / sharpness).sum().backward()
        optimizer.step()
    bound = 1 - nearest_cosine(classes, dim)
    assert bound - 0.05 < leads.amin(1).max().item() <= bound + 1e-9  # of eight beginnings the best


def test_below_the_least_scale_one_class_may_reach_the_probability_but_not_all():
    scale = 0.7 * least_scale(10, 0.9)
    weights = -torch.eye(1, 4, dtype=torch.float64).repeat(10, 1)
    weights[0] = -weights[0]  # the others all on the far side
    alone = losses.cosface(weights[:1], weights, torch.tensor([0]), margin=0.0, scale=scale)
    assert alone.neg().exp().item() > 0.9
    generator = torch.Generator().manual_seed(0)
    found = []
    for _ in range(50):
        weights, features = torch.randn(2, 10, 9, generator=generator, dtype=torch.float64)
        found.append(losses.cosface(features, weights, torch.arange(10), margin=0.0, scale=least_scale(10, 0.9)).item())
    simplex = torch.eye(10, dtype=torch.float64) - 0.1
    best = losses.cosface(simplex, simplex, torch.arange(10), margin=0.0, scale=least_scale(10, 0.9)).item()
    assert best == pytest.approx(-math.log(0.9), abs=1e-9)
    assert min(found) > best


@pytest.mark.parametrize(("name", "correlation"), [(name, r) for name in ("cpc", "info_nce") for r in (0.5, 0.7)])
def test_as_many_candidates_as_e_to_the_information_show_the_stated_share_of_it(name, correlation, monkeypatch):
    monkeypatch.syspath_prepend(DOCS)
    figures = pytest.importorskip("figures")
    information = -10 * math.log(1 - correlation**2)
    candidates = round(math.exp(information))
    found = figures._estimate(20, correlation, candidates, torch.Generator().manual_seed(0)) / information
    stated = re.search(r"(\d+) % of I for a correlation of 0.5, and (\d+) % for 0.7", page(name))
    assert 100 * found == pytest.approx(int(stated[1 if correlation == 0.5 else 2]), abs=2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rate", "annealing", "stated"),
    [
        ("sgd", 0.0, r"after 300 steps (\d\.\d+)"),
        ("sgd", None, r"after 300 steps \S+ annealed (\d\.\d+)"),
        ("adam", 0.0, r"only slower \((\d\.\d+)"),
    ],
)
def test_a_softmax_without_annealing_trains_as_its_page_says(rate, annealing, stated):
    digits = load_digits()
    images, labels = torch.from_numpy(digits.data) / 16, torch.from_numpy(digits.target)
    torch.manual_seed(0)
    encoder = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 32)).double()
    options = {} if annealing is None else {"annealing": annealing}
    loss = losses.ASoftmaxLoss(10, 32, margin=4, **options).double()
    weights = [*encoder.parameters(), *loss.parameters()]
    optimizer = torch.optim.Adam(weights, lr=1e-3) if rate == "adam" else torch.optim.SGD(weights, lr=0.1, momentum=0.9)
    for _ in range(300):
        rows = torch.randint(1200, (96,))
        optimizer.zero_grad()
        loss(encoder(images[rows]), labels[rows]).backward()
        optimizer.step()
        loss.advance()
    with torch.no_grad():
        found = evaluation.retrieval(encoder(images[1200:]), labels[1200:], bootstrap=0).values["recall@1"]
    assert found == pytest.approx(float(re.search(stated, page("a_softmax"))[1]), abs=0.05)
