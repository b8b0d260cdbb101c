"""Word vectors: steps that touch only the rows of the words at hand, in the place of batches of examples."""

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from tuplet.engine import Processes
from tuplet.errors import DivergedError, RecipeError
from tuplet.losses import NCELoss
from tuplet.losses.word_block import BlockOutcome, Level, SparseGrad, WordBlock, word_block
from tuplet.models import Embedder
from tuplet.sampling import WindowSampler
from tuplet.seeding import derive
from tuplet.training.job import Job
from tuplet.training.step import StepResult

_NOISE_STEPS = 64  # steps whose noise is drawn together


def refuse_several(processes: Processes) -> None:
    """Word vectors are trained by one process.

    Raises:
        RecipeError: If there are more.
    """
    if processes.size > 1:
        raise RecipeError(
            f"Word vectors are trained by one process; there are {processes.size}.",
            hint="Start it without torchrun.",
            reference="words-one-process",
        )


def word_table(embedder: Embedder) -> Tensor:
    """The vectors of all words: the encoder's own weights, but for the row that stands for no word."""
    return embedder.encoder.get_parameter("tokens.weight").detach()[1:]


class WordStepper:
    """Steps down the gradient of runs of words, row by row.

    Args:
        job: Trained in place.
    """

    def __init__(self, job: Job) -> None:
        assert isinstance(job.loss, NCELoss)  # noqa: S101  the recipe was checked
        assert isinstance(job.sampler, WindowSampler)  # noqa: S101
        loss, name, cap = job.loss, job.settings.optimizer, job.settings.clip
        self._job, self._loss, self._sampler = job, loss, job.sampler
        self._vectors, self._weight, self._bias = word_table(job.embedder), loss.weight.detach(), loss.bias.detach()
        tables = {"vectors": self._vectors, "weight": self._weight}
        self._level: Level | None = None
        if loss.objective == "nce":  # negative sampling has no bias
            constant = loss.fixed if loss.constant is None else loss.constant.detach()
            expected = loss.noise.log_expected(loss.noise_samples).to(self._bias.dtype)
            self._level = Level(self._bias, expected, constant)
            tables["bias"] = self._bias[:, None]
            if loss.constant is not None:
                tables["log_partition"] = loss.constant.detach().view(1, 1)
        self._movers = {
            key: RowOptimizer(table, "adagrad" if name == "adagrad" else "sgd", cap=cap)
            for key, table in tables.items()
        }
        self._noise_table: tuple[int, Tensor] | None = None
        self._rows = job.sampler.batch_size

    @torch.no_grad()
    def take(self, step: int, rate: float, *, watched: bool) -> StepResult:
        """See `Stepper`. The loss is that of a pair; `capped_share` are the words whose gradient was above the cap."""
        sampler = self._sampler
        block = sampler.take(sampler.next_batch())
        outcome = word_block(
            self._vectors,
            self._weight,
            block,
            self._noise(step, block),
            self._loss.noise_samples,
            level=self._level,
            contexts=sampler.contexts,
            with_value=watched,
        )
        capped = self._movers["vectors"].step(outcome.vectors, rate)
        self._movers["weight"].step(outcome.weight, rate)
        if outcome.bias is not None:
            self._movers["bias"].step(outcome.bias, rate)
            if "log_partition" in self._movers:
                constant = -outcome.bias.values.sum().view(1, 1)
                self._movers["log_partition"].step(SparseGrad(torch.zeros(1, dtype=torch.int64), constant), rate)
        if not watched:
            return StepResult(self._rows)
        return StepResult(self._rows, loss=self._mean(outcome, step + 1), stats=self._stats(outcome, capped))

    def _stats(self, outcome: BlockOutcome, capped: Tensor | None) -> dict[str, float]:
        rows = outcome.vectors.rows.unique()  # type: ignore[no-untyped-call]
        stats = {"norm": float(self._vectors[rows].norm(dim=1).mean())}
        return stats if capped is None else {**stats, "capped_share": int(capped.sum()) / len(rows)}

    def _mean(self, outcome: BlockOutcome, step: int) -> Tensor:
        """Loss per pair."""
        pairs = float(outcome.pairs)
        mean = float(outcome.value) / pairs if outcome.value is not None and pairs else 0.0
        value = torch.tensor(mean, dtype=torch.float64)
        if not torch.isfinite(value):
            raise DivergedError(
                f"The loss is not finite at step {step}: the word vectors grew without bound.",
                hint=f"Try --set train.learning_rate={self._job.settings.learning_rate / 2:g}, or --set train.clip=5.",
                reference="loss-not-finite",
            )
        return value

    def state_dict(self) -> dict[str, Any]:
        """See `Stepper`."""
        return {key: mover.state_dict() for key, mover in self._movers.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See `Stepper`."""
        for key, mover in self._movers.items():
            mover.load_state_dict(state[key])

    def _noise(self, step: int, block: WordBlock) -> Tensor:
        """Noise words of a step, drawn for many steps at once."""
        loss, sampler = self._loss, self._sampler
        if not loss.shared_noise:
            generator = derive(self._job.seed, "word noise", step)
            return loss.noise.draw((len(block.before), loss.noise_samples), generator)
        part, row = divmod(step, _NOISE_STEPS)
        if self._noise_table is None or self._noise_table[0] != part:
            generator = derive(self._job.seed, "word noise", part)
            self._noise_table = part, loss.noise.draw((_NOISE_STEPS, sampler.shared_noise), generator)
        return self._noise_table[1][row]


RowOptimizerName = Literal["sgd", "adagrad"]


class RowOptimizer:
    """Moves the rows that a gradient names; all others, and their state, stay as they are.

    Gradients of a row that is named more than once are summed before anything else. The norm of the sum is capped: a
    frequent word that is hit a hundred times in one step would otherwise overshoot.

    Args:
        table: What is moved, in place.
        name: "sgd", or "adagrad".
        cap: Largest norm of the gradient of a row; inf for none.
        eps: Added to AdaGrad's root.
    """

    def __init__(
        self, table: Tensor, name: RowOptimizerName = "sgd", *, cap: float = math.inf, eps: float = 1e-10
    ) -> None:
        self.table, self.cap, self.eps = table, cap, eps
        self.squares = torch.zeros_like(table) if name == "adagrad" else None
        self._place = torch.zeros(len(table), dtype=torch.int64)

    @torch.no_grad()
    def step(self, grad_scores: SparseGrad, rate: float) -> Tensor | None:
        """Go down a gradient.

        Returns:
            Whether each row of the gradient was capped, (rows,); None without a cap.
        """
        rows = grad_scores.rows
        self._place.index_copy_(0, rows, torch.arange(len(rows)))
        places = self._place.index_select(0, rows)  # of a row that is named twice, one place gets the sum, the other 0
        total = torch.zeros_like(grad_scores.values).index_add_(0, places, grad_scores.values)
        capped = None
        if self.cap < math.inf:
            norm = torch.linalg.vector_norm(total, dim=1, keepdim=True)
            capped = norm[:, 0] > self.cap
            total *= (self.cap / norm.clamp_min_(1e-30)).clamp_max_(1)
        if self.squares is not None:
            self.squares.index_add_(0, rows, total.square())
            total /= self.squares.index_select(0, rows).sqrt_().add_(self.eps)
        self.table.index_add_(0, rows, total, alpha=-rate)
        return capped

    def state_dict(self) -> dict[str, Tensor]:
        """What the next step depends on beside the table."""
        return {} if self.squares is None else {"squares": self.squares}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Goes on from there."""
        if self.squares is not None:
            self.squares.copy_(state["squares"])
