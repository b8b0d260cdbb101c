"""The figures of the pages on losses, drawn by the losses themselves: `python docs/figures.py [NAME ...]`."""

import io
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch

mpl.use("Agg")
import matplotlib.pyplot as plt
from draw import MARK, outstanding, themed
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tuplet import losses

FOLDER = Path(__file__).parent / "images" / "losses"
INK, QUIET, NEAR, FAR, THIRD = "#1f2430", "#6b7280", "#2a9d8f", "#e76f51", "#3d5a80"
STYLE = {
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 12,
    "figure.constrained_layout.use": True,
    "font.size": 10.5,
    "legend.frameon": False,
    "lines.linewidth": 2,
    "svg.fonttype": "path",
    "svg.hashsalt": "tuplet",
    "text.color": INK,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
}


def npair() -> Figure:
    """One anchor against more and more classes at once."""
    figure, axes = plt.subplots(figsize=(5, 3.4))
    gap = torch.linspace(-4, 6, 120, dtype=torch.float64)
    for count, colour in ((2, QUIET), (8, THIRD), (64, NEAR), (512, FAR)):
        values = []
        for d in gap:  # the positive's product exceeds that of each of the count - 1 negatives by d
            anchor, positive = torch.ones(1, 1, dtype=torch.float64), d.reshape(1, 1)
            negatives = torch.zeros(1, count - 1, 1, dtype=torch.float64)
            values.append(losses.npair(anchor, references=positive, negatives=negatives).item())
        axes.plot(gap, values, color=colour, label=f"N = {count}")
    axes.set(
        title="More negatives: a larger gap for the same loss",
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
        title="Low temperatures weigh the hardest",
        xlabel="angle of a negative, degrees",
        ylabel="share of the repulsive gradient",
    )
    share.legend()
    draw_bound(bound)
    return figure


def draw_bound(axes: plt.Axes) -> None:
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
    figure, axes = plt.subplots(figsize=(5, 3.5))
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
        title="Only NCE learns log probabilities",
        xlabel="log P(word)",
        ylabel="score at the optimum",
    )
    axes.legend()
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
    figure, axes = plt.subplots(figsize=(5, 3.5))
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
        title="More noise samples: nearer to the gradient",
        xlabel="noise samples m",
        ylabel="cosine with the exact gradient",
    )
    axes.set_xscale("log", base=4)
    axes.legend()
    return figure


def _broken(values: list[float]) -> np.ndarray:
    """A curve that is not drawn across a jump."""
    curve = np.array(values)
    curve[1:][np.abs(np.diff(curve)) > 0.25] = np.nan  # a step of the curves here is below it
    return curve


def decoupled() -> Figure:
    """Gradient of the positive and of all negatives by how near the positive is, with and without it in the sum."""
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.6))
    cosines = torch.linspace(-0.2, 0.99, 120, dtype=torch.float64)
    kinds = {
        "nt_xent": (losses.nt_xent, QUIET),
        "decoupled_contrastive": (losses.decoupled_contrastive, NEAR),
    }
    for name, (loss, colour) in kinds.items():
        found = np.array([_of_both(loss, float(cosine)) for cosine in cosines])
        for axes, column in zip(panels, found.T, strict=True):
            axes.plot(cosines, column, color=colour, label=name)
    panels[0].set(title="Gradient of the positive", xlabel="cosine of the positive", ylabel="|dL / d cosine|")
    panels[1].set(title="Gradient of its negatives, together", xlabel="cosine of the positive")
    panels[0].legend()
    return figure


def _of_both(loss: Callable[..., torch.Tensor], cosine: float) -> tuple[float, float]:
    """|dL/ds| of an anchor's positive, and the sum of those of its 15 negatives; by the row of the anchor alone."""
    angles = torch.tensor([math.acos(cosine), *np.linspace(1.2, 1.9, 15)], dtype=torch.float64).requires_grad_()
    rows = torch.cat([torch.tensor([[1.0, 0.0]], dtype=torch.float64), torch.stack([angles.cos(), angles.sin()], 1)])
    weights = torch.zeros(len(rows), dtype=torch.float64)
    weights[0] = 1
    loss(rows, torch.tensor([0, 0, *range(1, 16)]), weights=weights, temperature=0.1).backward()
    by = (angles.grad / angles.detach().sin()).abs()
    return float(by[0]), float(by[1:].sum())


def scored() -> Figure:
    """Similarity of the sides of a pair by their angle, and its derivative: the cosine, and AnglE's."""
    figure, (value, force) = plt.subplots(1, 2, figsize=(9, 3.6))
    angles = torch.linspace(0, math.pi, 300, dtype=torch.float64, requires_grad=True)
    zero = torch.zeros_like(angles)
    sides = torch.stack([1 + zero, zero], 1), torch.stack([angles.cos(), -angles.sin()], 1)
    for loss, name, colour in ((losses.CoSENTLoss(), "cosent", NEAR), (losses.AnglELoss(), "angle", FAR)):
        similarity = loss.similarity(*sides)
        (by,) = torch.autograd.grad(similarity.sum(), angles, retain_graph=True)
        value.plot(angles.detach(), similarity.detach(), color=colour, label=name)
        force.plot(angles.detach(), _broken(by.abs().tolist()), color=colour, label=name)
    value.set(title="Similarity of two sides", xlabel="angle between them", ylabel="s")
    force.set(title="How fast it changes", xlabel="angle between them", ylabel="|ds / d angle|")
    value.legend()
    return figure


def heads() -> Figure:
    """Gradient of the own class and of the nearest other one, by the angle to the own class."""
    figure, panels = plt.subplots(1, 2, figsize=(9, 4.2))
    angles = torch.linspace(0.05, 2.6, 120, dtype=torch.float64)
    for name, (loss, colour) in HEADS.items():
        found = np.array([_of_head(loss, float(angle)) for angle in angles])
        for axes, column in zip(panels, found.T, strict=True):
            axes.plot(angles.rad2deg(), column, color=colour, label=name)
    panels[0].set(title="Gradient of the own class", ylabel="|dL / d angle|", yscale="symlog")
    panels[1].set(title="Gradient of the nearest other class", yscale="symlog")
    for axes in panels:
        axes.set(xlabel="angle to the own class, degrees")
    _name_below(panels)
    return figure


def _number(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


HEADS: dict[str, tuple[Callable[..., torch.Tensor], str]] = {
    "arcface": (lambda *given: losses.arcface(*given, scale=16.0), QUIET),
    "curricularface, t = 0.6": (lambda *given: losses.curricularface(*given, _number(0.6), scale=16.0), NEAR),
    "adaface, low quality": (lambda *given: losses.adaface(*given, _number(2.0), _number(0.1), scale=16.0), FAR),
    "adaface, high quality": (lambda *given: losses.adaface(*given, _number(0.5), _number(0.1), scale=16.0), "#c2578a"),
    "magface, small norm": (lambda *given: losses.magface(*given, scale=16.0), THIRD),
    "elasticface, a margin of 0.7": (
        lambda *given: losses.elasticface(*given, _number(0.7).expand(1), scale=16.0),
        "#8d6a9f",
    ),
    "uniface": (lambda *given: losses.uniface(*given, _number(math.log(40)), scale=16.0), "#b08a00"),
    "p2sgrad": (losses.p2sgrad, "#3f7f7a"),
    "soft_triple, one center": (lambda *given: losses.soft_triple(*given, centers=1, penalty=0.0), "#7a6a4f"),
}


def _of_head(loss: Callable[..., torch.Tensor], angle: float) -> tuple[float, float]:
    """|dL / d angle| of the own class weight, and of one at 70 degrees; two others are at right angles."""
    turns = torch.tensor([angle, math.radians(70)], dtype=torch.float64, requires_grad=True)
    example = torch.tensor([[1.0, 0.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
    own, other = (
        sum(part * torch.eye(5, dtype=torch.float64)[at] for part, at in ((turn.cos(), 0), (turn.sin(), axis)))
        for turn, axis in zip(turns, (1, 2), strict=True)
    )
    weight = torch.stack([own, other, *torch.eye(5, dtype=torch.float64)[3:]])
    (by,) = torch.autograd.grad(loss(example, weight, torch.tensor([0])), turns)
    return float(by[0].abs()), float(by[1].abs())


def correlations() -> Figure:
    """Loss of one feature by its standard deviation, and of a correlation of two features."""
    figure, (deviation, correlation) = plt.subplots(1, 2, figsize=(9, 3.6))
    plain = torch.randn(200, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    both = torch.linalg.qr(plain - plain.mean(0))[0] * math.sqrt(199)  # uncorrelated, of variance 1
    spreads = torch.linspace(0, 1.5, 60, dtype=torch.float64)
    variance = {"invariance": 0.0, "covariance": 0.0, "variance": 1.0}
    deviation.plot(
        spreads,
        [losses.vicreg(both[:, :1] * s, both[:, :1] * s, **variance) for s in spreads],
        color=NEAR,
        label="vicreg",
    )
    angles = torch.linspace(-1, 1, 81, dtype=torch.float64)
    mixed = [torch.stack([both[:, 0], r * both[:, 0] + (1 - r**2).clamp_min(0).sqrt() * both[:, 1]], 1) for r in angles]
    covariance = {"invariance": 0.0, "covariance": 1.0, "variance": 0.0}
    correlation.plot(
        angles, [losses.vicreg(x, x, **covariance) for x in mixed], color=NEAR, label="vicreg, two features"
    )
    own = [losses.barlow_twins(both[:, :1], x[:, 1:]) for x in mixed]
    correlation.plot(angles, own, color=FAR, label="barlow_twins, a feature and itself")
    deviation.set(title="The variance term of a feature", xlabel="its standard deviation", ylabel="loss")
    correlation.set(title="The term of a correlation", xlabel="correlation", ylabel="loss")
    correlation.legend(fontsize=9)
    return figure


def forces() -> Figure:
    """Gradient of a positive and of a negative pair, by its cosine."""
    return _forces(PAIR_LOSSES)


def forces_of_pairs() -> Figure:
    """The same of losses with boundaries, slacks, ranks and ends of pairs."""
    return _forces(MORE_PAIR_LOSSES)


def _forces(shown: dict[str, tuple[Callable[..., torch.Tensor], str]]) -> Figure:
    figure, panels = plt.subplots(1, 2, figsize=(9, 4.1))
    cosines = torch.linspace(-0.6, 0.98, 160, dtype=torch.float64)
    for axes, moved, fixed in ((panels[0], 0, 0.3), (panels[1], 1, 0.6)):
        for name, (loss, colour) in shown.items():
            gradients = [_force(loss, float(cosine), moved, fixed) for cosine in cosines]
            axes.plot(cosines, gradients, color=colour, label=name)
    panels[0].set(title="Gradient of the positive (a negative at 0.3)", xlabel="cosine", ylabel="|dL / d cosine|")
    panels[1].set(title="Gradient of the negative (a positive at 0.6)", xlabel="cosine")
    panels[0].set(yscale="symlog", ylim=(-0.02, 120))
    panels[1].set(yscale="symlog", ylim=(-0.02, 120))
    _name_below(panels)
    return figure


def _name_below(panels: Sequence[Axes]) -> None:
    """Half of the names under each panel, so that each can stand alone; all is marked by name for `outstanding`."""
    lines, names = panels[0].get_legend_handles_labels()
    half = (len(names) + 1) // 2
    for panel, part in enumerate((slice(half), slice(half, None))):
        axes = panels[panel]
        legend = axes.legend(lines[part], names[part], loc="upper left", bbox_to_anchor=(0, -0.2), ncols=2, fontsize=8)
        groups = {"line": axes.lines, "key": legend.get_lines(), "word": legend.get_texts()}
        for kind, artists in groups.items():
            for place, (artist, name) in enumerate(zip(artists, names if kind == "line" else names[part], strict=True)):
                artist.set_gid(f"{MARK}{name.partition(',')[0]}-{kind}-{panel}-{place}")


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


MORE_PAIR_LOSSES: dict[str, tuple[Callable[..., torch.Tensor], str]] = {
    "margin": (losses.margin, NEAR),
    "ranked_list": (losses.ranked_list, FAR),
    "tuplet_margin": (losses.tuplet_margin, THIRD),
    "angular": (losses.angular, "#8d6a9f"),
    "histogram, 10 bins": (lambda *given, **sides: losses.histogram(*given, bins=10, **sides), "#b08a00"),
    "pnp, temperature 0.1": (lambda *given, **sides: losses.pnp(*given, temperature=0.1, **sides), QUIET),
    "threshold_consistent_margin": (losses.threshold_consistent_margin, "#3f7f7a"),
    "lifted_structure": (losses.lifted_structure, "#c2578a"),
    "centroid_triplet": (losses.centroid_triplet, "#7a6a4f"),
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
    function.__name__: function
    for function in (
        *(npair, info_nce, nce, log_ratio, instance),
        *(decoupled, scored, heads, correlations, forces, forces_of_pairs),
    )
}


def save(figure: Figure, path: Path) -> None:
    """As SVG that is legible on light and on dark pages; the same bytes for the same figure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None}, transparent=True)
    plt.close(figure)
    path.write_text(outstanding(themed(text.getvalue())), encoding="utf-8")
    print(path)


def main(names: list[str], figures: dict[str, Callable[[], Figure]], folder: Path) -> None:
    """Draw the figures of these names, or all."""
    torch.set_num_threads(1)
    with mpl.rc_context(STYLE):
        for name in names or figures:
            save(figures[name](), folder / f"{name}.svg")


if __name__ == "__main__":
    main(sys.argv[1:], FIGURES, FOLDER)
