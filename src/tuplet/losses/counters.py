"""Numbers in buffers, which are saved and moved with the module, as the host knows them without reading them back."""

from torch import nn


def known(module: nn.Module, name: str) -> float:
    """The number in a buffer; read back from an accelerator only after somebody else has changed it."""
    buffer = getattr(module, name)
    state = (buffer.data_ptr(), buffer._version)  # noqa: SLF001  # torch has no other name for it
    cached = module.__dict__.setdefault("_known", {})
    if name not in cached or cached[name][0] != state:
        cached[name] = state, buffer.item()
    return cached[name][1]


def count_on(module: nn.Module, name: str) -> None:
    """One more, in the buffer and in what is known of it."""
    value = known(module, name) + 1
    buffer = getattr(module, name)
    buffer += 1
    module.__dict__["_known"][name] = (buffer.data_ptr(), buffer._version), value  # noqa: SLF001  # as above
