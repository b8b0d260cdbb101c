"""A loop of one's own under DistributedDataParallel: any number of processes follow the path of one.

python examples/bare_loop.py
torchrun --nproc-per-node 2 examples/bare_loop.py
"""

import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import tuplet

STEPS, BATCH = 12, 96


def main() -> None:
    if dist.is_torchelastic_launched():
        dist.init_process_group("gloo")  # nccl, between accelerators
    processes = tuplet.Processes.default()
    digits = load_digits()  # 1,797 handwritten digits of 8 x 8 pixels
    images, labels = torch.from_numpy(digits.data) / 16, torch.from_numpy(digits.target)
    torch.manual_seed(0)  # every process starts from the same weights
    encoder: nn.Module = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32)).double()
    if processes.size > 1:
        encoder = DistributedDataParallel(encoder)
    loss = tuplet.losses.SupConLoss(temperature=0.1, processes=processes)
    optimiser = torch.optim.SGD(encoder.parameters(), lr=0.1, momentum=0.9)
    for step in range(STEPS):
        batch = torch.arange(BATCH * step, BATCH * (step + 1))  # the same in every process ...
        mine = batch[processes.rank :: processes.size]  # ... of which each takes its share
        value = loss(encoder(images[mine]), labels[mine])  # over the whole batch, in every process
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
