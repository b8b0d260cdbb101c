"""Gradients of an encoder under DistributedDataParallel: losses of other libraries, and tuplet's, on the same batch."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn import all_gather
from torch.nn.functional import cross_entropy, normalize
from torch.nn.parallel import DistributedDataParallel

from tuplet import Processes, losses

ROWS, DIM = 12, 4
Call = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Embeddings, those of second views, and labels of this process -> its loss."""


def gradients() -> dict[str, Any]:
    """Gradient of the weights by each loss, as this process has it after the average over all."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the other libraries, about the number of processes and numpy
        return {name: _gradient(call) for name, call in _calls().items()}


def _calls() -> dict[str, Call]:
    from pytorch_metric_learning.losses import SupConLoss  # noqa: PLC0415  # only processes of this test have it
    from pytorch_metric_learning.utils.distributed import DistributedLossWrapper  # noqa: PLC0415
    from sentence_transformers.losses import MultipleNegativesRankingLoss  # noqa: PLC0415

    processes = Processes.default()
    supcon = losses.SupConLoss(temperature=0.1, processes=processes)
    pairs = losses.InfoNCELoss(temperature=0.05, processes=processes)
    alone = MultipleNegativesRankingLoss(None)
    clip = losses.InfoNCELoss(temperature=0.1, symmetric=True, processes=processes)
    calls: dict[str, Call] = {
        "supcon: tuplet": lambda x, _, y: supcon(x, y),
        "supcon: each process by itself": lambda x, _, y: SupConLoss(0.1)(x, y),
        "pairs: tuplet": lambda x, z, _: pairs(x, references=z),
        "pairs: each process by itself": lambda x, z, _: alone.compute_loss_from_embeddings([x, z], None),
        "clip: tuplet": lambda x, z, _: clip(x, references=z),
    }
    for efficient in (False, True) if processes.size > 1 else ():
        wrapped = DistributedLossWrapper(SupConLoss(0.1), efficient=efficient)
        calls[f"supcon: wrapper, efficient={efficient}"] = lambda x, _, y, wrapped=wrapped: wrapped(x, y)
    if processes.size > 1:
        gathering = MultipleNegativesRankingLoss(None, gather_across_devices=True)
        calls["pairs: gathered"] = lambda x, z, _: gathering.compute_loss_from_embeddings([x, z], None)
        for local, with_grad in ((False, False), (False, True), (True, False), (True, True)):
            calls[f"clip: local_loss={local}, gather_with_grad={with_grad}"] = _open_clip(local, with_grad)
        calls["supcon: gathered with gradients"] = _gathered
    return calls


def _open_clip(local: bool, with_grad: bool) -> Call:
    """By its formula: which rows make the loss, and which of the gathered embeddings have a gradient."""

    def call(x: Tensor, z: Tensor, _: Tensor) -> Tensor:
        x, z = normalize(x), normalize(z)
        every = []
        for own in (x, z):
            if with_grad:
                parts = list(all_gather(own))
            else:
                parts = [torch.empty_like(own) for _ in range(dist.get_world_size())]
                dist.all_gather(parts, own.detach())
                if not local:
                    parts[dist.get_rank()] = own
            every.append(torch.cat(parts))
        if not local:
            scores, own = every[0] @ every[1].T / 0.1, torch.arange(len(every[0]))
            return (cross_entropy(scores, own) + cross_entropy(scores.T, own)) / 2
        own = torch.arange(len(x)) + len(x) * dist.get_rank()
        return (cross_entropy(x @ every[1].T / 0.1, own) + cross_entropy(z @ every[0].T / 0.1, own)) / 2

    return call


def _gathered(x: Tensor, _: Tensor, y: Tensor) -> Tensor:
    """The embeddings of all in each process, as `self.all_gather(x, sync_grads=True)` of Lightning has them."""
    from pytorch_metric_learning.losses import SupConLoss  # noqa: PLC0415  # see above

    labels = [torch.empty_like(y) for _ in range(dist.get_world_size())]
    dist.all_gather(labels, y)
    return SupConLoss(0.1)(torch.cat(all_gather(x)), torch.cat(labels))


def _gradient(call: Call) -> Tensor:
    torch.manual_seed(0)
    encoder: nn.Module = nn.Linear(5, DIM).double()
    wrapped = DistributedDataParallel(encoder) if dist.get_world_size() > 1 else encoder
    inputs, views = (torch.randn(ROWS, 5, dtype=torch.float64) for _ in range(2))
    each = ROWS // dist.get_world_size()
    mine = slice(dist.get_rank() * each, (dist.get_rank() + 1) * each)
    both = wrapped(torch.cat([inputs[mine], views[mine]]))
    call(both[:each], both[each:], (torch.arange(ROWS) % 3)[mine]).backward()
    return torch.cat([weight.grad.flatten() for weight in encoder.parameters()])
