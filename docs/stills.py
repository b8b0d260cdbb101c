"""The still forms of the interactive figures, for paper and readers without scripts, drawn by the losses themselves.

`python docs/stills.py [NAME ...]` writes docs/images/course/NAME.svg.
"""

import math
import sys
from collections.abc import Callable

import matplotlib.pyplot as plt
import numpy as np
import torch
from figures import FAR, FOLDER, INK, NEAR, QUIET, THIRD, draw_bound, main
from matplotlib.figure import Figure

from tuplet import evaluation, losses
from tuplet.margin import Combined, Multiplicative


def contrastive() -> Figure:
    """Loss and gradient of one pair by distance, for the three conventions."""
    figure, (value, force) = plt.subplots(1, 2, figsize=(9, 3.9))
    distances = torch.linspace(0.001, 1.6, 300)
    colours = {"sohn": NEAR, "hadsell": THIRD, "note": FAR}
    for convention, colour in colours.items():
        for same, style in ((True, "-"), (False, "--")):
            pairs = []
            for d in distances:
                x = torch.tensor([[0.0, 0.0], [float(d), 0.0]], dtype=torch.float64, requires_grad=True)
                loss = losses.contrastive(x, torch.tensor([0, 0 if same else 1]), margin=1.0, convention=convention)
                loss.backward()
                pairs.append((loss.item(), x.grad[1].norm().item()))
            for axes, column in ((value, 0), (force, 1)):
                label = f"{convention}, {'same class' if same else 'other class'}"
                # where curves coincide the wider lines show on both sides of the narrower, and through its dashes
                width = {("sohn", True): 6, ("note", True): 3.5}.get((convention, same), 2)
                shade = "#8a2f16" if convention == "note" and not same else colour
                curve = broken([pair[column] for pair in pairs])
                axes.plot(distances, curve, style, color=shade, linewidth=width, label=label)
    value.set(title="The loss of one pair", xlabel="distance", ylabel="loss", ylim=(0, 1.6))
    force.set(title="Its gradient", xlabel="distance", ylabel="norm of the gradient", ylim=(0, 2.4))
    lines, names = value.get_legend_handles_labels()
    for axes, part in ((value, slice(3)), (force, slice(3, None))):
        axes.legend(lines[part], names[part], loc="upper left", bbox_to_anchor=(0, -0.2), ncols=2, fontsize=9)
    return figure


def broken(values: list[float]) -> np.ndarray:
    """A curve that is not drawn across a jump."""
    curve = np.array(values)
    curve[1:][np.abs(np.diff(curve)) > 0.25] = np.nan  # a step of the curves here is below 0.02
    return curve


def triplet() -> Figure:
    """Easy, semi-hard and hard negatives around an anchor, and the loss by selection."""
    figure, (plane, curve) = plt.subplots(1, 2, figsize=(9, 3.8), width_ratios=[1, 1.1])
    near, margin = 1.0, 0.5
    for radius, colour, word in (
        (2.1, "#eef1f4", "easy"),
        (near + margin, "#cfe8e4", "semi-hard"),
        (near, "#f6cfc4", "hard"),
    ):
        plane.add_patch(plt.Circle((0, 0), radius, color=colour, zorder=1))
        plane.text(0, -radius + 0.16, word, ha="center", va="bottom", color=INK, fontsize=10, zorder=3)
    plane.plot([0, near * math.cos(0.6)], [0, near * math.sin(0.6)], color=QUIET, linewidth=1, zorder=2)
    plane.scatter([0, near * math.cos(0.6)], [0, near * math.sin(0.6)], color=[INK, NEAR], s=60, zorder=4)
    plane.text(-0.1, 0.1, "anchor", ha="right", zorder=4)
    plane.text(near * math.cos(0.6) + 0.08, near * math.sin(0.6) + 0.05, "positive", zorder=4)
    plane.set(title="Where a negative can lie", xlim=(-2.2, 2.2), ylim=(-2.2, 2.2), aspect="equal")
    plane.axis("off")
    far = torch.linspace(0.02, 2.1, 400)
    for begin, end, colour in ((0, near, "#f6cfc4"), (near, near + margin, "#cfe8e4"), (near + margin, 2.1, "#eef1f4")):
        curve.axvspan(begin, end, color=colour, linewidth=0, zorder=0)
    for select, colour, width in (("all", "#b6bcc6", 8), ("semihard", NEAR, 2.5), ("hard", FAR, 2.5)):
        values = []
        for d in far:
            x = torch.tensor([[0.0], [near], [-float(d)]], dtype=torch.float64)
            labels, references = torch.tensor([0]), torch.tensor([0, 1])
            loss = losses.triplet(
                x[:1],
                labels,
                references=x[1:],
                reference_labels=references,
                margin=margin,
                select=select,
                geometry="euclidean",
            )
            values.append(loss.item())
        shown = np.array(values)
        if select != "all":  # what is not selected adds nothing
            shown[shown == 0] = np.nan
        curve.plot(far, shown, color=colour, linewidth=width, solid_capstyle="butt", label=select)
    curve.set(title="Loss of a triplet whose positive is at 1", xlabel="distance of the negative", ylabel="loss")
    curve.set(xlim=(0, 2.1), ylim=(-0.04, 1.55))
    curve.legend(title="select")
    return figure


def bound() -> Figure:
    """The estimate of mutual information saturates at log N."""
    figure, axes = plt.subplots(figsize=(5, 3.6))
    draw_bound(axes)
    return figure


MARGINS = {
    "softmax": (Combined(1, 0, 0), QUIET),
    "CosFace 0.35": (Combined(1, 0, 0.35), THIRD),
    "ArcFace 0.5": (Combined(1, 0.5, 0), NEAR),
    "combined 1, 0.3, 0.2": (Combined(1, 0.3, 0.2), "#8d6a9f"),
    "A-Softmax 4": (Multiplicative(4), FAR),
}


def margins() -> Figure:
    """Target logits over the angle, the regions they leave on the circle, and the boundaries in both angles."""
    figure = plt.figure(figsize=(9, 7.4))
    curve = figure.add_subplot(2, 2, 1)
    angle = torch.linspace(0, math.pi, 400, dtype=torch.float64)
    for name, (margin, colour) in MARGINS.items():
        curve.plot(angle.rad2deg(), margin(angle.cos(), angle.sin())[0], color=colour, label=name)
    curve.set(
        title="Target score as a function of the angle",
        xlabel="angle to the target class, degrees",
        ylabel="target score",
        ylim=(-3, 1.05),
    )
    curve.annotate("to −7 at 180", (88, -2.9), xytext=(100, -2.75), color=FAR, fontsize=9)
    curve.legend(fontsize=8)
    circle = figure.add_subplot(2, 2, 2, projection="polar")
    classes = [0.0, math.radians(110)]
    for row, (name, (margin, colour)) in enumerate(MARGINS.items()):
        grid = torch.linspace(0, classes[1], 2000, dtype=torch.float64)
        own = margin(grid.cos(), grid.sin())[0]
        other = (classes[1] - grid).cos()
        reach = float(grid[own >= other].max())  # as far as the own class still wins
        radius = 1 - 0.13 * row
        circle.plot(
            np.linspace(0, reach, 50), [radius] * 50, color=colour, linewidth=6, solid_capstyle="butt", label=name
        )
        circle.plot(
            np.linspace(classes[1] - reach, classes[1], 50), [radius] * 50, color=colour, linewidth=6, alpha=0.45
        )
    circle.plot([0, 0], [0, 1.1], color=INK, linewidth=1)
    circle.plot([classes[1]] * 2, [0, 1.1], color=INK, linewidth=1)
    circle.set(title="Angles won with the margin", ylim=(0, 1.15), yticks=[], thetamax=110)
    circle.set_xticks([0.0, classes[1]], ["class 1", "class 2"])
    for spine in circle.spines.values():
        spine.set_visible(False)
    circle.tick_params(pad=12)
    circle.grid(visible=False)
    plane = figure.add_subplot(2, 2, 3)
    plane.plot([0, 180], [0, 180], color=QUIET, linewidth=1, linestyle=":")
    for name, (margin, colour) in MARGINS.items():
        target = margin(angle.cos(), angle.sin())[0]
        own = angle[target >= -1]
        other = target[target >= -1].clamp(-1, 1).acos()
        plane.plot(own.rad2deg(), other.rad2deg(), color=colour, label=name)
        plane.plot(other.rad2deg(), own.rad2deg(), color=colour, alpha=0.45)
    plane.set(title="Boundaries: class 1 above, class 2 below", xlim=(0, 180), ylim=(0, 180), aspect="equal")
    plane.set(xlabel="angle to class 1, degrees", ylabel="angle to class 2, degrees")
    return figure


WORDS = 12
NOISE_SAMPLES = {1: FAR, 5: THIRD, 25: NEAR, 400: INK}


def nce() -> Figure:
    """With more noise samples the expected gradient of NCE becomes that of the softmax over all words."""
    figure, axes = plt.subplots(figsize=(5, 3.6))
    word = torch.arange(WORDS, dtype=torch.float64)
    data = 1 / (word + 1)
    data = data / data.sum()
    noise = data**0.75 / (data**0.75).sum()
    scores = (-0.35 * (word + 1).log() + 0.5 * (2.1 * word).cos()).log_softmax(0)
    axes.bar(word + 1, scores.exp() - data, color=QUIET, alpha=0.45, width=0.7, label="softmax over all words")
    for place, (samples, colour) in enumerate(NOISE_SAMPLES.items()):
        gradient = expected_nce(scores, data, noise, samples)
        axes.plot(
            word + 1 + 0.12 * (place - 1.5), gradient, "o", color=colour, markersize=5, label=f"NCE, k = {samples}"
        )
    axes.axhline(0, color=QUIET, linewidth=1)
    axes.set(title="With more noise words NCE follows the softmax", xlabel="word, by frequency")
    axes.set(ylabel="gradient of its score")
    axes.legend(fontsize=9)
    return figure


def expected_nce(scores: torch.Tensor, data: torch.Tensor, noise: torch.Tensor, samples: int) -> torch.Tensor:
    """Derivative of the expected loss by every score: each word once as the target and once as noise."""
    bias = scores.clone().requires_grad_()
    one, table = torch.zeros(1, 1, dtype=torch.float64), torch.zeros(len(scores), 1, dtype=torch.float64)
    total = bias.new_zeros(())
    for word in range(len(scores)):
        target, sampled = torch.tensor([word]), torch.full((1, samples), word)
        both = losses.nce(one, table, bias, target, sampled, noise)
        # without noise words the loss knows no k: it enters through the bias
        alone = losses.nce(one, table, bias - math.log(samples), target, sampled[:, :0], noise)
        total = total + data[word] * alone + noise[word] * (both - alone)
    total.backward()
    return bias.grad


Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
TRAINED: dict[str, tuple[Loss, bool]] = {
    "contrastive": (lambda x, y: losses.contrastive(x, y, margin=1.0), False),
    "triplet, all": (lambda x, y: losses.triplet(x, y, margin=0.5), False),
    "triplet, hard only": (lambda x, y: losses.triplet(x, y, margin=0.5, select="hard"), False),
    "N-pair": (lambda x, y: losses.npair(x, y, norm_penalty=0.05), False),
    "SupCon": (lambda x, y: losses.supcon(x, y, temperature=0.1), True),
}


def trained() -> Figure:
    """The same points before training and after 300 steps of Adam under five losses."""
    figure, panels = plt.subplots(2, 3, figsize=(9, 6.2))
    generator = torch.Generator().manual_seed(3)
    labels = torch.arange(24) % 4
    angle = 1.6 * torch.arange(4, dtype=torch.float64)
    centres = 0.35 * torch.stack([angle.cos(), angle.sin()], 1)
    start = centres[labels] + 0.45 * torch.randn(24, 2, dtype=torch.float64, generator=generator)
    _points(panels[0, 0], start, labels, "before")
    for axes, (name, (loss, on_circle)) in zip(panels.flat[1:], TRAINED.items(), strict=True):
        x = start.clone().requires_grad_()
        optimiser = torch.optim.Adam([x], lr=0.02)
        for _ in range(300):
            optimiser.zero_grad()
            loss(x, labels).backward()
            optimiser.step()
        found = torch.nn.functional.normalize(x.detach()) if on_circle else x.detach()
        _points(axes, found, labels, f"{name}, after 300 steps")
    return figure


def _points(axes: plt.Axes, x: torch.Tensor, labels: torch.Tensor, title: str) -> None:
    colours = np.array([NEAR, FAR, THIRD, "#8d6a9f"])
    axes.scatter(*x.T, c=colours[labels], s=28)
    reach = 1.15 * max(1.0, x.abs().max().item())
    axes.set(title=title, xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xticks=[], yticks=[])


def npair() -> Figure:
    """How an anchor's push is shared by its negatives, and how many embeddings a step takes."""
    figure, (share, cost) = plt.subplots(1, 2, figsize=(9, 3.6))
    others = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    one = torch.ones(1, 1, dtype=torch.float64)
    for is_one, colour, name in ((False, NEAR, "one against all (mc)"), (True, FAR, "one against one (ovo)")):
        anchors = torch.cat([one, torch.zeros(9, 1, dtype=torch.float64)])  # the others have no gradient of their own
        references = torch.cat([0.5 * one, others]).requires_grad_()
        losses.npair(anchors, references=references, one_vs_one=is_one).backward()
        pushes = references.grad[1:, 0]
        share.plot(others[:, 0], pushes / pushes.sum(), "o-", color=colour, label=name)
    share.axvline(0.5, color=QUIET, linewidth=1, linestyle="--")
    share.set(
        title="Who takes the push", xlabel="score of a negative; dashed: the positive", ylabel="share of the push"
    )
    share.legend(fontsize=9)
    sizes = 2 ** np.arange(1, 7)
    cost.loglog(sizes, sizes * (sizes + 1), "o-", color=FAR, label="own negatives: N(N + 1)")
    cost.loglog(sizes, 2 * sizes, "o-", color=NEAR, label="shared negatives: 2N")
    cost.set(title="Embeddings in a step", xlabel="classes N in the batch", ylabel="embeddings")
    cost.set_xticks(sizes, [str(size) for size in sizes])
    cost.minorticks_off()
    cost.legend(fontsize=9)
    return figure


GRADED = torch.tensor([57.0, 8, 22, 37, 49, 68, 79, 94, 112], dtype=torch.float64)
BEGIN = torch.tensor([0.7, 1.5, 0.6, 1.2, 0.5, 1.7, 0.9, 1.4], dtype=torch.float64)


def graded() -> Figure:
    """Distances to an anchor by label, after 300 steps of Adam on them."""
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True)
    bins = (GRADED // 30).long()
    objectives: tuple[tuple[str, Callable[[torch.Tensor], torch.Tensor]], ...] = (
        ("Log-ratio", lambda x: losses.log_ratio(x, GRADED / 60, anchors="first")),
        (
            "Triplets on four bins",
            lambda x: losses.triplet(
                x[:1],
                bins[:1],
                references=x[1:],
                reference_labels=bins[1:],
                margin=0.4,
                select="semihard",
            ),
        ),
    )
    for axes, (title, loss) in zip(panels, objectives, strict=True):
        far = BEGIN.clone().requires_grad_()
        optimiser = torch.optim.Adam([far], lr=0.03)
        for _ in range(300):
            optimiser.zero_grad()
            loss(torch.nn.functional.pad(far[:, None], (0, 0, 1, 0))).backward()
            optimiser.step()
        is_near = (bins[1:] == bins[0]) | (title == "Log-ratio")
        axes.scatter(GRADED[1:], BEGIN, facecolors="none", edgecolors=QUIET, label="before")
        axes.scatter(GRADED[1:], far.detach(), c=np.where(is_near, NEAR, FAR), label="after 300 steps", zorder=3)
        axes.plot(GRADED[:1], [0], "o", color=INK, markersize=9)
        axes.set(title=title, xlabel="label, degrees", xlim=(0, 120), ylim=(-0.08, 2.4))
    panels[1].axvspan(30, 60, color="#cfe8e4", linewidth=0, zorder=0)
    panels[0].set_ylabel("distance to the anchor")
    panels[0].legend(fontsize=9)
    return figure


def on_circle(angle: torch.Tensor) -> torch.Tensor:
    """The unit vector of each angle."""
    return torch.stack([angle.cos(), angle.sin()], -1)


def instances() -> Figure:
    """The softmax over a bank by temperature, and the gradient with rows that are old."""
    figure, (share, stale) = plt.subplots(1, 2, figsize=(9, 3.6))
    generator = torch.Generator().manual_seed(5)
    places, ages = torch.rand(2, 12, dtype=torch.float64, generator=generator)
    angles = 2 * math.pi * (torch.arange(12) + 0.6 * places) / 12
    embedding = on_circle(angles[:1] + 0.3)
    for place, (temperature, colour) in enumerate(((0.07, FAR), (0.2, NEAR), (1.0, THIRD))):
        shares = [
            math.exp(
                -losses.instance_discrimination(
                    embedding, on_circle(angles), torch.tensor([j]), temperature=temperature
                )
            )
            for j in range(12)
        ]
        share.bar(np.arange(1, 13) + 0.27 * (place - 1), shares, width=0.27, color=colour, label=f"τ = {temperature}")
    share.set(title="Probability of each row, the first its own", xlabel="row of the bank", ylabel="P(j | f)")
    share.set_xticks(range(1, 13))
    share.legend(fontsize=9)
    ages[0] = 0  # its own row is new
    turns = torch.linspace(0, 90, 31)
    for temperature, colour in ((0.07, FAR), (0.2, NEAR), (1.0, THIRD)):
        found = []
        for turn in turns:
            at = (angles[:1] + 0.3).requires_grad_()
            bank = on_circle(angles + ages * turn.deg2rad())
            losses.instance_discrimination(on_circle(at), bank, torch.tensor([0]), temperature=temperature).backward()
            found.append(at.grad.item())
        stale.plot(turns, np.array(found) - found[0], color=colour, label=f"τ = {temperature}")
    stale.set(title="What old rows hide of the gradient", ylabel="gradient with rows of now − with the bank's")
    stale.set(xlabel="degrees that the network has turned in an epoch")
    stale.legend(fontsize=9)
    return figure


RANKINGS = {"one first, the others last": (1, 10, 11, 12), "mixed": (2, 4, 5, 9), "one miss, then all": (2, 3, 4, 5)}


def ranking() -> Figure:
    """Precision by rank, and what measures make of it."""
    figure, panels = plt.subplots(1, 3, figsize=(9, 3.2), sharey=True)
    ranks = np.arange(1, 13)
    for axes, (title, places) in zip(panels, RANKINGS.items(), strict=True):
        hits = np.isin(ranks, places)
        angle = 0.1 * torch.arange(13)  # the query, and what is nearest to it first
        labels = torch.tensor([0, *np.where(hits, 0, 1)])
        rows = on_circle(angle)
        found = evaluation.retrieval(rows[:1], labels[:1], rows[1:], labels[1:], top=[1], bootstrap=0).values
        axes.axvspan(0.4, 4.5, color="#eef1f4", linewidth=0, zorder=0)
        axes.bar(ranks, hits.cumsum() / ranks, width=0.7, color=np.where(hits, NEAR, QUIET))
        axes.set(
            title=title, xlabel=f"rank\nR@1 {found['recall@1']:.0f}, MAP@R {found['map@r']:.3f}", xticks=ranks[::3]
        )
    panels[0].set_ylabel("precision down to the rank")
    return figure


STILLS: dict[str, Callable[[], Figure]] = {
    "triplet": triplet,
    "contrastive": contrastive,
    "margins": margins,
    "bound": bound,
    "nce": nce,
    "losses": trained,
    "npair": npair,
    "graded": graded,
    "instances": instances,
    "ranking": ranking,
}

if __name__ == "__main__":
    main(sys.argv[1:], STILLS, FOLDER.with_name("course"))
