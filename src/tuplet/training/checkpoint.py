"""Checkpoints that are there in full or not at all.

    checkpoints/step-000400/{model,objective}.safetensors, {averaged,sampler}.safetensors, optimizer.pt, progress.json
    checkpoints/LATEST

`progress.json` holds the digest of every other file, so that a torn checkpoint is known for what it is.
"""

import hashlib
import io
import json
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from tuplet.errors import CheckpointError, UnknownFormatError
from tuplet.storage import read_json, replaced_folder, write_file, write_json

FORMAT = 2
TENSORS = ("model", "objective", "averaged", "sampler")
FILES = (*(f"{name}.safetensors" for name in TENSORS), "optimizer.pt", "progress.json")
_NAME = re.compile(r"step-(\d{6,})")
_DRAFT = re.compile(r"\.step-\d{6,}\.(partial|previous)")
REMEDY = "Go back to an earlier checkpoint: `tuplet train --resume` finds it by itself."


@dataclass(frozen=True)
class Progress:
    """Where a training stands, apart from its tensors.

    Attributes:
        step: Optimiser steps done.
        events: Lines of `events.jsonl` at that moment.
        sampler: State of the sampler.
        best_step: Step of the best validation so far; 0 before the first.
        best_score: Its score.
        waited: Validations since then.
        collapsed_since: Step at which the embedding was seen collapsed, and never healthy since; 0 while it is healthy.
        lost: The training ended there, because a collapse stayed.
        planned: False for a checkpoint that an interruption asked for.
        steps: How many steps the training was to take; 0 where nobody said.
    """

    step: int = 0
    events: int = 0
    sampler: Mapping[str, Any] = field(default_factory=dict)
    best_step: int = 0
    best_score: float = -1.0
    waited: int = 0
    collapsed_since: int = 0
    lost: bool = False
    planned: bool = True
    steps: int = 0


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Everything that decides the future of a training.

    Attributes:
        progress: Where it stands.
        tensors: State dictionaries by name: model, objective; averaged, where weights are averaged; sampler, where it
            has a memory.
        optimizer: State dictionary of the optimiser.
    """

    progress: Progress
    tensors: Mapping[str, Mapping[str, Tensor]]
    optimizer: Mapping[str, Any]


def name_of(step: int) -> str:
    """Folder of the checkpoint of a step."""
    return f"step-{step:06d}"


def path_of(step: int) -> str:
    """The same, as seen from the run."""
    return f"checkpoints/{name_of(step)}"


def save(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint, whole or not at all.

    Args:
        folder: `checkpoints` of a run; made if missing.
        checkpoint: What to write.

    Returns:
        Folder of this checkpoint.

    Raises:
        CheckpointError: If it cannot be written; earlier checkpoints are untouched.
    """
    target = folder / name_of(checkpoint.progress.step)
    contents = {f"{name}.safetensors": _to_bytes(state) for name, state in checkpoint.tensors.items()}
    buffer = io.BytesIO()
    torch.save(checkpoint.optimizer, buffer)
    contents["optimizer.pt"] = buffer.getvalue()
    digests = {name: _digest(content) for name, content in contents.items()}
    with replaced_folder(target, owns=FILES, error=CheckpointError) as draft:
        for name, content in contents.items():
            (draft / name).write_bytes(content)
        progress = {**asdict(checkpoint.progress), "files": digests}
        write_json(draft / "progress.json", {**progress, "check": check_of(progress)}, version=FORMAT)
    _point_at(target)
    return target


def load(folder: Path) -> Checkpoint:
    """Read one checkpoint and compare it with its digests; no code is run.

    Raises:
        CheckpointError: If it is torn, or of a format that this version does not know.
    """
    progress = read_json(folder / "progress.json", version=FORMAT, oldest=1, error=CheckpointError, remedy=REMEDY)
    is_checked = progress.pop("format") > 1 or "check" in progress  # tuplet 0.1 kept no digest of this file
    if (is_checked and progress.pop("check", None) != check_of(progress)) or not set(progress.get("files", ())) <= set(
        FILES
    ):
        message = f"The checkpoint {folder} is incomplete: progress.json was changed."
        raise CheckpointError(message, hint=REMEDY, reference="damaged-file")
    try:
        if name_of(progress["step"]) != folder.name:
            message = f"The checkpoint {folder} says that it is that of step {progress['step']}."
            raise CheckpointError(message, hint=REMEDY, reference="damaged-file")
        contents = {name: _verified(folder / name, digest) for name, digest in progress.pop("files").items()}
        optimizer = torch.load(io.BytesIO(contents.pop("optimizer.pt")), map_location="cpu", weights_only=True)
        tensors = {name.removesuffix(".safetensors"): safetensors.torch.load(data) for name, data in contents.items()}
        return Checkpoint(Progress(**progress), tensors, optimizer)
    except (KeyError, TypeError, AttributeError, ValueError, RuntimeError, EOFError, UnpicklingError) as error:
        message = f"The checkpoint {folder} does not hold what a checkpoint holds: {error}."
        raise CheckpointError(message, hint=REMEDY, reference="damaged-file") from error


def is_of_first_format(folder: Path) -> bool:
    """Whether the latest of some checkpoints was written by tuplet 0.1; False if there is none."""
    steps = steps_in(folder)
    if not steps:
        return False
    path = folder / name_of(steps[-1]) / "progress.json"
    try:
        found = read_json(path, version=FORMAT, oldest=1, error=CheckpointError, remedy=REMEDY)
    except CheckpointError:
        return False
    return found["format"] == 1 and "check" not in found


def load_latest(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """The latest checkpoint that is whole.

    Args:
        folder: `checkpoints` of a run.

    Returns:
        The checkpoint, None if there is none; and a note for every incomplete one that was skipped.

    Raises:
        CheckpointError: If none of the checkpoints is whole, or one is of an unknown format.
    """
    steps, notes = steps_in(folder), list[str]()
    for step in reversed(steps):
        try:
            return load(folder / name_of(step)), notes
        except UnknownFormatError:
            raise
        except CheckpointError as error:
            notes.append(f"{error.message} Going back to the checkpoint before.")
    if steps:
        raise CheckpointError(
            f"None of the {len(steps)} checkpoints in {folder} is whole.",
            hint="Train again, into another folder.",
            reference="damaged-file",
        )
    return None, notes


def go_back(folder: Path, step: int, best: int) -> None:
    """Forget the checkpoints after a step: they are torn, or their training is about to be repeated.

    Of the others the best and the last two stay, as after saving: a process may have died between saving and pruning.
    """
    prune(folder, [best, *[known for known in steps_in(folder) if known <= step][-2:]])
    _point_at(folder / name_of(step))


def steps_in(folder: Path) -> list[int]:
    """Steps that have a checkpoint, in order; what else lies there is not looked at.

    Raises:
        CheckpointError: If the folder is there and cannot be read.
    """
    try:
        names = [entry.name for entry in folder.iterdir() if entry.is_dir()]
    except FileNotFoundError:
        return []
    except OSError as error:
        message = f"The checkpoints in {folder} could not be read: {error.strerror}."
        hint = "Let this user read the folder, or mount it, and run the same command again."
        raise CheckpointError(message, hint=hint, reference="no-permission") from error
    return sorted(
        int(found[1]) for name in names if (found := _NAME.fullmatch(name)) and name == name_of(int(found[1]))
    )


def prune(folder: Path, keep: Iterable[int]) -> None:
    """Delete the checkpoints but those of the steps in `keep`, and what killed processes left half-written.

    What tuplet did not write stays: folders of other names, links, and folders that hold anything else.
    """
    kept = {name_of(step) for step in keep}
    for entry in sorted(folder.iterdir()):
        if entry.name not in kept and (_NAME.fullmatch(entry.name) or _DRAFT.fullmatch(entry.name)) and _is_own(entry):
            shutil.rmtree(entry)


def _is_own(folder: Path) -> bool:
    """Whether a folder is no link and holds nothing but files of a checkpoint, of the step that its name says."""
    if folder.is_symlink() or not folder.is_dir():
        return False
    if not {entry.name for entry in folder.iterdir()} <= set(FILES):
        return False
    try:
        step = json.loads((folder / "progress.json").read_bytes())["step"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return True  # project default, and torn
    return folder.name.startswith(".") or folder.name == name_of(step)


def _point_at(checkpoint: Path) -> None:
    write_file(checkpoint.with_name("LATEST"), f"{checkpoint.name}\n")


def _verified(path: Path, digest: str) -> bytes:
    content = path.read_bytes() if path.is_file() else b""
    if _digest(content) != digest:
        message = f"The checkpoint {path.parent} is incomplete: {path.name} is missing, cut short or changed."
        raise CheckpointError(message, hint=REMEDY, reference="damaged-file")
    return content


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def check_of(content: Mapping[str, Any]) -> str:
    """Digest of what a JSON file says, however it is written."""
    return _digest(json.dumps(content, sort_keys=True).encode())


def _to_bytes(state: Mapping[str, Tensor]) -> bytes:
    """Clones, because two names may stand for one tensor."""
    return safetensors.torch.save(
        {name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in state.items()}
    )
