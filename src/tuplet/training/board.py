"""Events of a training as TensorBoard shows them."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tuplet.errors import MissingExtraError
from tuplet.training.events import Event


def require_tensorboard() -> None:
    """Refuse to begin a training that could not be recorded.

    Raises:
        MissingExtraError: If TensorBoard is not installed.
    """
    try:
        import tensorboard  # noqa: F401, PLC0415  # an optional part
    except ImportError as problem:
        raise MissingExtraError(
            "train.tensorboard needs the package tensorboard, which is not installed.",
            extra="tensorboard",
            otherwise=", or leave train.tensorboard out",
        ) from problem


def recorded(events: Iterable[Event], folder: Path) -> Iterator[Event]:
    """The same events; their numbers are written to `folder` as they pass."""
    from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415  # an optional part

    writer: Any = None
    try:
        for event in events:
            numbers = dict(_numbers(event))
            if numbers and writer is None:  # what an earlier process wrote from this step on is repeated
                writer = SummaryWriter(folder, purge_step=event["step"])
            for name, value in numbers.items():
                writer.add_scalar(name, value, event["step"], walltime=event["time"])
            yield event
    finally:
        if writer is not None:
            writer.close()


def _numbers(event: Event) -> Iterator[tuple[str, float]]:
    """Names and values of an event; the part before the slash is what TensorBoard groups by."""
    if event["kind"] == "step":
        scalars = {key: event.get(key) for key in ("loss", "learning_rate", "gradient_norm", "examples_per_second")}
        parts = {"train": scalars, "loss": event["stats"], "embedding": event.get("spread") or {}}
        for part, values in parts.items():
            yield from ((f"{part}/{key}", value) for key, value in values.items() if value is not None)
    elif event["kind"] == "evaluation":
        for name, entry in event["values"].items():
            yield f"{event['split']} {event['of']}/{name}", entry["value"]
