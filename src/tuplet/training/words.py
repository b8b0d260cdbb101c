"""Training word vectors: the same run, with steps that touch only the rows of the words at hand."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tuplet.engine import Processes
from tuplet.errors import DivergedError, RecipeError
from tuplet.evaluation.words import WordSimilarityResult, word_similarity
from tuplet.index import FlatIndex
from tuplet.losses.word_block import BlockOutcome, Level, Slope, WordBlock, word_block
from tuplet.results import DataSummary, Evaluation, Primary
from tuplet.seeding import derive
from tuplet.training import checkpoint
from tuplet.training.checkpoint import Checkpoint, Progress
from tuplet.training.evaluator import protocol_results
from tuplet.training.events import Diary, Event
from tuplet.training.interrupt import Interruption
from tuplet.training.optim import learning_rate
from tuplet.training.record import start_facts
from tuplet.training.rows import RowOptimizer
from tuplet.training.word_job import WordJob

FORMAT = 1
_DRAWN = 64  # steps whose noise is drawn together


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


class WordState:
    """Everything that changes while word vectors train.

    Args:
        job: Trained in place.

    Attributes:
        progress: Steps done; replaced, never changed.
    """

    def __init__(self, job: WordJob) -> None:
        self.job = job
        self.progress = Progress()
        loss, name, cap = job.loss, job.settings.optimizer, job.settings.clip
        self._vectors, self._weight, self._bias = job.vectors, loss.weight.detach(), loss.bias.detach()
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
        self._drawn: tuple[int, Tensor] | None = None

    @property
    def is_done(self) -> bool:
        """All steps are taken."""
        return self.progress.step >= self.job.settings.steps

    def take_step(self, *, watched: bool) -> tuple[BlockOutcome, dict[str, float]]:
        """Move all tables one step down the gradient of the next run of words.

        Args:
            watched: Also take what only a reader of the diary needs.

        Returns:
            What the block measures, and statistics if it is watched: mean length of the vectors of its words, and the
            share of these words whose gradient was longer than the cap.
        """
        job, step = self.job, self.progress.step
        block = job.sampler.take(job.sampler.next_batch())
        outcome = word_block(
            self._vectors,
            self._weight,
            block,
            self._noise(step, block),
            job.loss.noise_samples,
            level=self._level,
            contexts=job.sampler.contexts,
            with_value=watched,
        )
        rate = learning_rate(job.settings, step)
        capped = self._movers["vectors"].step(outcome.vectors, rate)
        self._movers["weight"].step(outcome.weight, rate)
        if outcome.bias is not None:
            self._movers["bias"].step(outcome.bias, rate)
            if "log_partition" in self._movers:
                constant = -outcome.bias.values.sum().view(1, 1)
                self._movers["log_partition"].step(Slope(torch.zeros(1, dtype=torch.int64), constant), rate)
        self.progress = replace(self.progress, step=step + 1)
        return outcome, self._stats(outcome, capped) if watched else {}

    def _stats(self, outcome: BlockOutcome, capped: Tensor | None) -> dict[str, float]:
        rows = outcome.vectors.rows.unique()  # type: ignore[no-untyped-call]
        stats = {"norm": float(self._vectors[rows].norm(dim=1).mean())}
        return stats if capped is None else {**stats, "capped_share": int(capped.sum()) / len(rows)}

    def capture(self, events: int, *, planned: bool = True) -> Checkpoint:
        """What a checkpoint holds; `events` is the length of the diary."""
        sampler, steps = self.job.sampler.state_dict(), self.job.settings.steps
        progress = replace(self.progress, events=events, sampler=sampler, planned=planned, steps=steps)
        tensors = {"model": self.job.embedder.state_dict(), "objective": self.job.loss.state_dict()}
        return Checkpoint(progress, tensors, {key: mover.state_dict() for key, mover in self._movers.items()})

    def restore(self, found: Checkpoint) -> None:
        """Go on from where a checkpoint was taken."""
        self.job.embedder.load_state_dict(found.tensors["model"])
        self.job.loss.load_state_dict(found.tensors["objective"])
        for key, mover in self._movers.items():
            mover.load_state_dict(found.optimizer[key])
        self.job.sampler.load_state_dict(dict(found.progress.sampler))
        self.progress = found.progress

    def _noise(self, step: int, block: WordBlock) -> Tensor:
        """Noise words of a step, drawn for many steps at once."""
        loss, sampler = self.job.loss, self.job.sampler
        if not loss.shared_noise:
            generator = derive(self.job.seed, "word noise", step)
            return loss.noise.draw((len(block.before), loss.noise_samples), generator)
        part, row = divmod(step, _DRAWN)
        if self._drawn is None or self._drawn[0] != part:
            generator = derive(self.job.seed, "word noise", part)
            self._drawn = part, loss.noise.draw((_DRAWN, sampler.shared_noise), generator)
        return self._drawn[1][row]


def begin_words(job: WordJob, diary: Diary) -> Iterator[Event]:
    """What is known before the first step."""
    yield diary.write("start", **start_facts(job))


@torch.no_grad()
def train_words(state: WordState, diary: Diary, folder: Path) -> Iterator[Event]:
    """Take the steps that remain.

    Args:
        state: Where the training stands; advanced in place.
        diary: Takes the events.
        folder: Of the checkpoints.

    Yields:
        Events of kind step and checkpoint.

    Raises:
        DivergedError: If the loss is no longer finite.
    """
    job, settings = state.job, state.job.settings
    per_step = len(job.corpus) / job.sampler.batches_per_epoch
    began, since = state.progress.step, time.monotonic()
    with Interruption() as interruption:
        while not state.is_done:
            rate = learning_rate(settings, state.progress.step)
            is_logged = (state.progress.step + 1) % settings.log_every == 0
            outcome, stats = state.take_step(watched=is_logged)
            step = state.progress.step
            if is_logged:
                yield diary.write(
                    "step",
                    step=step,
                    loss=_mean(outcome, job, step),
                    learning_rate=rate,
                    gradient_norm=None,
                    stats=stats,
                    examples_per_second=round((step - began) * per_step / (time.monotonic() - since), 1),
                )
            is_interrupted = interruption.is_wanted
            if step % settings.interval == 0 or state.is_done:
                state.progress = replace(state.progress, best_step=step)
                yield _keep(state, diary, folder)
                began, since = step, time.monotonic()
            elif is_interrupted:
                _keep(state, diary, folder, planned=False)
                diary.write("interrupted", step=step)
            if is_interrupted:
                raise KeyboardInterrupt


def _keep(state: WordState, diary: Diary, folder: Path, *, planned: bool = True) -> Event:
    """Save a checkpoint; the last two stay."""
    captured = state.capture(diary.settle(), planned=planned)
    checkpoint.save(folder, captured)
    checkpoint.prune(folder, checkpoint.steps_in(folder)[-2:])
    step = captured.progress.step
    return diary.write("checkpoint", step=step, path=checkpoint.path_of(step))


def _mean(outcome: BlockOutcome, job: WordJob, step: int) -> float:
    """Loss per pair."""
    pairs = float(outcome.pairs)
    value = float(outcome.value) / pairs if outcome.value is not None and pairs else 0.0
    if not torch.isfinite(torch.tensor(value)):
        raise DivergedError(
            f"The loss is not finite at step {step}: the word vectors grew without bound.",
            hint=f"Try --set train.learning_rate={job.settings.learning_rate / 2:g}, or --set train.clip=5.",
            reference="loss-not-finite",
        )
    return value


def finish_words(state: WordState, diary: Diary, folder: Path) -> Iterator[Event]:
    """Save the vectors as `model`, score them, and index the vocabulary.

    Args:
        state: A training that is done.
        diary: Takes the events.
        folder: The run.

    Yields:
        Events of kind evaluation, one per file of word pairs, and end.
    """
    job, step = state.job, state.progress.step
    job.embedder.eval().save(folder / "model")
    vectors = job.vectors.clone()
    facts = [
        {"id": word, "count": count} for word, count in zip(job.corpus.words, job.corpus.counts.tolist(), strict=True)
    ]
    (folder / "gallery").mkdir(exist_ok=True)  # so that "../model" leads somewhere from it
    FlatIndex.write(folder / "gallery", job.embedder, vectors, facts, model="../model")
    results = evaluate_words(job, vectors)
    for name, result in results.items():
        values = {f"{measure} {name}": {"value": value} for measure, value in result.values.items()}
        yield diary.write("evaluation", step=step, split="pairs", of="model", best=True, values=values)
    evaluation = Evaluation(
        name=job.name,
        seed=job.seed,
        step=step,
        split="pairs",
        geometry=job.embedder.geometry,
        data=DataSummary.model_validate(job.facts),
        main=next((Primary(protocol=name, measure="spearman") for name in results), None),
        protocols={name: protocol_results({"model": result}) for name, result in results.items()},
    )
    evaluation.write(folder)
    yield diary.write("end", step=step, best_step=step, stopped_early=False)
    diary.settle()


def evaluate_words(job: WordJob, vectors: Tensor) -> Mapping[str, WordSimilarityResult]:
    """Word similarity by the name of each file of pairs."""
    options: dict[str, Any] = {"geometry": job.embedder.geometry, "bootstrap": job.evaluate.bootstrap, "seed": job.seed}
    return {
        Path(file).stem: word_similarity(job.corpus.words, vectors, Path(file), **options)
        for file in job.evaluate.words
    }
