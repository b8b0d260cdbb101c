"""Tile code as Triton source: a traced function of one tile, printed operator by operator.

A tile has rows and columns. What is known of a row is printed as a block of one column, what is known of a column as a
block of one row, and a third axis (bins, say) as so many blocks. So most operators that change a shape print nothing.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, fx
from torch._decomp import get_decompositions
from torch.fx.experimental.proxy_tensor import make_fx

Axis = Literal["row", "col", "scalar"]

ROWS, COLS = 1009, 1013
"""Size of the traced tile: two numbers by which its axes are known among all others."""

MOST_PARTS = 64
"""So long a third axis may be: each entry is a block of its own."""

aten = torch.ops.aten


class NotPrintable(Exception):  # noqa: N818  # not an error: such tile code is compiled instead
    """Tile code with an operator that is not pointwise, or that is not known here."""


@dataclass(frozen=True)
class Input:
    """A tensor of the call: one entry, or several, for each row, for each column, or one for all.

    Args:
        name: Under which it is found when the kernel is called.
        axis: What it is known of.
        dtype: Its type.
        trailing: Its shape but for that axis.
    """

    name: str
    axis: Axis
    dtype: torch.dtype
    trailing: tuple[int, ...] = ()

    @property
    def parts(self) -> int:
        """How many numbers an entry is."""
        return math.prod(self.trailing)

    def example(self) -> Tensor:
        """What it is traced with."""
        size = {"row": (ROWS,), "col": (COLS,), "scalar": ()}[self.axis]
        return torch.empty((*size, *self.trailing), dtype=self.dtype)


@dataclass(frozen=True)
class Traced:
    """Tile code as a graph.

    Args:
        graph: Of the inner products of a tile, and of the inputs, in this order.
        inputs: See there.
        outputs: Names of what it gives.
    """

    graph: fx.Graph
    inputs: tuple[Input, ...]
    outputs: tuple[str, ...]

    def dtype(self, output: str) -> torch.dtype:
        """Type of an output."""
        return self.node(output).meta["val"].dtype

    def shape(self, output: str) -> tuple[int, ...]:
        """Shape of an output of the traced tile."""
        return tuple(self.node(output).meta["val"].shape)

    def node(self, output: str) -> fx.Node:
        """Node of an output."""
        (found,) = self.graph.find_nodes(op="output")
        return found.args[0][self.outputs.index(output)]


def trace(
    function: Callable[[Tensor, Mapping[str, Tensor]], Mapping[str, Tensor]],
    inputs: Sequence[Input],
    dtype: torch.dtype,
) -> Traced:
    """Trace a function of the inner products of a tile, and of inputs by name; nothing is computed.

    Raises:
        NotPrintable: If it does something else to its tensors than making others.
    """
    names = [one.name for one in inputs]
    if any(one.parts > MOST_PARTS for one in inputs):
        raise NotPrintable("too many values of one row")
    outputs: list[str] = []

    def flat(product: Tensor, *given: Tensor) -> list[Tensor]:
        found = function(product, dict(zip(names, given, strict=True)))
        outputs[:] = list(found)
        return list(found.values())

    table: Any = get_decompositions([aten.softplus, aten.softplus_backward, aten.threshold_backward])
    product = torch.empty((), dtype=dtype).expand(ROWS, COLS)
    traced = make_fx(flat, decomposition_table=table, tracing_mode="fake")(product, *(one.example() for one in inputs))
    return Traced(traced.graph, tuple(inputs), tuple(outputs))


@dataclass(frozen=True)
class Value:
    """A printed number of each pair, row or column, or one for all.

    Args:
        parts: Expressions, several for a third axis.
        axes: Along which of rows (0) and columns (1) it varies.
        dtype: Its type.
        number: What it is, if that is known: it is printed in the type that it meets.
    """

    parts: tuple[str, ...]
    axes: frozenset[int]
    dtype: torch.dtype
    number: float | None = None


class Printer:
    """Prints what some outputs of a graph need, as the lines of a kernel.

    Args:
        traced: The tile code.
        given: What its inputs are called in the kernel, the product first.
        step: What is called the position of a column in the tile.
    """

    def __init__(self, traced: Traced, given: Sequence[Value], step: str) -> None:
        self.traced, self.step = traced, step
        self.lines: list[str] = []
        self.known: dict[str, str] = {}
        self.values: dict[fx.Node, Value] = {}
        self.used: set[Value] = set()
        self.values.update(zip(traced.graph.find_nodes(op="placeholder"), given, strict=True))

    def output(self, name: str) -> Value:
        """Print one output, and what it needs that has not been printed."""
        node = self.traced.node(name)
        waiting, needed = [node], set()
        while waiting:
            one = waiting.pop()
            if one.op == "placeholder":
                self.used.add(self.values[one])
            elif one not in needed and one not in self.values:
                needed.add(one)
                waiting += one.all_input_nodes
        for one in self.traced.graph.nodes:
            if one in needed:
                self.values[one] = self._printed(one)
        return self.values[node]

    def named(self, expression: str) -> str:
        """A variable of this value; the same expression is computed once."""
        if expression not in self.known:
            self.known[expression] = f"v{len(self.known)}"
            self.lines.append(f"{self.known[expression]} = {expression}")
        return self.known[expression]

    # -- operators

    def _printed(self, node: fx.Node) -> Value:
        if node.op == "get_attr":  # a number that the function made itself
            return self._constant(getattr(node.graph.owning_module, str(node.target)))
        name = str(getattr(node.target, "overloadpacket", node.target)).removeprefix("aten.")
        like = node.meta["val"]
        for names, method in (
            (POINTWISE, self._pointwise),
            (SAME, self._reshaped),
            (MADE, self._made),
            ({"pow"}, self._power),
            ({"sum"}, self._sum),
            ({"select"}, self._selected),
        ):
            if name in names and isinstance(like, Tensor):
                args = [self.values[x] if isinstance(x, fx.Node) else x for x in node.args]
                return method(_Call(name, node, args, like))
        raise NotPrintable(name)

    def _pointwise(self, call: "_Call") -> Value:
        name, dtype = call.name, call.like.dtype
        if name in OF_BOOLS and dtype != torch.bool:
            raise NotPrintable(name)
        operands = [x if isinstance(x, Value) else _number(float(x), dtype) for x in call.args]
        if (alpha := call.node.kwargs.get("alpha", 1)) != 1:
            raise NotPrintable(f"{name} with alpha={alpha}")
        fixed = _met(operands) if name in COMPARED else dtype
        kept = [self.cast(x, torch.bool if name == "where" and k == 0 else fixed) for k, x in enumerate(operands)]
        return self._each(POINTWISE[name], kept, dtype)

    def _each(self, printed: Callable[..., str], values: Sequence[Value], dtype: torch.dtype) -> Value:
        count = max(len(x.parts) for x in values)
        texts = [[self.text(x, k) for k in range(count)] for x in values]
        parts = tuple(self.named(printed(*each)) for each in zip(*texts, strict=True))
        return Value(parts, frozenset().union(*(x.axes for x in values)), dtype)

    def _reshaped(self, call: "_Call") -> Value:
        if call.name not in {"expand", "_to_copy"} and _long(call.shape) != _long(call.like.shape):
            raise NotPrintable(call.name)
        return self.cast(call.args[0], call.like.dtype)

    def _power(self, call: "_Call") -> Value:
        powers = {1: "{0}", 2: "{0} * {0}", 3: "{0} * {0} * {0}", 0.5: "tl.sqrt({0})"}
        if call.args[1] not in powers:
            raise NotPrintable(f"pow with {call.args[1]}")
        return self._each(powers[call.args[1]].format, [self.cast(call.args[0], call.like.dtype)], call.like.dtype)

    def _made(self, call: "_Call") -> Value:
        like, values = call.like, {"zeros": 0.0, "ones": 1.0}
        if call.name == "arange" and tuple(like.shape) == (COLS,):
            return Value((self.named(self.step),), frozenset({1}), torch.int32)
        if call.name in {"linspace", "arange"}:
            made: Any = call.node.target
            return self._constant(made(*call.node.args, **{**call.node.kwargs, "device": "cpu"}))
        kind = call.name.removeprefix("new_").removesuffix("_like")
        value = values[kind] if kind in values else call.args[0 if kind == "scalar_tensor" else -1]
        return _number(float(value), like.dtype)

    def _constant(self, x: Tensor) -> Value:
        if x.ndim > 1 or x.numel() > MOST_PARTS:
            raise NotPrintable("a constant of several axes")
        if x.ndim == 0:
            return _number(float(x), x.dtype)
        return Value(tuple(self._literal(float(each), x.dtype) for each in x), frozenset(), x.dtype)

    def _literal(self, number: float, dtype: torch.dtype) -> str:
        """A block of one entry: a bare number would be taken for float32."""
        text = f'float("{number}")' if math.isinf(number) else repr(number if dtype.is_floating_point else int(number))
        return self.named(f"tl.full([1, 1], {text}, {type_name(dtype)})")

    def cast(self, value: Value, dtype: torch.dtype) -> Value:
        """The same in another type; whole numbers are as long as they come."""
        if value.number is not None:
            return _number(value.number, dtype)
        whole = [not x.is_floating_point and x != torch.bool for x in (value.dtype, dtype)]
        if value.dtype == dtype or all(whole):
            return value
        if dtype == torch.bool:
            parts = tuple(self.named(f"{part} != 0") for part in value.parts)
        else:
            parts = tuple(self.named(f"{part}.to({type_name(dtype)})") for part in value.parts)
        return Value(parts, value.axes, dtype)

    def text(self, value: Value, k: int = 0) -> str:
        """Expression of one part; where there is one for all of the third axis, of that."""
        if value.number is not None:
            return self._literal(value.number, value.dtype)
        return value.parts[k if len(value.parts) > 1 else 0]

    def _sum(self, call: "_Call") -> Value:
        value, shape = self.cast(call.args[0], call.like.dtype), call.shape
        if value.number == 0:
            return value
        dims = {d % len(shape) for d in (call.args[1] if len(call.args) > 1 and call.args[1] else range(len(shape)))}
        third = len(shape) - 1 if shape and shape[-1] not in {1, ROWS, COLS} else None
        count = shape[third] if third in dims and third is not None else len(value.parts)
        parts, axes = [self.text(value, k) for k in range(count)], value.axes
        for axis, size in ((0, ROWS), (1, COLS)):
            if size not in {shape[d] for d in dims}:
                continue
            if axis not in axes:
                raise NotPrintable("a sum over pairs of what is not of pairs")
            parts = [self.named(f"tl.sum({part}, axis={axis}, keep_dims=True)") for part in parts]
            axes = axes - {axis}
        if third in dims:
            whole = parts[0]
            for part in parts[1:]:
                whole = self.named(f"{whole} + {part}")
            parts = [whole]
        return Value(tuple(parts), axes, call.like.dtype)

    def _selected(self, call: "_Call") -> Value:
        value, dim, index = call.args
        if call.shape[dim] in {ROWS, COLS}:
            raise NotPrintable("one row of a tile")
        if call.shape[dim] == 1 or len(value.parts) == 1:
            return value
        return Value((value.parts[index],), value.axes, value.dtype)


@dataclass(frozen=True)
class _Call:
    """An operator of the graph: its name, its node, its arguments as printed, and a tensor like its result."""

    name: str
    node: fx.Node
    args: list[Any]
    like: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the first argument."""
        first: Any = self.node.args[0]
        return tuple(first.meta["val"].shape)


def _number(number: float, dtype: torch.dtype) -> Value:
    return Value(("",), frozenset(), dtype, float(number))


def _met(values: Iterable[Value]) -> torch.dtype:
    """Type in which values are compared; a number takes that of what it meets."""
    types = [x.dtype for x in values if x.number is None] or [torch.float32]
    found = types[0]
    for each in types[1:]:
        found = torch.promote_types(found, each)
    return found


def _long(shape: Iterable[int]) -> list[int]:
    return [size for size in shape if size != 1]


def type_name(dtype: torch.dtype) -> str:
    """What a type is called in Triton."""
    return "tl.int1" if dtype == torch.bool else f"tl.{str(dtype).removeprefix('torch.')}"


SAME = {
    "unsqueeze",
    "squeeze",
    "expand",
    "view",
    "_unsafe_view",
    "detach",
    "alias",
    "clone",
    "lift_fresh_copy",
    "_to_copy",
}
"""Operators that print nothing, or another type."""

MADE = {
    "arange",
    "linspace",
    "scalar_tensor",
    "zeros_like",
    "new_zeros",
    "zeros",
    "ones_like",
    "new_ones",
    "ones",
    "full_like",
    "new_full",
    "full",
}
"""Operators that make numbers."""

OF_BOOLS = {"bitwise_and", "bitwise_or", "bitwise_not"}

COMPARED = {"eq", "ne", "lt", "le", "gt", "ge"}

POINTWISE: dict[str, Callable[..., str]] = {
    "add": lambda x, y: f"{x} + {y}",
    "sub": lambda x, y: f"{x} - {y}",
    "rsub": lambda x, y: f"{y} - {x}",
    "mul": lambda x, y: f"{x} * {y}",
    "div": lambda x, y: f"{x} / {y}",
    "neg": lambda x: f"-{x}",
    "reciprocal": lambda x: f"1.0 / {x}",
    "eq": lambda x, y: f"{x} == {y}",
    "ne": lambda x, y: f"{x} != {y}",
    "lt": lambda x, y: f"{x} < {y}",
    "le": lambda x, y: f"{x} <= {y}",
    "gt": lambda x, y: f"{x} > {y}",
    "ge": lambda x, y: f"{x} >= {y}",
    "bitwise_and": lambda x, y: f"{x} & {y}",
    "bitwise_or": lambda x, y: f"{x} | {y}",
    "logical_and": lambda x, y: f"{x} & {y}",
    "logical_or": lambda x, y: f"{x} | {y}",
    "bitwise_not": lambda x: f"{x} == 0",
    "logical_not": lambda x: f"{x} == 0",
    "where": lambda c, x, y: f"tl.where({c}, {x}, {y})",
    "maximum": lambda x, y: f"tl.maximum({x}, {y})",
    "minimum": lambda x, y: f"tl.minimum({x}, {y})",
    "clamp_min": lambda x, y: f"tl.maximum({x}, {y})",
    "clamp_max": lambda x, y: f"tl.minimum({x}, {y})",
    "relu": lambda x: f"tl.maximum({x}, 0.0)",
    "abs": lambda x: f"tl.abs({x})",
    "exp": lambda x: f"tl.exp({x})",
    "log": lambda x: f"tl.log({x})",
    "log1p": lambda x: f"log1p({x})",
    "sqrt": lambda x: f"tl.sqrt({x})",
    "rsqrt": lambda x: f"1.0 / tl.sqrt({x})",
    "sigmoid": lambda x: f"1.0 / (1.0 + tl.exp(-{x}))",
    "sigmoid_backward": lambda g, y: f"{g} * (1.0 - {y}) * {y}",
    "sgn": lambda x: f"tl.where({x} > 0, 1.0, 0.0) - tl.where({x} < 0, 1.0, 0.0)",
}
"""Operators whose result at a pair needs its operands at that pair."""
