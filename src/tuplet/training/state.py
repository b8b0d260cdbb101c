"""Everything that changes while a job trains."""

import copy
import math
from dataclasses import replace
from functools import cached_property

import torch
from torch.optim.swa_utils import get_ema_multi_avg_fn

from tuplet.engine import SINGLE_PROCESS, Processes
from tuplet.models import Embedder
from tuplet.models.layers import hold_frozen
from tuplet.training.baseline import Baseline, baseline_of
from tuplet.training.checkpoint import Checkpoint, Progress
from tuplet.training.collapse import is_lost
from tuplet.training.job import Job
from tuplet.training.optim import learning_rate
from tuplet.training.step import BatchStepper, Stepper, StepResult
from tuplet.training.synchronised import synchronise
from tuplet.training.words import WordStepper


class State:
    """Optimiser, averaged weights and counters of a training; the rest of it lives in the job's own modules.

    Args:
        job: Moved to `device` and put in training mode.
        device: Where encoder and loss live; word vectors are trained on the CPU.
        processes: Who shares each batch: what normalises over it does so over the rows of all.

    Attributes:
        progress: Steps done, best score and the like; replaced, never changed.
        stepper: Takes the steps, and holds the optimiser.
        average: Averaged weights of the embedder; None where weights are not averaged.
        untrained: The embedder as it was before the first step; None where nobody asks for it.
    """

    def __init__(self, job: Job, device: torch.device, processes: Processes = SINGLE_PROCESS) -> None:
        is_text = job.corpus is not None
        device = torch.device("cpu") if is_text else device
        self.job = job
        self.device = device
        is_asked = (job.evaluate.untrained or job.evaluate.probe) and not is_text
        self.untrained = copy.deepcopy(job.embedder) if is_asked else None
        self.progress = Progress()
        job.embedder.to(device).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        hold_frozen(job.embedder)
        job.loss.to(device).train()
        self.stepper: Stepper = WordStepper(job) if is_text else BatchStepper(job, processes)
        self.average = copy.deepcopy(job.embedder) if job.settings.ema else None
        synchronise(job.embedder, processes)

    @cached_property
    def baseline(self) -> Baseline:
        """The raw input that the model is compared with, chosen once; see `baseline_of`."""
        return baseline_of(self.job)

    @property
    def evaluated(self) -> Embedder:
        """The embedder that is validated and saved: with averaged weights, where weights are averaged."""
        return self.job.embedder if self.average is None else self.average

    @property
    def is_done(self) -> bool:
        """All steps are taken, patience has run out, or the embedding has collapsed and stays so."""
        settings, progress = self.job.settings, self.progress
        return progress.step >= settings.steps or 0 < settings.patience <= progress.waited or progress.lost

    def take_step(self, *, watched: bool) -> StepResult:
        """Take one more step; `watched` as for `Stepper.take`."""
        step = self.progress.step
        result = self.stepper.take(step, learning_rate(self.job.settings, step), watched=watched)
        self.progress = replace(self.progress, step=step + 1)
        if self.average is not None:
            self._follow(self.average)
        return result

    def score(self, score: float) -> bool:
        """Note the score of a validation; whether it is the best so far. One that is no number is better than none."""
        progress = self.progress
        is_best = score > progress.best_score or progress.best_step == 0
        if is_best:
            best = max(progress.best_score, score)  # the older one if the new one is no number
            self.progress = replace(progress, best_score=best, best_step=progress.step, waited=0)
        else:
            self.progress = replace(progress, waited=progress.waited + 1)
        return is_best and math.isfinite(score)

    def observe(self, *, is_collapsed: bool) -> None:
        """Note how the embedding of this step lies."""
        since = (self.progress.collapsed_since or self.progress.step) if is_collapsed else 0
        self.progress = replace(self.progress, collapsed_since=since)

    def give_up(self, *, is_chosen: bool) -> bool:
        """After a validation: end the training if a collapse stays; `is_chosen` as for `collapse.is_lost`."""
        settings = self.job.settings
        lost = settings.stop_collapsed and not self.is_done
        lost = lost and is_lost(self.progress, settings.steps, is_chosen=is_chosen)
        self.progress = replace(self.progress, lost=lost)
        return lost

    def capture(self, events: int, *, planned: bool = True) -> Checkpoint:
        """What a checkpoint holds; all processes ask together. `events` is the length of the event log."""
        job, steps = self.job, self.job.settings.steps
        sampler = job.sampler.state_dict()
        progress = replace(self.progress, events=events, sampler=sampler, planned=planned, steps=steps)
        tensors = {"model": job.embedder.state_dict(), "objective": job.loss.state_dict()}
        if self.average is not None:
            tensors["averaged"] = self.average.state_dict()
        if memory := job.sampler.memory():
            tensors["sampler"] = memory
        return Checkpoint(progress, tensors, self.stepper.state_dict())

    def restore_evaluated(self, checkpoint: Checkpoint) -> None:
        """Give `evaluated` the weights of a checkpoint."""
        self.evaluated.load_state_dict(checkpoint.tensors["model" if self.average is None else "averaged"])

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from where a checkpoint was taken."""
        self.job.embedder.load_state_dict(checkpoint.tensors["model"])
        self.job.loss.load_state_dict(checkpoint.tensors["objective"])
        if self.average is not None:
            self.average.load_state_dict(checkpoint.tensors["averaged"])
        self.stepper.load_state_dict(checkpoint.optimizer)
        self.job.sampler.load_state_dict(dict(checkpoint.progress.sampler))
        self.job.sampler.load_memory(checkpoint.tensors.get("sampler", {}))
        self.progress = checkpoint.progress

    @torch.no_grad()
    def _follow(self, average: Embedder) -> None:
        """Move averaged weights towards the present ones, fast in the first steps, which are worth little."""
        step, embedder = self.progress.step, self.job.embedder
        decay = min(self.job.settings.ema, step / (step + 9))
        move = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        move(list(average.parameters()), list(embedder.parameters()), step)
        for kept, newest in zip(average.buffers(), embedder.buffers(), strict=True):
            kept.copy_(newest)
