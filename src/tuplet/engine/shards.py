"""Rows that several processes own together: each holds a range of them, and state dictionaries hold all."""

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from tuplet.engine.gather import SINGLE_PROCESS, Processes, all_gather


class Shards(nn.Module):
    """Base of modules with a table of rows that may be sharded over processes.

    `state_dict` holds the rows of all, in one order, so all processes must ask for it together; any number of them can
    load it.

    Args:
        all_units: How many there are of what is dealt out, such as classes or examples; at least one per process.
        shards: Who owns a range each.

    Attributes:
        first: First unit of this process.
        units: How many units it owns.
    """

    table: ClassVar[str]
    """Name of the parameter or buffer with the rows."""

    def __init__(self, all_units: int, shards: Processes = SINGLE_PROCESS) -> None:
        super().__init__()
        self.shards, self.all_units = shards, all_units
        self.first = all_units * shards.rank // shards.size
        self.units = all_units * (shards.rank + 1) // shards.size - self.first

    @property
    def is_sharded(self) -> bool:
        """True if other processes own rows too."""
        return self.shards.size > 1

    def whole(self, own: Tensor) -> Tensor:
        """The rows of all processes, from what each has of them; all ask together."""
        return all_gather(own, self.shards)

    def own(self, whole: Tensor) -> Tensor:
        """This process's part of what `whole` returns."""
        each = len(whole) // self.all_units
        return whole[self.first * each : (self.first + self.units) * each]

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.is_sharded:
            destination[prefix + self.table] = self.whole(getattr(self, self.table))

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        rows, own = state_dict.get(prefix + self.table), getattr(self, self.table)
        if self.is_sharded and rows is not None and len(rows) * self.units == self.all_units * len(own):
            state_dict = {**state_dict, prefix + self.table: self.own(rows)}
        super()._load_from_state_dict(state_dict, prefix, *rest)
