"""The proof that the oracles are right: they give value, gradients and counts of every reference case."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import oracles

FOLDER = Path(__file__).parents[1] / "vectors" / "data"
DTYPES = {"float64": torch.float64, "int64": torch.int64}


def _cases() -> list[Any]:
    found = []
    for path in sorted(FOLDER.glob("*.json")):
        file = json.loads(path.read_text())
        if file["schema"] == "tuplet-vectors/1":
            found += [pytest.param(file, case, id=f"{file['loss']}-{case['name']}") for case in file["cases"]]
    return found


def _tensor(entry: dict[str, Any]) -> Tensor:
    return torch.tensor(entry["data"], dtype=DTYPES[entry["dtype"]]).reshape(entry["shape"])


def _named(tensors: dict[str, Tensor], *names: str) -> dict[str, Tensor]:
    return {name: tensors[name] for name in names if name in tensors}


SETS = ("weights", "references", "reference_labels", "queue", "queue_labels")
MEANS = {"mean": "all", "mean_all": "all", "mean_active": "active", "sum": "all"}


def _temperature(t: dict[str, Tensor], p: dict[str, Any]) -> dict[str, Any]:
    return {"temperature": t.get("tau", p.get("tau"))}


def _cosine_or_dot(p: dict[str, Any]) -> dict[str, str]:
    return {"geometry": "cosine" if p["normalize"] else "dot"}


def _euclidean(p: dict[str, Any]) -> dict[str, str]:
    return {"geometry": "squared_euclidean" if p["squared"] else "euclidean"}


def _contrastive(t: dict[str, Tensor], p: dict[str, Any]) -> oracles.Truth:
    geometry = {"geometry": p["geometry"]} if "geometry" in p else {}
    options = {"margin": p["margin"], "convention": p["variant"], "mean_over": MEANS[p["reduction"]]}
    return oracles.contrastive(t["x"], t["labels"], **options, **geometry, **_named(t, *SETS))


def _triplet_all(t: dict[str, Tensor], p: dict[str, Any]) -> oracles.Truth:
    options = {"hard_offset": 0.0}  # what a case that lists none has: ties are not hard
    options |= {name: p[name] for name in ("margin", "power", "soft", "hard_offset") if name in p}
    options |= {"select": p["which"], "mean_over": MEANS[p["reduction"]]}
    return oracles.triplet(t["x"], t["labels"], **options, **_euclidean(p), **_named(t, *SETS))


def _triplet_one(t: dict[str, Tensor], p: dict[str, Any], select: str) -> oracles.Truth:
    options = {"margin": p["margin"], "soft": p.get("soft", False), "select": select}
    return oracles.triplet(t["x"], t["labels"], **options, **_euclidean(p), **_named(t, *SETS))


def _info_nce(t: dict[str, Tensor], p: dict[str, Any]) -> oracles.Truth:
    options = _temperature(t, p) | _cosine_or_dot(p) | _named(t, "weights")
    return oracles.info_nce(t["q"], t["k"], symmetric=p["symmetric"], **options)


def _supcon(t: dict[str, Tensor], p: dict[str, Any]) -> oracles.Truth:
    options = _temperature(t, p) | _cosine_or_dot(p) | _named(t, *SETS)
    return oracles.supcon(t["x"], t["labels"], where=p["where"], **options)


def _nce(t: dict[str, Tensor], p: dict[str, Any]) -> oracles.Truth:
    options = {"objective": p["mode"], "log_partition": t.get("log_z", p.get("log_z")), **_named(t, "weights")}
    options["noise_probability"] = t["pn"]
    return oracles.nce(t["h"], t["W"], t["b"], t["target"], t["noise"], **options)


def _combined(t: dict[str, Tensor], p: dict[str, Any]) -> oracles.Truth:
    options = {name: p[name] for name in ("m1", "m2", "m3", "extension")} | _named(t, "weights")
    return oracles.combined_margin(t["x"], t["W"], t["labels"], scale=p["s"], sub_centers=p["subcenters"], **options)


def _npid(t: dict[str, Tensor], p: dict[str, Any]) -> oracles.Truth:
    options = {"temperature": p["tau"], "proximal": p.get("prox", 0.0), **_named(t, "weights")}
    if "noise" in t:
        truth = oracles.instance_discrimination_nce(
            t["f"], t["bank"], t["idx"], t["noise"], math.log(p["Z"]), **options
        )
    else:
        truth = oracles.instance_discrimination(t["f"], t["bank"], t["idx"], **options)
    if "momentum" in p:
        truth.counts["bank_after"] = oracles.updated_bank(t["bank"], t["f"].detach(), t["idx"], momentum=p["momentum"])
    return truth


ORACLES: dict[str, Callable[[dict[str, Tensor], dict[str, Any]], oracles.Truth]] = {
    "contrastive": _contrastive,
    "triplet_all": _triplet_all,
    "triplet_batch_hard": lambda t, p: _triplet_one(t, p, "batch_hard"),
    "triplet_semihard_one": lambda t, p: _triplet_one(t, p, "facenet"),
    "info_nce": _info_nce,
    "supcon": _supcon,
    "nt_xent": lambda t, p: oracles.nt_xent(
        t["a"], t["b"], **_temperature(t, p), **_cosine_or_dot(p), **_named(t, "weights")
    ),
    "cpc": lambda t, p: oracles.cpc(
        t["z"], t["c"], t["W"], negatives=p.get("negatives", "batch"), **_named(t, "weights")
    ),
    "nce_words": _nce,
    "npair_mc": lambda t, p: oracles.npair_mc(
        t["f"], t["fp"], norm_penalty=p["reg"], one_vs_one=p["ovo"], **_named(t, "weights")
    ),
    "tuplet": lambda t, _: oracles.tuplet(t["f"], t["fp"], t["neg"], **_named(t, "weights")),
    "npair_multi": lambda t, _: oracles.npair_per_pair(t["x"], t["labels"], **_named(t, *SETS)),
    "a_softmax": lambda t, p: oracles.a_softmax(
        t["x"], t["W"], t["labels"], margin=p["m"], annealing=p["lam"], **_named(t, "weights")
    ),
    "combined_margin": _combined,
    "log_ratio": lambda t, p: oracles.log_ratio(
        t["f"],
        t["y"],
        **{name: p[name] for name in ("eps", "anchors", "mask_zero_label")},
        **_euclidean(p),
        **_named(t, "weights", "reference_weights"),
    ),
    "npid_full": _npid,
    "npid_nce": _npid,
}


def test_every_file_has_an_oracle():
    assert {case.values[0]["loss"] for case in _cases()} == set(ORACLES)


@pytest.mark.parametrize(("file", "case"), _cases())
def test_value_gradients_and_counts_are_those_of_the_case(file: dict[str, Any], case: dict[str, Any]):
    tensors = {name: _tensor(entry) for name, entry in case["inputs"].items()}
    wanted = case["expected"]
    leaves = [tensors[name].requires_grad_() for name in wanted["grads"]]
    truth = ORACLES[file["loss"]](tensors, case["params"])
    value = truth.value * truth.count if case["params"].get("reduction") == "sum" else truth.value
    found = torch.autograd.grad(value, leaves, materialize_grads=True)
    torch.testing.assert_close(value.item(), wanted["loss"], **file["tolerance"])
    for name, gradient in zip(wanted["grads"], found, strict=True):
        torch.testing.assert_close(
            gradient, _tensor(wanted["grads"][name]), **file["tolerance"], msg=lambda text, name=name: f"{name}: {text}"
        )
    for name, count in wanted.get("aux", {}).items():
        expected = _tensor(count) if isinstance(count, dict) else float(count)
        torch.testing.assert_close(truth.counts[name], expected, **file["tolerance"])
