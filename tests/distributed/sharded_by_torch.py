"""A class head whose weights torch shards: by FSDP2, and as a distributed tensor."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Shard, distribute_tensor

from tuplet.losses import ArcFaceLoss


class Model(nn.Module):
    """An encoder and its head."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(5, 4, dtype=torch.float64)
        nn.init.normal_(self.encoder.weight, generator=torch.Generator().manual_seed(1))
        nn.init.zeros_(self.encoder.bias)
        self.loss = ArcFaceLoss(num_classes=7, dim=4).double()

    def forward(self, inputs: Tensor, labels: Tensor) -> Tensor:
        value: Tensor = self.loss(self.encoder(inputs), labels)
        return value


def step(model: Model) -> dict[str, Any]:
    """Value, and gradients as whole tensors."""
    inputs = torch.randn(9, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    value = model(inputs, torch.arange(9) % 7)
    value.backward()
    whole = [
        grad.full_tensor() if hasattr(grad, "full_tensor") else grad for grad in (p.grad for p in model.parameters())
    ]
    return {"value": value.detach(), "gradients": whole}


def by_fsdp() -> dict[str, Any]:
    model, mesh = Model(), init_device_mesh("cpu", (dist.get_world_size(),))
    fully_shard(model.loss, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return step(model)


def as_distributed_tensor() -> dict[str, Any]:
    model, mesh = Model(), init_device_mesh("cpu", (dist.get_world_size(),))
    weight = distribute_tensor(model.loss.classes.weight.detach(), mesh, [Shard(0)])
    model.loss.classes.weight = nn.Parameter(weight)
    return step(model)
