"""Every loss, trained for a few steps on batches that several processes share unevenly, or that one has alone."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import product
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from tuplet import losses, relations
from tuplet.engine import SINGLE_PROCESS, Execution, Processes
from tuplet.engine.shards import Shards
from tuplet.memory import FeatureQueue

STEPS = 3
ROWS, DIM, WORDS, EXAMPLES = 12, 6, 7, 10
SHARES = {1: [12], 2: [7, 5], 3: [4, 0, 8], 4: [3, 4, 0, 5]}
"""How many of every 12 rows each process has; they take turns, so that the one without rows is not always the same."""


@dataclass(frozen=True)
class Batch:
    """All that a loss may ask for; slices of it belong together."""

    inputs: Tensor
    others: Tensor
    """Second views, row by row."""
    labels: Tensor
    label_distances: Tensor
    """Labels of which some are unknown."""
    weights: Tensor
    shared: Tensor
    """Multi-hot labels; one row has none."""
    graded: Tensor
    positions: Tensor
    words: Tensor
    own: Tensor
    """Each row's own negatives, (rows, 2, 5)."""
    series: Tensor

    def part(self, rank: int, size: int, turn: int) -> "Batch":
        mine = shard_slice(ROWS, rank, size, turn)
        return Batch(*(getattr(self, field.name)[mine] for field in fields(self)))


def shard_slice(rows: int, rank: int, size: int, turn: int) -> slice:
    """The rows of one process."""
    shares = [SHARES[size][(k + turn) % size] for k in range(size)]
    ends = [round(sum(shares[:k]) * rows / 12) for k in range(size + 1)]
    return slice(ends[rank], ends[rank + 1])


def draw(step: int) -> Batch:
    """The global batch of a step."""
    generator = torch.Generator().manual_seed(step)

    def real(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    def whole(most: int) -> Tensor:
        return torch.randint(most, (ROWS,), generator=generator)

    labels = torch.arange(ROWS) % 4
    unknown = torch.rand(ROWS, generator=generator) < 0.25
    shared = (torch.rand(ROWS, 5, generator=generator) < 0.3).long()
    shared[step] = 0
    weights = torch.rand(ROWS, generator=generator, dtype=torch.float64)
    weights[(step + 3) % ROWS] = 0
    return Batch(
        inputs=real(ROWS, 5),
        others=real(ROWS, 5),
        labels=labels,
        label_distances=labels.where(~unknown, -1),
        weights=weights,
        shared=shared,
        graded=real(ROWS, 2),
        positions=whole(EXAMPLES).where(~unknown, -1),  # some twice, perhaps on two processes
        words=whole(WORDS).where(~unknown, -1),
        own=real(ROWS, 2, 5),
        series=real(ROWS, 4, 5),
    )


class Extra(NamedTuple):
    """Second sets that are shared otherwise than the batch: one smaller, one as large."""

    inputs: Tensor
    labels: Tensor
    even_inputs: Tensor
    even_labels: Tensor


def extra(step: int, rank: int, size: int) -> Extra:
    generator = torch.Generator().manual_seed(100 + step)
    sets: list[Tensor] = []
    for rows in (ROWS - 3, ROWS):
        mine = shard_slice(rows, rank, size, step + 1)
        sets.append(torch.randn(rows, 5, generator=generator, dtype=torch.float64)[mine])
        sets.append(torch.randint(-1, 4, (rows,), generator=generator)[mine])
    return Extra(*sets)


Arguments = dict[str, Any]
Call = Callable[[nn.Module, Batch, Extra], Arguments]


def classes(encode: nn.Module, batch: Batch, _: Extra) -> Arguments:
    return {"embeddings": encode(batch.inputs), "labels": batch.labels}


def weighted(encode: nn.Module, batch: Batch, _: Extra) -> Arguments:
    return {"embeddings": encode(batch.inputs), "labels": batch.label_distances, "weights": batch.weights}


def shared(encode: nn.Module, batch: Batch, _: Extra) -> Arguments:
    return {"embeddings": encode(batch.inputs), "labels": batch.shared, "weights": batch.weights}


def ruled(encode: nn.Module, batch: Batch, _: Extra) -> Arguments:
    """Values travel to the other processes; positions count over all of them."""
    rule = relations.same_class(batch.label_distances) & relations.within(batch.graded, 2.0)
    rule = rule.ignoring(relations.matrix(lambda i, j: (i + 2 * j) % 5 == 0))
    return {"embeddings": encode(batch.inputs), "relation": rule, "weights": batch.weights}


def ruled_sets(encode: nn.Module, batch: Batch, further: Extra) -> Arguments:
    rule = relations.same_class(batch.labels, further.labels)
    return {"embeddings": encode(batch.inputs), "references": encode(further.inputs), "relation": rule}


def pairs(encode: nn.Module, batch: Batch, _: Extra) -> Arguments:
    return {"embeddings": encode(batch.inputs), "references": encode(batch.others)}


def weighted_pairs(encode: nn.Module, batch: Batch, _: Extra) -> Arguments:
    return {"embeddings": encode(batch.inputs), "references": encode(batch.others), "weights": batch.weights}


def more_references(encode: nn.Module, batch: Batch, further: Extra) -> Arguments:
    """Row i of the references belongs to anchor i, the rest to nobody."""
    references = torch.cat([encode(batch.others), encode(further.inputs)])
    return {"embeddings": encode(batch.inputs), "references": references, "weights": batch.weights}


def two_sets(encode: nn.Module, batch: Batch, further: Extra) -> Arguments:
    sides = {"references": encode(further.inputs), "reference_labels": further.labels}
    return {"embeddings": encode(batch.inputs), "labels": batch.label_distances, "weights": batch.weights, **sides}


def views(encode: nn.Module, batch: Batch, _: Extra) -> Arguments:
    """Two sets of equal size with labels."""
    sides = {"references": encode(batch.others), "reference_labels": batch.labels}
    return {"embeddings": encode(batch.inputs), "labels": batch.label_distances, "weights": batch.weights, **sides}


def even_sets(encode: nn.Module, batch: Batch, further: Extra) -> Arguments:
    sides = {"references": encode(further.even_inputs), "reference_labels": further.even_labels}
    return {"embeddings": encode(batch.inputs), "labels": batch.label_distances, "weights": batch.weights, **sides}


def own_negatives(encode: nn.Module, batch: Batch, _: Extra) -> Arguments:
    return {
        "embeddings": encode(batch.inputs),
        "references": encode(batch.others),
        "negatives": encode(batch.own),
        "weights": batch.weights,
    }


def graded(encode: nn.Module, batch: Batch, _: Extra) -> Arguments:
    sides = {"weights": batch.weights, "reference_weights": batch.weights + 0.1}
    return {"embeddings": encode(batch.inputs), "labels": batch.graded, **sides}


def scored(encode: nn.Module, batch: Batch, _: Extra) -> Arguments:
    sides = {"references": encode(batch.others), "weights": batch.weights}
    return {"embeddings": encode(batch.inputs), "labels": batch.graded[:, 0], **sides}


def examples(encode: nn.Module, batch: Batch, _: Extra) -> Arguments:
    return {"embeddings": encode(batch.inputs), "labels": batch.positions, "weights": batch.weights}


def words(encode: nn.Module, batch: Batch, _: Extra) -> Arguments:
    return {"embeddings": encode(batch.inputs), "labels": batch.words, "weights": batch.weights}


def sequences(encode: nn.Module, batch: Batch, _: Extra) -> Arguments:
    latents = encode(batch.series)
    return {"embeddings": latents, "labels": latents.cumsum(1)[..., :3].tanh(), "weights": batch.weights}


def unequal(encode: nn.Module, batch: Batch, _: Extra) -> Arguments:
    return sequences(encode, batch, _) | {"lengths": 1 + batch.labels}


class Case(NamedTuple):
    """A loss and how it is called."""

    name: str
    """Of the loss, in the registry."""
    options: dict[str, Any]
    call: Call
    queue: int = 0
    """Rows of its queue."""
    wrapped: bool = False
    """The loss is under DistributedDataParallel too."""

    @property
    def title(self) -> str:
        reported = {key: value for key, value in self.options.items() if key not in {"counts", "dim", "latent_dim"}}
        words = [f"{key}={value}" for key, value in reported.items()] + [f"queue={self.queue}"] * bool(self.queue)
        return f"{self.name}-{self.call.__name__}-" + ",".join(words + ["wrapped"] * self.wrapped)

    def build(self, processes: Processes) -> nn.Module:
        options = dict(self.options)
        if self.queue:
            options["queue"] = FeatureQueue(self.queue, DIM)
        loss = losses.registry[self.name](**options, processes=processes).double()
        generator = torch.Generator().manual_seed(0)
        for parameter in loss.parameters():
            if not parameter.any():  # word vectors start at zero, where the gradient of the contexts is zero too
                parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        return loss


def _pair_losses() -> Iterator[Case]:
    """Called in every way that losses over pairs share."""
    for name, options in {
        "contrastive": {},
        "triplet": {"margin": 1.0},
        "info_nce": {},
        "supcon": {},
        "npair": {"norm_penalty": 0.1},
        "nca": {},
        "multi_similarity": {"epsilon": 0.1},
        "circle": {},
    }.items():
        for call in (classes, shared, pairs, two_sets):
            yield Case(name, options, call)
        yield Case(name, options, weighted, queue=20)
    for name in ("contrastive", "triplet", "supcon", "multi_similarity"):
        yield Case(name, {}, ruled)
    yield Case("supcon", {}, ruled_sets)


def _forms() -> Iterator[Case]:
    """Every form of the losses over pairs."""
    for convention, mean_over in product(("sohn", "hadsell", "note"), ("all", "active", "anchors")):
        yield Case("contrastive", {"convention": convention, "mean_over": mean_over}, weighted)
    for select in ("all", "easy", "semihard", "hard", "batch_hard", "facenet"):
        yield Case("triplet", {"select": select, "mean_over": "anchors", "soft": select == "easy"}, weighted)
        yield Case("triplet", {"select": select, "soft": True}, classes)
    for select, mean_over in product(("swap", "batch_easy"), ("active", "anchors")):
        yield Case("triplet", {"select": select, "mean_over": mean_over, "normalise": True}, weighted)
    yield Case("contrastive", {"mean_over": "apart", "pos_margin": 0.2, "geometry": "cosine"}, weighted)
    yield Case("triplet", {"select": "hard", "hard_offset": 0.1, "power": 2, "geometry": "cosine"}, weighted)
    yield Case("triplet", {"select": "semihard", "mean_over": "all", "geometry": "euclidean"}, weighted)
    yield Case("info_nce", {}, more_references)
    yield Case("info_nce", {"symmetric": True}, more_references)
    every = ("query_to_doc", "query_to_query", "doc_to_query", "doc_to_doc")
    yield Case("info_nce", {"directions": every, "false_negative_margin": 0.1}, own_negatives)
    yield Case("info_nce", {"directions": every[:2]}, more_references)
    yield Case("info_nce", {"symmetric": True}, weighted_pairs)
    yield Case("info_nce", {"symmetric": True, "temperature": "learned", "geometry": "dot"}, views)
    yield Case("info_nce", {"symmetric": True}, two_sets)
    yield Case("info_nce", {"symmetric": True}, even_sets)
    yield Case("info_nce", {"temperature": "learned"}, pairs, wrapped=True)
    yield Case("info_nce", {}, pairs, queue=20)
    yield Case("supcon", {"where": "in"}, weighted)
    yield Case("supcon", {"temperature": "learned"}, weighted)
    yield Case("nt_xent", {"temperature": "learned"}, weighted_pairs)
    yield Case("nt_xent", {}, weighted)
    yield Case("nt_xent", {}, pairs, queue=20)
    yield Case("multi_similarity", {}, weighted)
    for call in (pairs, weighted_pairs, weighted):
        yield Case("decoupled_contrastive", {"weighted": call is not pairs}, call)
    for call in (pairs, weighted_pairs, two_sets):
        yield Case("siglip", {}, call)
    yield Case("siglip", {}, pairs, wrapped=True)
    yield Case("npair", {"one_vs_one": True, "norm_penalty": 0.1}, weighted_pairs)
    yield Case("npair", {"norm_penalty": 0.1}, own_negatives)


def _other_losses() -> Iterator[Case]:
    """Losses with labels, parameters or memory of their own."""
    for anchors, geometry in product(("all", "first"), ("squared_euclidean", "euclidean")):
        yield Case("log_ratio", {"anchors": anchors, "geometry": geometry}, graded)
    yield Case("log_ratio", {"mask_zero_label": False}, graded)
    noise = {"counts": list(range(1, WORDS + 1)), "dim": DIM, "noise_samples": 3, "log_partition": "learned"}
    for shared_noise, objective in product((False, True), ("nce", "negative_sampling")):
        yield Case("nce", noise | {"shared_noise": shared_noise, "objective": objective}, words)
    yield Case("nce", noise, words, wrapped=True)
    predictive = {"latent_dim": DIM, "context_dim": 3, "steps": 2}
    yield Case("cpc", predictive | {"negatives": "batch"}, sequences)
    yield Case("cpc", predictive | {"negatives": "all"}, sequences)
    yield Case("cpc", predictive, sequences, wrapped=True)
    yield Case("cpc", predictive | {"negatives": "batch"}, unequal)
    yield Case("cpc", predictive | {"negatives": "all"}, unequal)
    for noise_samples in (None, 4):
        bank = {"num_instances": EXAMPLES, "dim": DIM, "proximal": 0.5, "noise_samples": noise_samples}
        yield Case("instance_discrimination", bank, examples)
        yield Case("instance_discrimination", bank | {"sharded": True}, examples)


def _declared() -> Iterator[Case]:
    """Losses over classes or pairs that nothing above calls, since their declarations say how they are called."""
    named = {case.name for case in (*_pair_losses(), *_forms(), *_other_losses(), *_heads())}
    for name in losses.registry:
        loss = losses.registry[name]
        if name not in named and loss.supervision in DECLARED_CALLS:
            is_head = {"num_classes", "dim"} <= loss.options.keys()
            for call in (weighted, classes) if is_head else DECLARED_CALLS[loss.supervision]:
                yield Case(name, {"num_classes": 7, "dim": DIM} if is_head else {}, call)


DECLARED_CALLS: dict[str, tuple[Call, ...]] = {
    "class": (weighted, two_sets),
    "pair": (pairs, weighted_pairs),
    "scored": (scored,),
}


def _heads() -> Iterator[Case]:
    """Losses over class weights, whole or sharded, all classes or a sample."""
    head = {"num_classes": 7, "dim": DIM}
    yield Case("a_softmax", head, weighted)
    yield Case("cosface", head | {"scale": 8.0}, weighted)
    yield Case("combined_margin", head | {"scale": 8.0, "sub_centers": 2}, weighted)
    yield Case("proxy_anchor", head, weighted)
    yield Case("proxy_anchor", head, classes, wrapped=True)
    yield Case("arcface", head | {"scale": 8.0}, classes, wrapped=True)
    yield Case("arcface", head | {"scale": 8.0, "sample_rate": 0.7}, classes)
    yield Case("a_softmax", head | {"sharded": True}, weighted)
    yield Case("cosface", head | {"scale": 8.0, "sharded": True, "sub_centers": 2}, weighted)
    yield Case("arcface", head | {"scale": 8.0, "sharded": True}, classes)
    yield Case("arcface", head | {"scale": 8.0, "sharded": True, "sample_rate": 0.7, "correction": True}, weighted)


CASES = {case.title: case for case in (*_pair_losses(), *_forms(), *_other_losses(), *_heads(), *_declared())}


def play(names: Sequence[str] = tuple(CASES), **execution: Any) -> dict[str, Any]:
    """Train with these losses; what this process saw and what it ended with."""
    how = Execution(**execution) if execution else None
    return {name: train(CASES[name], Processes.default(), how) for name in names}


def play_in_group(names: Sequence[str]) -> dict[str, Any]:
    """The same for all processes but the first, which has no part in it."""
    group = dist.new_group(list(range(1, dist.get_world_size())))
    if dist.get_rank() == 0:
        return {}
    processes = Processes(dist.get_rank(group), dist.get_world_size(group), group)
    return {name: train(CASES[name], processes) for name in names}


def train(case: Case, processes: Processes, execution: Execution | None = None) -> dict[str, Any]:
    """A few steps of plain gradient descent, as in anybody's loop."""
    torch.manual_seed(0)
    encoder: nn.Module = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, DIM)).double()
    loss = case.build(processes)
    loss.execution = execution
    learned = [*encoder.parameters(), *loss.parameters()]
    encode, objective = encoder, loss
    if processes is not SINGLE_PROCESS:
        encode = DistributedDataParallel(encoder, process_group=processes.group)
        objective = DistributedDataParallel(loss, process_group=processes.group) if case.wrapped else loss
    optimizer = torch.optim.SGD(learned, lr=0.05)
    values, gradients = [], []
    for step in range(STEPS):
        batch = draw(step).part(processes.rank, processes.size, step)
        value = objective(**case.call(encode, batch, extra(step, processes.rank, processes.size)))
        optimizer.zero_grad()
        value.backward()
        values.append(value.detach())
        gradients.append(torch.cat([*_gradients(encoder), *_gradients(loss)]))
        optimizer.step()
        loss.advance()
    arguments = case.call(encode, batch, extra(step, processes.rank, processes.size))
    loss.eval()
    outcome = loss.measure(**{name: x.detach() if isinstance(x, Tensor) else x for name, x in arguments.items()})
    return {
        "values": torch.stack(values),
        "gradients": torch.stack(gradients),
        "state": {name: value.clone() for name, value in loss.state_dict().items()},
        "encoder": torch.cat([parameter.detach().flatten() for parameter in encoder.parameters()]),
        "stats": {"count": outcome.count, **outcome.stats},
    }


def _gradients(module: nn.Module) -> Iterator[Tensor]:
    """Of all parameters; those of class weights for all processes, and for the classes that were not drawn too."""
    for part in module.modules():
        for parameter in part.parameters(recurse=False):
            gradient = parameter.grad.to_dense() if parameter.grad.is_sparse else parameter.grad
            yield (part.whole(gradient) if isinstance(part, Shards) else gradient).flatten()
