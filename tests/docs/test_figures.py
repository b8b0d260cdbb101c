"""The interactive figures compute what the library computes; mouse, finger and keyboard move them; no server needed."""

import math
import sys
from pathlib import Path

import pytest
import torch

from tuplet import evaluation, losses
from tuplet.losses import mutual_information_bound
from tuplet.margin import Combined

DOCS = Path(__file__).parents[2] / "docs"
SCRIPTS = DOCS / "javascripts"
sys.path.append(str(DOCS))  # scripts beside their pages, not a package
CLOSE = {"rel": 1e-9, "abs": 1e-9}
PLACES = {
    "triplet": "losses/triplet.html",
    "contrastive": "losses/contrastive.html",
    "margins": "losses/arcface.html",
    "bound": "losses/cpc.html",
    "nce": "losses/nce.html",
    "losses": "losses/index.html",
    "npair": "course/npair.html",
    "graded": "course/graded.html",
    "instances": "course/instances.html",
    "ranking": "course/evaluation.html",
}
pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def formulas(browser):
    """Evaluates JavaScript on a blank page that has the formulas and no site."""
    page = browser.new_page()
    for name in ("formulas", "training"):
        page.add_script_tag(path=SCRIPTS / f"{name}.js")
    yield page.evaluate
    page.close()


def points(seed: int, rows: int = 8) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, 2, generator=generator, dtype=torch.float64)


def same(found, expected) -> None:
    assert torch.tensor(found, dtype=torch.float64).flatten().tolist() == pytest.approx(
        torch.as_tensor(expected, dtype=torch.float64).flatten().tolist(), **CLOSE
    )


@pytest.mark.parametrize("geometry", ["euclidean", "squared_euclidean"])
def test_a_triplet_is_that_of_the_library(formulas, geometry):
    kinds = set()
    for seed in range(30):
        x = points(seed, 3)
        call = "([a, p, n, m, geometry]) => tuplet.formulas.triplet(a, p, n, m, geometry)"
        found = formulas(call, [*x.tolist(), 0.8, geometry])
        x.requires_grad_()
        loss = losses.triplet(x[:1], positives=x[1:2], negatives=x[2:], margin=0.8, geometry=geometry)
        loss.backward()
        same(found["value"], loss.detach())
        same(found["gradients"], x.grad)
        is_selected = {
            kind: losses.triplet(
                x[:1].detach(),
                torch.tensor([0]),
                references=x[1:].detach(),
                reference_labels=torch.tensor([0, 1]),
                margin=0.8,
                select=kind,
                geometry=geometry,
            ).item()
            > 0
            for kind in ("semihard", "hard")
        }
        assert is_selected == {kind: kind == found["kind"] for kind in is_selected}
        kinds.add(found["kind"])
    assert kinds == {"easy", "semihard", "hard"}


@pytest.mark.parametrize("convention", ["sohn", "hadsell", "note"])
@pytest.mark.parametrize("is_same", [True, False])
def test_a_pair_is_that_of_the_library(formulas, convention, is_same):
    for distance in (0.03, 0.5, 0.89, 0.9, 1.4):
        call = "([d, same, m, kind]) => tuplet.formulas.contrastive(d, same, m, kind)"
        found = formulas(call, [distance, is_same, 0.9, convention])
        x = torch.tensor([[0.0, 0.0], [distance, 0.0]], dtype=torch.float64, requires_grad=True)
        loss = losses.contrastive(x, torch.tensor([0, 0 if is_same else 1]), margin=0.9, convention=convention)
        loss.backward()
        same(found["value"], loss.detach())
        same(found["gradient"], x.grad[1, 0])


@pytest.mark.parametrize("margins", [(1, 0, 0), (4, 0, 0), (1, 0.5, 0), (1, 0, 0.35), (1.3, 0.3, 0.2), (2.5, 1.2, 1)])
def test_margins_on_the_circle_are_those_of_the_library(formulas, margins):
    names = dict(zip(("m1", "m2", "m3"), margins, strict=True))
    for seed in range(4):
        x, weight = points(seed, 1), points(seed + 50, 3)
        call = "([x, w, options]) => tuplet.formulas.marginLoss(x, w, 1, options)"
        found = formulas(call, [x[0].tolist(), weight.tolist(), {**names, "scale": 8}])
        x.requires_grad_()
        weight.requires_grad_()
        loss = losses.combined_margin(x, weight, torch.tensor([1]), scale=8.0, **names)
        loss.backward()
        same(found["value"], loss.detach())
        same(found["point"], x.grad[0])
        same(found["weights"], weight.grad)
    angles = torch.linspace(0, math.pi, 9, dtype=torch.float64)
    scores, steep = Combined(*margins)(angles.cos(), angles.sin())
    found = formulas("([all, m]) => all.map((t) => tuplet.formulas.targetScore(t, ...m))", [angles.tolist(), margins])
    same([one["score"] for one in found], scores)
    same([one["steep"] for one in found], steep)


def test_a_boundary_is_where_both_classes_have_the_same_logit(formulas):
    call = "([t, m]) => tuplet.formulas.boundary(t, ...m)"
    for margins in ((4, 0, 0), (1, 0.5, 0), (1, 0, 0.35)):
        other = formulas(call, [0.4, margins])
        own = Combined(*margins)(*(part(torch.tensor(0.4, dtype=torch.float64)) for part in (torch.cos, torch.sin)))[0]
        same(math.cos(other), own)
    assert formulas(call, [3.0, (1, 0, 0.5)]) is None


def test_the_bound_is_that_of_the_librarys_loss(formulas):
    scores = torch.tensor(formulas("() => tuplet.formulas.criticScores(2, 16, 16, 20, 5)"), dtype=torch.float64)
    loss = losses.info_nce(scores, torch.eye(16, dtype=torch.float64), temperature=1.0, geometry="dot")
    found = formulas("() => tuplet.formulas.estimate(2, 16, { rows: 16, seed: 5 })")
    same(found, mutual_information_bound(loss.item(), 16))
    for information in (0.5, 3.0, 7.5):
        curve = formulas(f"() => [1, 4, 7, 10].map((p) => tuplet.formulas.estimate({information}, 2 ** p))")
        assert all(one < min(information, math.log(2**p)) + 0.12 for one, p in zip(curve, (1, 4, 7, 10), strict=True))


def test_noise_contrastive_estimation_is_that_of_the_library(formulas):
    noise = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
    data = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    scores = torch.tensor([-1.0, 0.3, -2.0, 0.8], dtype=torch.float64)
    table, one = torch.zeros(4, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
    call = """([scores, log]) => tuplet.formulas.nce(
        { score: scores[2], word: 2 }, [1, 0, 2].map((word) => ({ score: scores[word], word })), log, 3)"""
    found = formulas(call, [scores.tolist(), noise.log().tolist()])
    same(found, losses.nce(one, table, scores, torch.tensor([2]), torch.tensor([[1, 0, 2]]), noise))
    stills = pytest.importorskip("stills")
    call = "([scores, data, noise]) => tuplet.formulas.expectedNCE(scores, data, noise, 5)"
    same(formulas(call, [scores.tolist(), data.tolist(), noise.tolist()]), stills.expected_nce(scores, data, noise, 5))


@pytest.mark.parametrize("is_one", [False, True])
def test_an_anchor_against_all_negatives_is_that_of_the_library(formulas, is_one):
    x, references = points(1, 5), points(2, 5)
    call = "([a, p, n, one]) => tuplet.formulas.nPair(a, p, n, one)"
    value, anchors, others = 0.0, torch.zeros_like(x), torch.zeros_like(x)
    for i in range(5):
        rest = [j for j in range(5) if j != i]
        found = formulas(call, [x[i].tolist(), references[i].tolist(), references[rest].tolist(), is_one])
        value += found["value"] / 5
        anchors[i] = torch.tensor(found["anchor"], dtype=torch.float64) / 5
        others[i] += torch.tensor(found["positive"], dtype=torch.float64) / 5
        others[rest] += torch.tensor(found["negatives"], dtype=torch.float64) / 5
        same([[push * one for one in x[i].tolist()] for push in found["pushes"]], found["negatives"])
    x.requires_grad_()
    references.requires_grad_()
    loss = losses.npair(x, references=references, one_vs_one=is_one)
    loss.backward()
    same(value, loss.detach())
    same(anchors.tolist(), x.grad)
    same(others.tolist(), references.grad)


def of_one_anchor(distances: torch.Tensor) -> torch.Tensor:
    """An anchor at 0, and others on a line at these distances."""
    return torch.nn.functional.pad(distances[:, None], (0, 0, 1, 0))


def test_log_ratio_of_one_anchor_is_that_of_the_library(formulas):
    far = points(3)[:, 0].abs().add(0.1).requires_grad_()
    labels = torch.tensor([5.0, 3, 9, 4, 5, 7, 1, 2, 8], dtype=torch.float64)  # one equal to the anchor's
    call = "([far, targets]) => tuplet.formulas.logRatio(far, targets)"
    found = formulas(call, [far.tolist(), (labels[1:] - labels[0]).abs().tolist()])
    loss = losses.log_ratio(of_one_anchor(far), labels, anchors="first")
    loss.backward()
    same(found["value"], loss.detach())
    same(found["gradient"], far.grad)
    wanted = formulas(call, [(0.7 * (labels[[1, 2, 3]] - 5).abs()).tolist(), (labels[[1, 2, 3]] - 5).abs().tolist()])
    assert (wanted["value"], wanted["factor"]) == pytest.approx((0, 0.7), abs=1e-6)


def test_triplets_on_bins_are_those_of_the_library(formulas):
    far = torch.tensor([0.5, 0.9, 0.2, 0.6, 1.4, 0.95, 0.1], dtype=torch.float64, requires_grad=True)
    is_positive = torch.tensor([True, True, False, False, False, False, True])
    call = "([far, positive, margin]) => tuplet.formulas.binned(far, positive, margin)"
    found = formulas(call, [far.tolist(), is_positive.tolist(), 0.4])
    x = of_one_anchor(far)
    sides = {"references": x[1:], "reference_labels": (~is_positive).long()}
    loss = losses.triplet(x[:1], torch.tensor([0]), **sides, margin=0.4, select="semihard")
    loss.backward()
    assert loss.item() > 0
    same(found["value"], loss.detach())
    same(found["gradient"], far.grad)


@pytest.mark.parametrize("proximal", [0.0, 0.8])
def test_an_embedding_against_its_bank_is_that_of_the_library(formulas, proximal):
    bank, x = torch.nn.functional.normalize(points(5)), points(6, 1)
    call = "([x, bank, t, proximal]) => tuplet.formulas.instance(x, bank, 2, t, proximal)"
    found = formulas(call, [x[0].tolist(), bank.tolist(), 0.2, proximal])
    x.requires_grad_()
    options = {"temperature": 0.2, "proximal": proximal}
    loss = losses.instance_discrimination(x, bank, torch.tensor([2]), **options)
    loss.backward()
    same(found["value"], loss.detach())
    same(found["gradient"], x.grad[0])
    each = [losses.instance_discrimination(x, bank, torch.tensor([j]), temperature=0.2) for j in range(len(bank))]
    same(found["shares"], torch.stack(each).detach().neg().exp())


def test_a_row_of_the_bank_follows_as_in_the_library(formulas):
    bank, x = torch.nn.functional.normalize(points(5)), points(6, 1)
    module = losses.InstanceDiscriminationLoss(8, 2, noise_samples=None, momentum=0.7).double()
    module.bank.rows.copy_(bank)
    module(x, torch.tensor([2]))
    module.advance()
    call = "([row, x, momentum]) => tuplet.formulas.bankRow(row, x, momentum)"
    same(formulas(call, [bank[2].tolist(), x[0].tolist(), 0.7]), module.bank.rows[2])


@pytest.mark.parametrize("tied", [1, 2, 5, 12])
@pytest.mark.parametrize("ranks", [(1, 4, 5, 9), (10, 11, 12), (2,), (1, 2, 3, 4, 5, 6)])
def test_measures_of_a_ranking_are_those_of_the_library(formulas, ranks, tied):
    hits = [rank in ranks for rank in range(1, 13)]
    angle = torch.cat([torch.zeros(1), torch.arange(1, 13).clamp_min(tied)]).double() / 10
    rows, labels = torch.stack([angle.cos(), angle.sin()], 1), torch.tensor([0] + [1 - hit for hit in hits])
    measures = ("recall", "map@r", "r_precision", "map", "mrr")
    given = rows[:1], labels[:1], rows[1:], labels[1:]
    expected = evaluation.retrieval(*given, top=[3], measures=measures, bootstrap=0).values
    found = formulas("([hits, tied]) => tuplet.formulas.expectedMeasures(hits, 3, tied)", [hits, tied])
    names = {"recall": "recall@3", "mapAtR": "map@r", "rPrecision": "r_precision", "map": "map", "mrr": "mrr"}
    same([found[name] for name in names], [expected[name] for name in names.values()])


LABELS = torch.arange(9) % 3
TRAINED = {
    "contrastive": (0.9, lambda x, m: losses.contrastive(x, LABELS, margin=m)),
    "triplet": (0.5, lambda x, m: losses.triplet(x, LABELS, margin=m)),
    "triplet_easy": (0.5, lambda x, m: losses.triplet(x, LABELS, margin=m, select="easy")),
    "triplet_semihard": (0.5, lambda x, m: losses.triplet(x, LABELS, margin=m, select="semihard")),
    "triplet_hard": (0.5, lambda x, m: losses.triplet(x, LABELS, margin=m, select="hard")),
    "triplet_batch_hard": (0.5, lambda x, m: losses.triplet(x, LABELS, margin=m, select="batch_hard")),
    "npair": (0.05, lambda x, penalty: losses.npair(x, LABELS, norm_penalty=penalty)),
    "supcon": (0.1, lambda x, t: losses.supcon(x, LABELS, temperature=t)),
    "log_ratio": (1e-6, lambda x, eps: losses.log_ratio(x, torch.arange(9.0, dtype=torch.float64) / 8, eps=eps)),
}


@pytest.mark.parametrize("name", TRAINED)
def test_losses_of_the_training_are_those_of_the_library(formulas, name):
    option, loss = TRAINED[name]
    x = points(7, 9)
    given = {"points": x.tolist(), "labels": LABELS.tolist(), "targets": [i / 8 for i in range(9)]}
    found = formulas("([name, set, option]) => tuplet.training.LOSSES[name](set, option)", [name, given, option])
    x.requires_grad_()
    value = loss(x, option)
    value.backward()
    same(found["value"], value.detach())
    same(found["gradient"], x.grad)


@pytest.mark.parametrize(("name", "option"), [("softmax", {}), ("cosface", {"m3": 0.3}), ("arcface", {"m2": 0.4})])
def test_class_weights_of_the_training_are_those_of_the_library(formulas, name, option):
    x, weight = points(3, 9), points(4, 3)
    given = {"points": x.tolist(), "labels": LABELS.tolist(), "weights": weight.tolist()}
    call = "([name, set, option]) => tuplet.training.LOSSES[name](set, option)"
    found = formulas(call, [name, given, next(iter(option.values()), 8)])
    x.requires_grad_()
    weight.requires_grad_()
    value = losses.combined_margin(x, weight, LABELS, scale=8.0, **{"m1": 1.0, "m2": 0.0, "m3": 0.0, **option})
    value.backward()
    same(found["value"], value.detach())
    same(found["gradient"], x.grad)
    same(found["weights"], weight.grad)


@pytest.fixture(scope="module")
def phone(browser, site):
    """A page of the site on a phone, opened from the folder; errors of its scripts fail the test."""
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True)
    page = context.new_page()
    errors = []

    def failed(error) -> None:  # playwright keeps an attribute on the function, which errors.append cannot have
        errors.append(error)

    page.on("pageerror", failed)

    def opened(place: str):
        page.goto((site / place).as_uri())
        assert errors == []
        return page

    yield opened
    context.close()
    assert errors == []


def found(figure) -> str:
    return figure.locator(".tf-found").inner_text()


@pytest.mark.slow
@pytest.mark.parametrize("name", PLACES)
def test_every_control_of_a_figure_answers_to_the_keyboard(phone, name):
    page = phone(PLACES[name])
    figure = page.locator(f"[data-figure={name}]")
    for slider in figure.locator("input").all():
        before = figure.inner_html()
        slider.focus()
        slider.press("ArrowRight")
        assert figure.inner_html() != before
    for grip in figure.locator(".tf-handle").all():
        before = found(figure)
        grip.focus()
        grip.press("ArrowLeft")
        grip.press("Shift+ArrowUp")
        assert found(figure) != before
    for button in figure.locator("button").all():
        button.focus()
        button.press("Enter")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize("name", ["triplet", "margins", "npair", "graded", "instances", "ranking"])
def test_a_point_follows_a_finger(phone, name):
    page = phone(PLACES[name])
    figure = page.locator(f"[data-figure={name}]")
    grip = figure.locator(".tf-handle").first
    grip.scroll_into_view_if_needed()
    box = grip.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    before = found(figure)
    finger = page.context.new_cdp_session(page)
    touch = "Input.dispatchTouchEvent"
    finger.send(touch, {"type": "touchStart", "touchPoints": [{"x": x, "y": y}]})
    finger.send(touch, {"type": "touchMove", "touchPoints": [{"x": x + 40, "y": y + 30}]})
    finger.send(touch, {"type": "touchEnd", "touchPoints": []})
    assert found(figure) != before
    moved = grip.bounding_box()
    assert (moved["x"], moved["y"]) != (box["x"], box["y"])


def test_a_training_in_the_page_lowers_its_loss(phone):
    page = phone(PLACES["losses"])
    figure = page.locator("[data-figure=losses]")
    figure.get_by_role("button").first.press("Enter")
    page.wait_for_function("document.querySelector('[data-figure=losses] .tf-found').innerText.includes('step 300')")
    line = figure.locator("svg").last.locator(".tf-line").get_attribute("d")
    heights = [float(part.split()[1]) for part in line.replace("M", "L").split("L")[1:]]
    assert heights[-1] > heights[0]  # the axis points down the page


@pytest.mark.slow
def test_a_still_figure_stands_in_where_scripts_are_off_and_on_paper(browser, site):
    for name, place in PLACES.items():
        still = f"img[src$='images/course/{name}.svg']"
        context = browser.new_context(java_script_enabled=False)
        page = context.new_page()
        page.goto((site / place).as_uri())
        assert page.locator(still).is_visible()
        context.close()
    page = browser.new_page()
    for name, place in PLACES.items():
        page.goto((site / place).as_uri())
        still, figure = page.locator(f"img[src$='images/course/{name}.svg']"), page.locator(f"[data-figure={name}]")
        for media, expected in (("screen", (False, True)), ("print", (True, False))):
            page.emulate_media(media=media)
            assert (still.is_visible(), figure.is_visible()) == expected, (name, media)
    page.close()


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_in_the_figures(browser, site, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = browser.new_page(color_scheme=scheme)
    serious = []
    for name, place in PLACES.items():
        page.goto((site / place).as_uri())
        response = axe.run(page, context={"include": [[f"[data-figure={name}]"]]}).response
        serious += [
            (name, one["id"], [node["target"] for node in one["nodes"]])
            for one in response["violations"]
            if one["impact"] in ("serious", "critical")
        ]
    page.close()
    assert serious == []
