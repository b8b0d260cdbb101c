"""A loss of tuplet in a loop that Accelerate prepares.

python examples/accelerate_loop.py
accelerate launch --cpu --num_processes 2 examples/accelerate_loop.py
"""

import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import tuplet

STEPS, BATCH = 12, 96


def main() -> None:
    # split_batches: the loader makes batches of 96, and each process takes its share of them
    accelerator = Accelerator(cpu=True, dataloader_config=DataLoaderConfiguration(split_batches=True))
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32)).double()
    optimiser = torch.optim.SGD(encoder.parameters(), lr=0.1, momentum=0.9)
    digits = load_digits()  # 1,797 handwritten digits of 8 x 8 pixels
    images, labels = torch.from_numpy(digits.data) / 16, torch.from_numpy(digits.target)
    loader = DataLoader(TensorDataset(images, labels), batch_size=BATCH)
    encoder, optimiser, loader = accelerator.prepare(encoder, optimiser, loader)
    loss = tuplet.losses.SupConLoss(temperature=0.1, processes=tuplet.Processes.default())  # after Accelerator()
    for step, (images, labels) in zip(range(STEPS), loader, strict=False):
        value = loss(encoder(images), labels)
        optimiser.zero_grad()
        accelerator.backward(value)
        optimiser.step()
        loss.advance()
        accelerator.print(f"step {step + 1}  loss {value.item():.12f}")
    accelerator.end_training()


if __name__ == "__main__":
    main()
