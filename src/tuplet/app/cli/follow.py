"""Watching a training: a progress bar on a terminal, one line per evaluation elsewhere."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from tuplet.app.cli.show import log, visible
from tuplet.app.metrics import name_of

Event = dict[str, Any]


_WORTH_SAYING = 0.05
"""Share of the time spent on loading from which on it is shown."""


def follow(events: Iterable[Event], *, steps: int, quiet: bool = False) -> None:
    """Go through the events of a training of so many steps; show them on stderr unless `quiet`."""
    watch = _Bar(steps) if sys.stderr.isatty() and not quiet else _Lines()
    with watch.shown():
        for event in events:
            if not quiet:
                watch.see(event)


class _Lines:
    """One line for what matters, for logs and pipes."""

    @contextmanager
    def shown(self) -> Iterator[None]:
        yield

    def see(self, event: Event) -> None:
        match event["kind"]:
            case "start":
                if "words" in event:
                    what = f"{event['examples']:,} words of {event['words']:,} different ones"
                elif event["classes"]:
                    what = f"{event['examples']:,} examples of {event['classes']:,} classes"
                else:
                    what = f"{event['examples']:,} examples"
                self.say(
                    f"Training {event['name']}: {what}, "
                    f"{event['steps']:,} steps, {event['parameters']:,} parameters, seed {event['seed']}."
                )
            case "evaluation" if (
                event["split"] == "validation" or event["step"] == 0
            ):  # the final evaluation is the command's to show
                self.say(_evaluation(event))
            case "note" | "collapsed":
                self.say(event["text"])
            case "end" if event["stopped_early"]:
                self.say(f"Stopped early after step {event['step']:,}; the best was step {event['best_step']:,}.")

    def say(self, text: str) -> None:
        log(text)


class _Bar(_Lines):
    """Steps, examples a second, time left, loss and the last score, in one line that stays."""

    def __init__(self, steps: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[loss]}"),
            TextColumn("{task.fields[score]}", style="bold"),
            console=Console(stderr=True, highlight=False),
            expand=True,
        )
        self.task = self.progress.add_task("training", total=steps, speed="", loss="", score="")

    @contextmanager
    def shown(self) -> Iterator[None]:
        with self.progress:
            yield

    def see(self, event: Event) -> None:
        super().see(event)
        match event["kind"]:
            case "step":
                speed = f"{event['examples_per_second']:,.0f}/s"
                if event.get("waited", 0.0) >= _WORTH_SAYING:
                    speed += f", waits for data {event['waited']:.0%}"
                loss = f"loss {event['loss']:.3f}"
                self.progress.update(self.task, completed=event["step"], speed=speed, loss=loss)
            case "evaluation" if event["of"] == "model" and event["split"] == "validation":
                name = event.get("by") or next(iter(event["values"]), "")
                if name in event["values"]:
                    self.progress.update(self.task, score=f"{name_of(name)} {event['values'][name]['value']:.3f}")

    def say(self, text: str) -> None:
        self.progress.console.print(visible(text), markup=False)


def _evaluation(event: Event) -> str:
    who = "raw input" if event["of"] == "raw" else f"step {event['step']:,}"
    first = [name for name in (event.get("by"), *event["values"]) if name in event["values"]]
    names = list(dict.fromkeys(first))[:3]
    shown = ", ".join(f"{name} {event['values'][name]['value']:.3f}" for name in names)
    return f"{event['split']}, {who}: {shown}" + (" (best so far)" if event.get("best") else "")
