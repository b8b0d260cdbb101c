"""How a case of a vector file is put to tuplet: which function, which module, which options.

A file names its parameters after the equations, tuplet after their meaning. This is the dictionary between the two.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tuplet import losses
from tuplet.memory import FeatureQueue

PUBLIC = {
    "contrastive": "contrastive",
    "nce_words": "nce",
    "info_nce": "info_nce",
    "cpc": "cpc",
    "supcon": "supcon",
    "nt_xent": "nt_xent",
    "a_softmax": "a_softmax",
    "combined_margin": "combined_margin",
    "triplet_all": "triplet",
    "triplet_batch_hard": "triplet",
    "triplet_semihard_one": "triplet",
    "npair_mc": "npair",
    "tuplet": "npair",
    "npair_multi": "npair",
    "log_ratio": "log_ratio",
    "npid_full": "instance_discrimination",
    "npid_nce": "instance_discrimination",
}
"""File to function; the modules stand beside the functions."""


class Answer(NamedTuple):
    """What tuplet said to a case."""

    route: str  # "function", "module" or "queue"
    value: Tensor | None  # differentiable; None if this route only counts
    leaves: dict[str, Tensor]  # by the names of the file
    aux: dict[str, Tensor]


class Case:
    """Inputs and parameters of one case, with fresh leaves."""

    def __init__(self, case: dict[str, Any], dtype: torch.dtype) -> None:
        self.params: dict[str, Any] = case["params"]
        self.inputs = {name: self.tensor(entry) for name, entry in case["inputs"].items()}
        for name, x in self.inputs.items():
            if x.is_floating_point():
                self.inputs[name] = x.to(dtype).requires_grad_(name in case["expected"]["grads"])
        self.leaves = {name: self.inputs[name] for name in case["expected"]["grads"]}
        self.aux = set(case["expected"].get("aux", {}))

    @staticmethod
    def tensor(entry: dict[str, Any]) -> Tensor:
        dtype = {"float64": torch.float64, "int64": torch.int64}[entry["dtype"]]
        return torch.tensor(entry["data"], dtype=dtype).reshape(entry["shape"])

    def __getitem__(self, name: str) -> Any:
        """The input of that name, else the parameter."""
        return self.inputs[name] if name in self.inputs else self.params[name]

    def given(self, *names: str) -> dict[str, Any]:
        """Those of these inputs and parameters that the case has."""
        return {name: self[name] for name in names if name in self.inputs or name in self.params}


def answers(loss: str, case: dict[str, Any], dtype: torch.dtype) -> Iterator[Answer]:
    """Every way in which tuplet can be asked this case."""
    for ask in ASKED[loss]:
        answer = ask(Case(case, dtype))
        if answer is not None:
            yield answer


Ask = Callable[[Case], Answer | None]
SETS = ("weights", "references", "reference_labels", "queue", "queue_labels")
MEANS = {"mean": "all", "mean_all": "all", "mean_active": "active", "sum": "all"}


class Call(NamedTuple):
    """The arguments of a case for a loss without parameters of its own."""

    tensors: tuple[Tensor, ...]  # by position
    given: dict[str, Any]  # of the call
    options: dict[str, Any]  # of the loss


def _both(function: str, module: str, call: Callable[[Case], Call]) -> list[Ask]:
    """The function, the module, and the module with a queue of its own."""

    def by_function(case: Case) -> Answer:
        tensors, given, options = call(case)
        if function == "info_nce":  # takes the references by position
            given = dict(given)
            tensors = (*tensors, given.pop("references"))
        value = getattr(losses, function)(*tensors, **given, **options)
        return Answer("function", value * _times(case, module, call), case.leaves, {})

    def by_module(case: Case) -> Answer | None:
        tensors, given, options = call(case)
        if isinstance(options.get("temperature"), Tensor):
            return None  # a module owns its temperature
        value = getattr(losses, module)(**options).measure(*tensors, **given).value
        return Answer("module", value * _times(case, module, call), case.leaves, {})

    def by_queue(case: Case) -> Answer | None:
        tensors, given, options = call(case)
        if "queue" not in given:
            return None
        rows, labels = given.pop("queue"), given.pop("queue_labels")
        queue = FeatureQueue(len(rows), rows.shape[1]).to(rows.dtype)
        queue.push(rows, labels)
        return Answer("queue", getattr(losses, module)(**options, queue=queue)(*tensors, **given), case.leaves, {})

    return [by_function, by_module, by_queue]


def _times(case: Case, module: str, call: Callable[[Case], Call]) -> float:
    """A sum is the value times the count of the outcome."""
    if case.params.get("reduction") != "sum":
        return 1.0
    tensors, given, options = call(case)
    return getattr(losses, module)(**options).measure(*tensors, **given).count.item()


def _counts(module: str, call: Callable[[Case], Call], **names: str) -> Ask:
    """Counts of the file as what the mean divides by: name of the count to `mean_over`."""

    def ask(case: Case) -> Answer:
        tensors, given, options = call(case)
        found = {
            name: getattr(losses, module)(**options | {"mean_over": mean_over}).measure(*tensors, **given).count
            for name, mean_over in names.items()
        }
        return Answer("count", None, {}, found)

    return ask


def _contrastive(case: Case) -> Call:
    options = {"margin": case["margin"], "convention": case["variant"], "mean_over": MEANS[case["reduction"]]}
    return Call((case["x"], case["labels"]), case.given(*SETS), options | case.given("geometry"))


def _triplet(select: str | None = None) -> Callable[[Case], Call]:
    def call(case: Case) -> Call:
        options = {"hard_offset": 0.0}  # what a case that lists none has: ties are not hard
        options |= case.given("margin", "power", "soft", "hard_offset") | {"select": select or case["which"]}
        options["geometry"] = "squared_euclidean" if case["squared"] else "euclidean"
        if "reduction" in case.params:
            options["mean_over"] = MEANS[case["reduction"]]
        return Call((case["x"], case["labels"]), case.given(*SETS), options)

    return call


def _similar(case: Case) -> dict[str, Any]:
    return {"temperature": case["tau"], "geometry": "cosine" if case["normalize"] else "dot"}


def _info_nce(case: Case) -> Call:
    given = {"references": case["k"], **case.given("weights")}
    return Call((case["q"],), given, _similar(case) | case.given("symmetric"))


def _supcon(case: Case) -> Call:
    return Call((case["x"], case["labels"]), case.given(*SETS), _similar(case) | case.given("where"))


def _nt_xent(case: Case) -> Call:
    return Call((case["a"],), {"references": case["b"], **case.given("weights")}, _similar(case))


def _npair(case: Case) -> Call:
    options = {"norm_penalty": case["reg"], "one_vs_one": case["ovo"]}
    return Call((case["f"],), {"references": case["fp"], **case.given("weights")}, options)


def _tuplet(case: Case) -> Call:
    return Call((case["f"],), {"references": case["fp"], "negatives": case["neg"], **case.given("weights")}, {})


def _npair_multi(case: Case) -> Call:
    return Call((case["x"], case["labels"]), case.given(*SETS), {})


def _log_ratio(case: Case) -> Call:
    options = case.given("eps", "anchors", "mask_zero_label")
    options["geometry"] = "squared_euclidean" if case["squared"] else "euclidean"
    return Call((case["f"], case["y"]), case.given("weights", "reference_weights"), options)


def _owning(case: Case, loss: nn.Module, **parameters: str) -> nn.Module:
    """The module with parameters from the file, which become the leaves of the case."""
    for own, name in parameters.items():
        getattr(loss, own).data = case[name].detach().clone()
        if name in case.leaves:
            case.leaves[name] = getattr(loss, own)
    return loss


def _a_softmax(case: Case) -> Answer:
    options = {"margin": case["m"], "annealing": case["lam"], **case.given("weights")}
    value = losses.a_softmax(case["x"], case["W"], case["labels"], **options)
    return Answer("function", value, case.leaves, {})


def _a_softmax_module(case: Case) -> Answer:
    loss = losses.ASoftmaxLoss(*case["W"].shape, margin=case["m"], annealing=case["lam"])
    value = _owning(case, loss, weight="W")(case["x"], case["labels"], **case.given("weights"))
    return Answer("module", value, case.leaves, {})


def _margins(case: Case) -> dict[str, Any]:
    names = case.given("m1", "m2", "m3", "extension")
    return names | {"scale": case["s"], "sub_centers": case["subcenters"]}


def _combined(case: Case) -> Answer:
    options = _margins(case) | case.given("weights")
    return Answer("function", losses.combined_margin(case["x"], case["W"], case["labels"], **options), case.leaves, {})


def _combined_module(case: Case) -> Answer:
    classes = len(case["W"]) // case["subcenters"]
    loss = losses.CombinedMarginLoss(classes, case["W"].shape[1], **_margins(case))
    value = _owning(case, loss, weight="W")(case["x"], case["labels"], **case.given("weights"))
    return Answer("module", value, case.leaves, {})


def _special(name: str, module: str, margin: str, rest: dict[str, float]) -> list[Ask]:
    """CosFace and ArcFace are combined margins of which two are nothing."""

    def applies(case: Case) -> bool:
        return all(case[key] == value for key, value in rest.items()) and case["extension"] in {"reflect", "none"}

    def by_function(case: Case) -> Answer | None:
        if not applies(case) or (name == "arcface" and case["extension"] == "none"):
            return None
        options = {"margin": case[margin], "scale": case["s"], "sub_centers": case["subcenters"]}
        function = getattr(losses, name)
        value = function(case["x"], case["W"], case["labels"], **options, **case.given("weights"))
        return Answer(name, value, case.leaves, {})

    def by_module(case: Case) -> Answer | None:
        if not applies(case) or (name == "arcface" and case["extension"] == "none"):
            return None
        options = {"margin": case[margin], "scale": case["s"], "sub_centers": case["subcenters"]}
        classes = len(case["W"]) // case["subcenters"]
        loss = _owning(case, getattr(losses, module)(classes, case["W"].shape[1], **options), weight="W")
        return Answer(module, loss(case["x"], case["labels"], **case.given("weights")), case.leaves, {})

    return [by_function, by_module]


def _cpc(case: Case) -> Answer:
    options = {"negatives": case.params.get("negatives", "batch"), **case.given("weights")}
    return Answer("function", losses.cpc(case["z"], case["c"], case["W"], **options), case.leaves, {})


def _cpc_module(case: Case) -> Answer:
    steps, latent_dim, context_dim = case["W"].shape
    loss = losses.CPCLoss(latent_dim, context_dim, steps, negatives=case.params.get("negatives", "batch"))
    value = _owning(case, loss, maps="W")(case["z"], case["c"], **case.given("weights"))
    return Answer("module", value, case.leaves, {})


def _nce(case: Case) -> Answer:
    options = {"objective": {"nce": "nce", "neg": "negative_sampling"}[case["mode"]], "log_partition": case["log_z"]}
    tensors = (case["h"], case["W"], case["b"], case["target"], case["noise"], case["pn"])
    return Answer("function", losses.nce(*tensors, **options, **case.given("weights")), case.leaves, {})


def _npid(case: Case) -> Answer:
    options = {"temperature": case["tau"], **case.given("weights")}
    if "prox" in case.params:
        options["proximal"] = case["prox"]
    if "noise" in case.inputs:
        options |= {"noise": case["noise"], "log_z": torch.tensor(math.log(case["Z"]), dtype=case["f"].dtype)}
    value = losses.instance_discrimination(case["f"], case["bank"], case["idx"], **options)
    return Answer("function", value, case.leaves, {})


def _npid_module(case: Case) -> Answer | None:
    """The module draws its noise itself: then only the bank is compared, which does not depend on it."""
    full = "noise" not in case.inputs
    if not full and not case.aux:
        return None
    options = {"temperature": case["tau"], "momentum": case.params.get("momentum", 0.5)}
    options |= {"noise_samples": None} if full else {"noise_samples": 2}
    loss = losses.InstanceDiscriminationLoss(*case["bank"].shape, **options).to(case["f"].dtype)
    _owning(case, loss.bank, rows="bank")
    value = loss(case["f"], case["idx"], **case.given("weights"))
    loss.advance()
    aux = {"bank_after": loss.bank.rows} if case.aux else {}
    return Answer("module", value if full else None, case.leaves, aux)


BATCH_HARD, FACENET = _triplet("batch_hard"), _triplet("facenet")

ASKED: dict[str, list[Ask]] = {
    "contrastive": _both("contrastive", "ContrastiveLoss", _contrastive),
    "triplet_all": [
        *_both("triplet", "TripletLoss", _triplet()),
        _counts("TripletLoss", _triplet(), active="active", triplets="all"),
    ],
    "triplet_batch_hard": [
        *_both("triplet", "TripletLoss", BATCH_HARD),
        _counts("TripletLoss", BATCH_HARD, anchors="anchors"),
    ],
    "triplet_semihard_one": [
        *_both("triplet", "TripletLoss", FACENET),
        _counts("TripletLoss", FACENET, pairs="all"),
    ],
    "info_nce": _both("info_nce", "InfoNCELoss", _info_nce),
    "supcon": _both("supcon", "SupConLoss", _supcon),
    "nt_xent": _both("nt_xent", "NTXentLoss", _nt_xent),
    "npair_mc": _both("npair", "NPairLoss", _npair),
    "tuplet": _both("npair", "NPairLoss", _tuplet),
    "npair_multi": _both("npair", "NPairLoss", _npair_multi),
    "log_ratio": _both("log_ratio", "LogRatioLoss", _log_ratio),
    "a_softmax": [_a_softmax, _a_softmax_module],
    "combined_margin": [
        _combined,
        _combined_module,
        *_special("cosface", "CosFaceLoss", "m3", {"m1": 1.0, "m2": 0.0}),
        *_special("arcface", "ArcFaceLoss", "m2", {"m1": 1.0, "m3": 0.0}),
    ],
    "cpc": [_cpc, _cpc_module],
    "nce_words": [_nce],
    "npid_full": [_npid, _npid_module],
    "npid_nce": [_npid, _npid_module],
}
"""Every way to ask the cases of a file."""
