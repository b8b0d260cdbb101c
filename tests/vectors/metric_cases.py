"""The cases of metrics.json, sent through the public functions of `tuplet.evaluation` and `tuplet.losses`."""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tuplet import evaluation, losses
from tuplet.margin import least_scale
from tuplet.sampling.windows import Subsample, keep_probability

Found = dict[str, float | None]


def run_case(case: dict[str, Any]) -> Found:
    """The numbers that a case expects, by its names, as tuplet computes them."""
    inputs = {name: _tensor(entry) for name, entry in case["inputs"].items()}
    return KINDS[case["kind"]](inputs, case["params"], list(case["expected"]))


def _ranking(inputs: dict[str, Tensor], params: dict[str, Any], names: list[str]) -> Found:
    assert params["self"] == "excluded"
    result = evaluation.retrieval(
        inputs["x"],
        inputs["labels"],
        geometry=params["distance"],
        ties=params["ties"],
        top=params["Ks"],
        average_precision=True,
        bootstrap=0,
    )
    found = {**result.values, **result.counts}
    return {name: float(found[name]) for name in names}


def _verification(inputs: dict[str, Tensor], params: dict[str, Any], names: list[str]) -> Found:
    far = tuple(float(name.partition("=")[2]) for name in names if name.startswith("tar@"))
    result = evaluation.verification_from_scores(inputs["score"], inputs["same"], far=far)
    thresholds = {f"threshold@{name}": value for name, value in result.thresholds.items()}
    found = {**result.values, **thresholds, "ap_grouped": result.values["average_precision"]}
    return {name: found[name] for name in names}


def _ndcg(inputs: dict[str, Tensor], params: dict[str, Any], names: list[str]) -> Found:
    top = [int(name.partition("@")[2]) for name in names]
    found = evaluation.ndcg(inputs["gain"][None], inputs["score"][None], top)
    return {name: float(found[name]) for name in names}


def _clustering(inputs: dict[str, Tensor], params: dict[str, Any], names: list[str]) -> Found:
    found = evaluation.clustering_agreement(inputs["a"], inputs["b"])
    return {name: found[name] for name in names}


def _correlation(inputs: dict[str, Tensor], params: dict[str, Any], names: list[str]) -> Found:
    found = evaluation.rank_correlation(inputs["u"], inputs["v"])
    return {name: found[name.removesuffix("_b")] for name in names}


def _spectrum(inputs: dict[str, Tensor], params: dict[str, Any], names: list[str]) -> Found:
    found = evaluation.health(inputs["x"], centered=params["centered"]).values
    return {name: found[name] for name in names}


def _hypersphere(inputs: dict[str, Tensor], params: dict[str, Any], names: list[str]) -> Found:
    pairs = torch.arange(len(inputs["x"])) // 2  # rows (0,1), (2,3), ...
    found = evaluation.health(inputs["x"], pairs).values
    return {name: found[name] for name in names}


def _weighted_knn(inputs: dict[str, Tensor], params: dict[str, Any], names: list[str]) -> Found:
    result = evaluation.knn(
        inputs["query"],
        torch.zeros(len(inputs["query"]), dtype=torch.int64),
        inputs["bank"],
        inputs["bank_labels"],
        neighbours=params["k"],
        temperature=params["tau"],
        bootstrap=0,
    )
    return {name: float(result.predictions[int(name.removeprefix("pred_"))]) for name in names}


def _scalars(inputs: dict[str, Tensor], params: dict[str, Any], names: list[str]) -> Found:
    return {name: closed_form(name) for name in names}


def closed_form(text: str) -> float:
    """A number by its formula and arguments, such as `cosface_s(C=1000,P=.99)`."""
    name, mark, arguments = text.partition("(")
    pairs = [pair.partition("=") for pair in arguments.removesuffix(")").split(",")]
    if name not in CLOSED_FORMS or not mark:
        raise ValueError(f"{text}: no such closed form; known are {', '.join(CLOSED_FORMS)}")
    return CLOSED_FORMS[name](**{key.strip(): Fraction(value.strip()) for key, _, value in pairs})


def _mutual_information(d: Fraction, rho: Fraction) -> float:
    """The truth that a bound on mutual information is held against; no part of tuplet computes it."""
    return -float(d) / 2 * math.log1p(-float(rho**2))


def _npair_floor(N: Fraction) -> float:  # the vector file's name
    """The least that unit vectors can reach: each positive equal to its anchor, its own negatives opposite."""
    unit = torch.ones(1, 1, dtype=torch.float64)
    return float(losses.npair(unit, references=unit, negatives=-unit.expand(1, int(N) - 1, 1)))


def _cosface_scale(C: Fraction, P: Fraction) -> float:  # the vector file's names
    return least_scale(int(C), float(P))


def _annealing(**step: Fraction) -> float:
    loss = losses.ASoftmaxLoss(2, 2)
    loss.steps.fill_(int(step["iter"]))
    return loss.present_annealing()


def _keep(formula: Subsample) -> Callable[..., float]:
    def kept(f: Fraction, t: Fraction) -> float:
        counts = np.array([f.numerator, f.denominator - f.numerator])
        return float(keep_probability(counts, float(t), formula)[0])

    return kept


CLOSED_FORMS: dict[str, Callable[..., float]] = {
    "mi_gaussian": _mutual_information,
    "npair_floor_unit_norm": _npair_floor,
    "cosface_s": _cosface_scale,
    "asoftmax_lambda": _annealing,
    "subsample_keep_paper": _keep("paper"),
    "subsample_keep_word2vec_c": _keep("word2vec_c"),
}
"""Each found by the part it is about, from its arguments as exact fractions."""

KINDS: dict[str, Callable[[dict[str, Tensor], dict[str, Any], list[str]], Found]] = {
    "ranking": _ranking,
    "verification": _verification,
    "ndcg": _ndcg,
    "clustering": _clustering,
    "correlation": _correlation,
    "spectrum": _spectrum,
    "hypersphere": _hypersphere,
    "weighted_knn": _weighted_knn,
    "scalars": _scalars,
}


def _tensor(entry: dict[str, Any]) -> Tensor:
    return torch.tensor(entry["data"], dtype=getattr(torch, entry["dtype"])).reshape(entry["shape"])
