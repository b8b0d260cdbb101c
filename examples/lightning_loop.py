"""A loss of tuplet in a LightningModule; Lightning starts the processes and averages the gradients.

python examples/lightning_loop.py
python examples/lightning_loop.py 2
"""

import sys
from typing import Any

import lightning
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import tuplet


class Embedding(lightning.LightningModule):
    """An encoder and its loss."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32)).double()
        self.loss: nn.Module | None = None

    def configure_model(self) -> None:
        """By now the processes know each other; the optimiser, made later, finds the weights of the loss too."""
        if self.loss is None:  # the hook may be called again
            self.loss = tuplet.losses.SupConLoss(temperature=0.1, processes=tuplet.Processes.default())

    def train_dataloader(self) -> DataLoader:
        """Every process has its share of each 96 examples."""
        rank, size = self.trainer.global_rank, self.trainer.world_size
        digits = load_digits()  # 1,797 handwritten digits of 8 x 8 pixels
        images, labels = torch.from_numpy(digits.data) / 16, torch.from_numpy(digits.target)
        return DataLoader(TensorDataset(images[rank::size], labels[rank::size]), batch_size=96 // size)

    def training_step(self, batch: list[Tensor], number: int) -> Tensor:
        """The loss over the batches of all processes."""
        images, labels = batch
        value = self.loss(self.encoder(images), labels)
        self.print(f"step {number + 1}  loss {value.item():.12f}")
        return value

    def optimizer_step(self, *reported: Any, **options: Any) -> None:
        """A step of the optimiser, and of memory bank or queue."""
        super().optimizer_step(*reported, **options)
        self.loss.advance()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Of the encoder, and of the loss if it has weights."""
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


def main(processes: int = 1) -> None:
    lightning.seed_everything(0, verbose=False)
    trainer = lightning.Trainer(
        max_steps=12,
        accelerator="cpu",
        devices=processes,
        strategy="ddp" if processes > 1 else "auto",
        use_distributed_sampler=False,  # it would shuffle
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Embedding())


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
