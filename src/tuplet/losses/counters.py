"""Numbers in buffers, which are saved and moved with the module, as the host knows them without reading them back."""

from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

_known: "WeakKeyDictionary[nn.Module, dict[str, Any]]" = WeakKeyDictionary()


def known(module: nn.Module, name: str) -> float:
    """The number in a buffer; read back from an accelerator only after somebody else has changed it."""
    buffer = getattr(module, name)
    state, cached = (buffer.data_ptr(), buffer._version), _known.setdefault(module, {})  # noqa: SLF001  # torch's name
    if name not in cached or cached[name][0] != state:
        cached[name] = state, buffer.item()
    found: float = cached[name][1]
    return found


def count_on(module: nn.Module, name: str) -> None:
    """One more, in the buffer and in what is known of it."""
    value = known(module, name) + 1
    buffer = getattr(module, name)
    buffer += 1
    _known[module][name] = (buffer.data_ptr(), buffer._version), value  # noqa: SLF001  # as above
