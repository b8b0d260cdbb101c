"""Small calls of a loss on CUDA as graphs: recorded once for each class of shapes, then replayed.

A loss of a few thousand rows is some hundred launches, and the host takes longer over them than the device. A graph
holds them all, forward and gradients. Inputs are copied in, results out; what the call would have checked is read
after the replay, once.
"""

import logging
import weakref
from collections import Counter, OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from tuplet.engine.execution import DEFAULT, Execution
from tuplet.engine.once import multiplied, will_come_back
from tuplet.engine.recording import Recording, recorded

logger = logging.getLogger(__name__)

DEVICES = ("cuda",)
"""Kinds of devices that record what a call launches."""

AFTER = 3
"""Calls with the same shapes before one is recorded: tile code is compiled by then."""

KEPT = 4
"""Graphs that a module keeps."""

COUNTED = 256
"""Classes of shapes whose calls are counted; with more of them nothing comes again."""

ROOM = 2**28
"""Most pairs of anchors and references in a recorded call: what it holds stays allocated."""

LARGEST = 2**24
"""Most numbers in a parameter of a recorded call, of whose gradient the graph has a copy."""

_pools: dict[tuple[torch.device, int], Any] = {}
"""Memory of all graphs of a stream. Results are copied out before another one is replayed."""

Key = tuple[Any, ...]


@dataclass
class Replays:
    """Graphs of a module's calls, by all that decides what a call launches."""

    graphs: "OrderedDict[Key, _Graph]" = field(default_factory=OrderedDict)
    calls: "Counter[Key]" = field(default_factory=Counter)
    refused: bool = False

    def __deepcopy__(self, memo: dict[int, Any]) -> "Replays":
        """A copy of the module has other parameters."""
        return Replays()

    def __reduce__(self) -> Any:
        """Graphs do not travel."""
        return Replays, ()

    def call(self, module: Any, x: Tensor, sides: dict[str, Any]) -> Tensor | None:
        """Value of a call, or None if it has to be made."""
        if self.refused or not _may_record(module, x, sides):
            return None
        key = _key(module, x, sides)
        graph = self.graphs.get(key)
        if graph is None:
            if len(self.calls) >= COUNTED:
                self.calls.clear()
            self.calls[key] += 1
            if self.calls[key] <= AFTER:
                return None
            graph = self._recorded(key, module, x, sides)
        if graph is None:
            return None
        self.graphs.move_to_end(key)
        leaves = [x, *(side for side in sides.values() if isinstance(side, Tensor)), *module.parameters()]
        value: Tensor = _Replayed.apply(graph, *leaves)  # type: ignore[no-untyped-call]
        if graph.stands is not None and not bool(graph.stands):  # the call itself says why, or finds more room
            del self.graphs[key]
            self.calls[key] = 0
            return None
        return value

    def _recorded(self, key: Key, module: Any, x: Tensor, sides: dict[str, Any]) -> "_Graph | None":
        try:
            self.graphs[key] = graph = _Graph(module, x, sides)
        except RuntimeError as error:
            self.refused = True
            logger.warning("Calls of %s are not recorded as CUDA graphs (%s).", type(module).__name__, error)
            return None
        while len(self.graphs) > KEPT:
            self.graphs.popitem(last=False)
        return graph


def _may_record(module: Any, x: Tensor, sides: dict[str, Any]) -> bool:
    execution = _execution(module, sides)
    wanted = execution.graphs and execution.engine != "panels" and execution.check != "deferred"
    plain = all(side is None or isinstance(side, (Tensor, Execution)) for side in sides.values())
    if x.device.type not in DEVICES or not wanted or not plain or not len(x):
        return False
    if module.has_state or module.processes.size > 1:
        return False
    others = [side for side in sides.values() if isinstance(side, Tensor)]
    if any(other.device != x.device for other in others):
        return False
    parameters = list(module.parameters())
    if any(each.numel() > LARGEST for each in parameters):
        return False
    tables = [len(other) for other in (*others, *parameters) if other.ndim]
    return len(x) * max([len(x), *tables]) <= ROOM and not torch.cuda.is_current_stream_capturing()


def _execution(module: Any, sides: dict[str, Any]) -> Execution:
    return sides.get("execution") or module.execution or DEFAULT


def _key(module: nn.Module, x: Tensor, sides: dict[str, Any]) -> Key:
    """All that decides what a call launches, but the numbers in its inputs."""
    inputs = [("", x), *((name, side) for name, side in sides.items() if isinstance(side, Tensor))]
    shapes = tuple((name, each.shape, each.dtype, each.device, each.requires_grad) for name, each in inputs)
    options = tuple((name, side) for name, side in sides.items() if not isinstance(side, Tensor))
    tables = tuple((each.data_ptr(), each.requires_grad) for each in (*module.parameters(), *module.buffers()))
    named = [each for part in module.modules() for each in vars(part).items() if each[0][0] != "_"]
    own = tuple((name, _compared(value)) for name, value in named)
    modes = torch.is_grad_enabled(), torch.are_deterministic_algorithms_enabled(), _execution(module, sides)
    return shapes, options, tables, own, modes, _place(x)


def _compared(value: Any) -> Hashable:
    """An option by its value; what has none that can be compared, by being the same object."""
    try:
        hash(value)
    except TypeError:
        return id(value)
    return value


def _place(x: Tensor) -> tuple[torch.device, int]:
    """Device and stream of a call: on one stream graphs are replayed one after the other."""
    return x.device, torch.cuda.current_stream(x.device).cuda_stream if x.is_cuda else 0


class _Graph:
    """Inputs, launches and results of a call; results are overwritten by the next replay."""

    def __init__(self, module: Any, x: Tensor, sides: dict[str, Any]) -> None:
        self.inputs = [x.detach().clone().requires_grad_(x.requires_grad)]
        given = dict(sides)
        for name, side in sides.items():
            if isinstance(side, Tensor):
                given[name] = side.detach().clone().requires_grad_(side.requires_grad)
                self.inputs.append(given[name])
        self.parameters = list(module.parameters())
        held, now = Recording(), torch.cuda.current_stream(x.device)
        stream = torch.cuda.Stream(x.device)  # type: ignore[no-untyped-call]
        stream.wait_stream(now)
        with torch.cuda.stream(stream), recorded(held):
            self._run(module, given)  # finds room for positives, and lets libraries set themselves up
        held.conditions.clear()
        now.wait_stream(stream)
        pool = _pools.setdefault(_place(x), torch.cuda.graph_pool_handle())
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, pool=pool, stream=stream), recorded(held):
            self.value, self.grads = self._run(module, given)
            self.stands = held.stands()
        self.latest: weakref.ref[_Results] | None = None

    def replay(self, leaves: Sequence[Tensor]) -> "_Results":
        """Copy inputs in and launch everything; results of the call before are put aside if they are still wanted."""
        earlier = None if self.latest is None else self.latest()
        if earlier is not None:
            earlier.grads = [None if grad is None else grad.clone() for grad in earlier.grads]
        with torch.no_grad():
            for static, given in zip(self.inputs, leaves, strict=False):
                static.copy_(given)
        self.graph.replay()
        results = _Results(self.grads)
        self.latest = weakref.ref(results)
        return results

    def _run(self, module: Any, given: dict[str, Any]) -> tuple[Tensor, list[Tensor | None]]:
        leaves = [*self.inputs, *self.parameters]
        asked = [leaf for leaf in leaves if leaf.requires_grad and torch.is_grad_enabled()]
        value = module.recorded_value(self.inputs[0], given)
        found = iter(torch.autograd.grad(value, asked, allow_unused=True) if asked and value.requires_grad else ())
        return value.detach(), [next(found, None) if leaf in set(asked) else None for leaf in leaves]


@dataclass(eq=False)
class _Results:
    """Gradients of a call: the graph's own until it is replayed again."""

    grads: list[Tensor | None]


class _Replayed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, graph: _Graph, *leaves: Tensor) -> Tensor:
        ctx.results = graph.replay(leaves)
        ctx.save_for_backward(*leaves)
        return graph.value.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        by = multiplied([*ctx.saved_tensors, *ctx.results.grads], grad, in_place=False)
        if not will_come_back():
            ctx.results.grads = []  # nothing to put aside
        return (None, *by)
