"""Training: one exact step, a loop on one screen, checkpoints that survive anything."""

from tuplet.training.events import CLOCKS, Event
from tuplet.training.job import Arguments, Embed, Job, Task
from tuplet.training.run import run
from tuplet.training.settings import EvaluateSettings, TrainSettings
from tuplet.training.trial import Assessment, Trial, assessed, tried

__all__ = [
    "CLOCKS",
    "Arguments",
    "Assessment",
    "Embed",
    "EvaluateSettings",
    "Event",
    "Job",
    "Task",
    "TrainSettings",
    "Trial",
    "assessed",
    "run",
    "tried",
]
