"""A loss of tuplet as the loss module of sentence-transformers: questions beside their answers.

    python examples/sentence_pairs.py FOLDER [STEPS]

FOLDER holds a model, as `SentenceTransformer.save` writes it.
"""

import sys
import tempfile
from collections.abc import Iterable
from typing import Any

from datasets import Dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from torch import Tensor, nn
from transformers import TrainerCallback

import tuplet

CAPITALS = {
    "France": "Paris",
    "Japan": "Tokyo",
    "Egypt": "Cairo",
    "Peru": "Lima",
    "Kenya": "Nairobi",
    "Norway": "Oslo",
    "Cuba": "Havana",
    "Iran": "Tehran",
}


class Pairs(nn.Module):
    """Any pair loss of tuplet between two columns of texts.

    Args:
        model: Embeds both.
        loss: Called with the embeddings of the one column, and of the other as references.
    """

    def __init__(self, model: SentenceTransformer, loss: tuplet.losses.MetricLoss) -> None:
        super().__init__()
        self.model = model
        self.loss = loss

    def forward(self, columns: Iterable[dict[str, Any]], _labels: Tensor | None = None) -> Tensor:
        """The loss of a batch; columns are tokenised texts."""
        queries, answers = (self.model(column)["sentence_embedding"] for column in columns)
        return self.loss(queries, references=answers)


class Advance(TrainerCallback):
    """After each step of the optimiser, what a loss keeps moves on.

    Args:
        loss: Of the trainer.
    """

    def __init__(self, loss: tuplet.losses.MetricLoss) -> None:
        self.loss = loss

    def on_step_end(self, *_told: Any, **_options: Any) -> None:
        """The trainer calls this once a step, however many batches it had."""
        self.loss.advance()


def main(folder: str, steps: int = 4) -> None:
    model = SentenceTransformer(folder, device="cpu", local_files_only=True)
    pairs = Dataset.from_dict(
        {"query": [f"What is the capital of {name}?" for name in CAPITALS], "answer": [*CAPITALS.values()]}
    )
    loss = tuplet.losses.InfoNCELoss(temperature=0.05, processes=tuplet.Processes.default())
    with tempfile.TemporaryDirectory() as scratch:
        settings = SentenceTransformerTrainingArguments(
            output_dir=scratch,
            max_steps=steps,
            per_device_train_batch_size=8,
            learning_rate=5e-5,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
        )
        trainer = SentenceTransformerTrainer(
            model=model, args=settings, train_dataset=pairs, loss=Pairs(model, loss), callbacks=[Advance(loss)]
        )
        trainer.train()
    for entry in trainer.state.log_history:
        if "loss" in entry:
            print(f"step {entry['step']}  loss {float(entry['loss']):.6f}")


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
