"""The cases of metrics.json, sent through the public functions of `tuplet.evaluation`."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tuplet import evaluation, losses

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


KINDS: dict[str, Callable[[dict[str, Tensor], dict[str, Any], list[str]], Found]] = {
    "ranking": _ranking,
    "verification": _verification,
    "ndcg": _ndcg,
    "clustering": _clustering,
    "correlation": _correlation,
    "spectrum": _spectrum,
    "hypersphere": _hypersphere,
    "weighted_knn": _weighted_knn,
}


def _tensor(entry: dict[str, Any]) -> Tensor:
    return torch.tensor(entry["data"], dtype=getattr(torch, entry["dtype"])).reshape(entry["shape"])
