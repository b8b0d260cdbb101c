"""The figures of the pages on losses, drawn by the losses themselves: `python docs/figures.py [NAME ...]`."""

import math
import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from tuplet import losses
from tuplet.margin import Combined, Multiplicative

FOLDER = Path(__file__).parent / "images" / "losses"
INK, QUIET, NEAR, FAR, THIRD = "#1f2430", "#6b7280", "#2a9d8f", "#e76f51", "#3d5a80"
STYLE = {
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 12,
    "figure.constrained_layout.use": True,
    "font.size": 10.5,
    "legend.frameon": False,
    "lines.linewidth": 2,
    "svg.fonttype": "path",
    "svg.hashsalt": "tuplet",
    "xtick.color": QUIET,
    "ytick.color": QUIET,
}


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
                curve = _broken([pair[column] for pair in pairs])
                axes.plot(distances, curve, style, color=shade, linewidth=width, label=label)
    value.set(title="The loss of one pair", xlabel="distance", ylabel="loss", ylim=(0, 1.6))
    force.set(title="Its gradient", xlabel="distance", ylabel="norm of the gradient", ylim=(0, 2.4))
    figure.legend(*value.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9)
    return figure


def _broken(values: list[float]) -> np.ndarray:
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


def npair() -> Figure:
    """One anchor against more and more classes at once."""
    figure, axes = plt.subplots(figsize=(6.5, 3.4))
    gap = torch.linspace(-4, 6, 120, dtype=torch.float64)
    for count, colour in ((2, QUIET), (8, THIRD), (64, NEAR), (512, FAR)):
        values = []
        for d in gap:  # the positive's product exceeds that of each of the count - 1 negatives by d
            anchor, positive = torch.ones(1, 1, dtype=torch.float64), d.reshape(1, 1)
            negatives = torch.zeros(1, count - 1, 1, dtype=torch.float64)
            values.append(losses.npair(anchor, references=positive, negatives=negatives).item())
        axes.plot(gap, values, color=colour, label=f"N = {count}")
    axes.set(
        title="With more negatives, the same loss requires a larger score gap",
        xlabel="score of the positive minus score of each negative",
        ylabel="loss",
    )
    axes.legend()
    return figure


def info_nce() -> Figure:
    """How the temperature distributes the repulsive gradient over the negatives."""
    figure, (share, bound) = plt.subplots(1, 2, figsize=(9, 3.6))
    angles = torch.linspace(0.05, math.pi, 60, dtype=torch.float64)
    for temperature, colour in ((0.05, FAR), (0.1, NEAR), (0.5, THIRD)):
        anchor = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
        others = torch.stack([angles.cos(), angles.sin()], 1)
        references = torch.cat([torch.tensor([[math.cos(0.4), -math.sin(0.4)]], dtype=torch.float64), others])
        references.requires_grad_()
        losses.info_nce(anchor, references, temperature=temperature, geometry="dot").backward()
        push = references.grad[1:].norm(dim=1)
        share.plot(angles.rad2deg(), push / push.sum(), color=colour, label=f"temperature {temperature}")
    share.set(
        title="A low temperature concentrates on the hardest",
        xlabel="angle of a negative, degrees",
        ylabel="share of the repulsive gradient",
    )
    share.legend()
    _bound(bound)
    return figure


def cpc() -> Figure:
    """The estimate of mutual information saturates at log N."""
    figure, axes = plt.subplots(figsize=(6.5, 3.8))
    _bound(axes)
    return figure


def _bound(axes: plt.Axes) -> None:
    sizes = [2, 4, 8, 16, 32, 64, 128, 256, 512]
    dims, top = 20, 7.3
    generator = torch.Generator().manual_seed(0)
    for correlation, colour in ((0.5, NEAR), (0.7, THIRD), (0.9, FAR)):
        information = -dims / 2 * math.log(1 - correlation**2)
        found = [_estimate(dims, correlation, size, generator) for size in sizes]
        is_shown = information < top
        where = f"dotted: I = {information:.1f}" if is_shown else f"I = {information:.1f} lies above"
        axes.plot(sizes, found, "o-", color=colour, markersize=4, label=f"log N − L ({where})")
        if is_shown:
            axes.axhline(information, color=colour, linewidth=1.5, linestyle=":")
    axes.plot(sizes, [math.log(size) for size in sizes], "--", color=INK, linewidth=1.2, label="log N")
    axes.set(title="log N − L stays below I and below log N", xlabel="candidates N", ylabel="nats")
    axes.set(ylim=(0, top))
    axes.set_xscale("log", base=2)
    axes.legend(fontsize=8)


def _estimate(dims: int, correlation: float, size: int, generator: torch.Generator) -> float:
    """log N − L under the best critic, the log of the density ratio of correlated Gaussians."""
    total, batches = 0.0, max(4, 2048 // size)
    spread = 1 - correlation**2
    for _ in range(batches):
        c = torch.randn(size, dims, dtype=torch.float64, generator=generator)
        x = correlation * c + math.sqrt(spread) * torch.randn(size, dims, dtype=torch.float64, generator=generator)
        # (2 rho x c - rho^2 x^2) / (2 spread) as one product; what depends on c alone cancels in the softmax
        asked = torch.cat([correlation * c / spread, torch.ones(size, 1, dtype=torch.float64)], 1)
        answers = torch.cat([x, -(correlation**2) * x.square().sum(1, keepdim=True) / (2 * spread)], 1)
        value = losses.info_nce(asked, answers, temperature=1.0, geometry="dot")
        total += losses.mutual_information_bound(value.item(), size)
    return total / batches


def nce() -> Figure:
    """Scores that NCE and negative sampling settle at."""
    figure, axes = plt.subplots(figsize=(6.5, 3.6))
    words = 12
    data = torch.arange(words, 0, -1, dtype=torch.float64) ** 1.2
    data = data / data.sum()
    noise = data**0.75 / (data**0.75).sum()
    for objective, colour, marker in (("nce", NEAR, "o"), ("negative_sampling", FAR, "s")):
        bias = torch.zeros(words, dtype=torch.float64, requires_grad=True)
        optimiser = torch.optim.LBFGS([bias], max_iter=200, tolerance_grad=1e-10)

        def expected(bias: torch.Tensor = bias, objective: str = objective, samples: int = 5) -> torch.Tensor:
            # every word once as target and as noise, weighted by its probability: the expectation, without sampling
            one = torch.zeros(1, 1, dtype=torch.float64)
            table = torch.zeros(words, 1, dtype=torch.float64)
            total = bias.new_zeros(())
            for word in range(words):
                sampled = torch.full((1, samples), word)
                both = losses.nce(one, table, bias, torch.tensor([word]), sampled, noise, objective=objective)
                empty = torch.empty(1, 0, dtype=torch.int64)
                shift = noise if objective == "nce" else None
                offset = math.log(samples) if objective == "nce" else 0.0
                alone = losses.nce(one, table, bias - offset, torch.tensor([word]), empty, shift, objective=objective)
                total = total + data[word] * alone + noise[word] * (both - alone)
            return total

        def closure(
            expected: Callable[[], torch.Tensor] = expected, optimiser: torch.optim.Optimizer = optimiser
        ) -> torch.Tensor:
            optimiser.zero_grad()
            loss = expected()
            loss.backward()
            return loss

        optimiser.step(closure)
        axes.plot(data.log(), bias.detach(), marker, color=colour, label=objective.replace("_", " "))
    axes.plot(data.log(), data.log(), color=QUIET, linewidth=1, label="log probability")
    axes.set(
        title="NCE learns log probabilities, negative sampling does not",
        xlabel="log P(word)",
        ylabel="score at the optimum",
    )
    axes.legend()
    return figure


MARGINS = {
    "softmax": (Combined(1, 0, 0), QUIET),
    "CosFace 0.35": (Combined(1, 0, 0.35), THIRD),
    "ArcFace 0.5": (Combined(1, 0.5, 0), NEAR),
    "combined 1, 0.3, 0.2": (Combined(1, 0.3, 0.2), "#8d6a9f"),
    "A-Softmax 4": (Multiplicative(4), FAR),
}


def margins() -> Figure:
    """Target logits over the angle, and the regions they leave on the circle."""
    figure = plt.figure(figsize=(9, 4))
    curve = figure.add_subplot(1, 2, 1)
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
    circle = figure.add_subplot(1, 2, 2, projection="polar")
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
    circle.set(title="Angles classified with the margin, two classes", ylim=(0, 1.15), yticks=[], thetamax=110)
    circle.set_xticks([0.0, classes[1]], ["class 1", "class 2"])
    for spine in circle.spines.values():
        spine.set_visible(False)
    circle.tick_params(pad=12)
    circle.grid(visible=False)
    return figure


def log_ratio() -> Figure:
    """Distances follow label distances, where a ranking loss only needs their order."""
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True)
    targets = torch.linspace(0, 1, 24, dtype=torch.float64)
    generator = torch.Generator().manual_seed(1)
    start = 0.3 * torch.randn(24, 2, dtype=torch.float64, generator=generator)
    bins = (targets * 4).long().clamp_max(3)
    trained = {
        "log-ratio": lambda x: losses.log_ratio(x, targets),
        "triplet loss on labels in four bins": lambda x: losses.triplet(x, bins, margin=0.2, geometry="euclidean"),
    }
    for axes, (name, loss) in zip(panels, trained.items(), strict=True):
        x = start.clone().requires_grad_()
        optimiser = torch.optim.Adam([x], lr=0.02)
        for _ in range(600):
            optimiser.zero_grad()
            loss(x).backward()
            optimiser.step()
        found = torch.cdist(x.detach(), x.detach())
        upper = torch.triu_indices(24, 24, 1)
        wanted = (targets[:, None] - targets).abs()[upper[0], upper[1]]
        found = found[upper[0], upper[1]]
        axes.scatter(wanted, found / found.max(), s=9, color=NEAR if "log" in name else FAR)
        axes.set(title=f"After {name}", xlabel="label distance")
    panels[0].set_ylabel("embedding distance / largest")
    return figure


def instance() -> Figure:
    """The noise form approaches the exact softmax over the bank as the noise grows."""
    figure, axes = plt.subplots(figsize=(6.5, 3.6))
    generator = torch.Generator().manual_seed(0)
    size, rows = 2000, 8
    bank = torch.nn.functional.normalize(torch.randn(size, 16, dtype=torch.float64, generator=generator))
    positions = torch.arange(rows)
    noisy = bank[:rows] + 0.2 * torch.randn(rows, 16, dtype=torch.float64, generator=generator)
    exact = noisy.clone().requires_grad_()
    losses.instance_discrimination(exact, bank, positions, temperature=0.2).backward()
    log_z = ((torch.nn.functional.normalize(noisy) @ bank.T) / 0.2).logsumexp(1).mean()
    sizes = [1, 4, 16, 64, 256, 1024, 4096]
    found = []
    for samples in sizes:
        angles = []
        for _ in range(20):
            x = noisy.clone().requires_grad_()
            noise = torch.randint(size, (rows, samples), generator=generator)
            losses.instance_discrimination(x, bank, positions, noise, log_z, temperature=0.2).backward()
            angles.append(torch.nn.functional.cosine_similarity(x.grad.flatten(), exact.grad.flatten(), 0).item())
        found.append((np.mean(angles), np.min(angles), np.max(angles)))
    mean, low, high = np.array(found).T
    axes.fill_between(sizes, low, high, color=NEAR, alpha=0.2, label="20 samples, smallest to largest")
    axes.plot(sizes, mean, "o-", color=NEAR, markersize=4, label="mean")
    axes.set(
        title="With more noise samples the gradient approaches the exact one",
        xlabel="noise samples m",
        ylabel="cosine with the exact gradient",
    )
    axes.set_xscale("log", base=4)
    axes.legend()
    return figure


def forces() -> Figure:
    """Gradient of a positive and of a negative pair, by its cosine."""
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.8))
    cosines = torch.linspace(-0.6, 0.98, 160, dtype=torch.float64)
    for axes, moved, fixed in ((panels[0], 0, 0.3), (panels[1], 1, 0.6)):
        for name, (loss, colour) in PAIR_LOSSES.items():
            gradients = [_force(loss, float(cosine), moved, fixed) for cosine in cosines]
            axes.plot(cosines, gradients, color=colour, label=name)
    panels[0].set(title="Gradient of the positive (a negative at 0.3)", xlabel="cosine", ylabel="|dL / d cosine|")
    panels[1].set(title="Gradient of the negative (a positive at 0.6)", xlabel="cosine")
    panels[0].set(yscale="symlog", ylim=(-0.02, 120))
    panels[1].set(yscale="symlog", ylim=(-0.02, 120))
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
    return figure


PAIR_LOSSES: dict[str, tuple[Callable[..., torch.Tensor], str]] = {
    "multi_similarity": (losses.multi_similarity, NEAR),
    "nca, scale 4": (lambda *given, **sides: losses.nca(*given, scale=4.0, **sides), THIRD),
    "circle": (losses.circle, FAR),
    "siglip": (losses.siglip, "#8d6a9f"),
    "proxy_anchor": (lambda anchor, _, **sides: _by_proxy(anchor, **sides), "#b08a00"),
    "supcon, temperature 0.1": (losses.supcon, QUIET),
    "generalized_lifted": (losses.generalized_lifted, "#3f7f7a"),
    "fast_ap": (losses.fast_ap, "#c2578a"),
    "smooth_ap, temperature 0.1": (
        lambda *given, **sides: losses.smooth_ap(*given, temperature=0.1, **sides),
        "#7a6a4f",
    ),
    "proxy_nca": (lambda anchor, labels, *, references, **_: losses.proxy_nca(anchor, references, labels), "#5b6fb5"),
}


def _by_proxy(anchor: torch.Tensor, *, references: torch.Tensor, reference_labels: torch.Tensor) -> torch.Tensor:
    """The anchor as the proxy of class 0; that of class 1 is at right angles to all."""
    room = torch.nn.functional.pad(references, (0, 1))
    proxies = torch.cat([torch.nn.functional.pad(anchor, (0, 1)), torch.tensor([[0.0, 0.0, 1.0]]).double()])
    return losses.proxy_anchor(room, proxies, reference_labels)


def _force(loss: Callable[..., torch.Tensor], cosine: float, moved: int, fixed: float) -> float:
    """|dL/ds| of one of an anchor's two pairs, a positive and a negative."""
    cosines = [fixed, fixed]
    cosines[moved] = cosine
    angles = torch.tensor(cosines, dtype=torch.float64).acos().requires_grad_()
    references = torch.stack([angles.cos(), angles.sin()], 1)
    anchor = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    sides = {"references": references, "reference_labels": torch.tensor([0, 1])}
    loss(anchor, torch.tensor([0]), **sides).backward()
    return float((angles.grad / angles.detach().sin()).abs()[moved])


FIGURES: dict[str, Callable[[], Figure]] = {
    draw.__name__: draw
    for draw in (contrastive, triplet, npair, info_nce, cpc, nce, margins, log_ratio, instance, forces)
}


def main(names: list[str]) -> None:
    """Draw the figures of these names, or all."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    with mpl.rc_context(STYLE):
        for name in names or FIGURES:
            figure = FIGURES[name]()
            figure.savefig(FOLDER / f"{name}.svg", metadata={"Date": None})
            plt.close(figure)
            print(FOLDER / f"{name}.svg")


if __name__ == "__main__":
    main(sys.argv[1:])
