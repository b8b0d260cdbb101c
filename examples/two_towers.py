"""Two encoders trained as open_clip trains its own: each image beside its text, a learned scale, several processes.

python examples/two_towers.py
torchrun --nproc-per-node 2 examples/two_towers.py
"""

import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import tuplet

STEPS, BATCH = 12, 96


class Towers(nn.Module):
    """One encoder for each side of a pair."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 16))
        self.second = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 16))

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings of both."""
        return self.first(first), self.second(second)


def main() -> None:
    if dist.is_torchelastic_launched():
        dist.init_process_group("gloo")  # nccl, between accelerators
    processes = tuplet.Processes.default()
    # the upper half of a handwritten digit stands for the image, the lower half for the text
    halves = torch.from_numpy(load_digits().data).reshape(-1, 2, 32) / 16
    torch.manual_seed(0)  # every process starts from the same weights
    towers: nn.Module = Towers().double()
    if processes.size > 1:
        towers = DistributedDataParallel(towers)
    loss = tuplet.losses.InfoNCELoss("learned", symmetric=True, processes=processes).double()
    optimiser = torch.optim.AdamW([*towers.parameters(), *loss.parameters()], lr=1e-3)
    for step in range(STEPS):
        batch = torch.arange(BATCH * step, BATCH * (step + 1))[processes.rank :: processes.size]
        first, second = towers(halves[batch, 0], halves[batch, 1])
        value = loss(first, references=second)  # over the pairs of all processes
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        loss.advance()
        if processes.rank == 0:
            print(f"step {step + 1}  loss {value.item():.12f}")
    if processes.size > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
