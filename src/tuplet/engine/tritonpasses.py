"""The passes of a call by Triton kernels: what is traced, which kernels there are, and how they are called."""

import importlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Literal

import torch
from torch import Tensor

from tuplet.engine.execution import COMPILED
from tuplet.engine.program import Over
from tuplet.engine.tilecode import Spec, Values, score_grads, sum_type, terms_of
from tuplet.engine.tritoncode import Axis, Input, NotPrintable, Traced, trace
from tuplet.engine.tritonkernels import Kernel, Owner, Result, Sizes, Writer, sizes
from tuplet.engine.work import Work
from tuplet.errors import MissingExtraError, TupletError

logger = logging.getLogger(__name__)

Reduced = dict[str, tuple[Tensor, Tensor | None]]
"""What terms were reduced to by name, and of extremes the position."""

Given = Mapping[str, Tensor]

Kind = Literal["terms", "gradients", "local"]

OWNERS: tuple[Owner, ...] = ("row", "col")

PROGRAMS = 2
"""So many programs for each multiprocessor: where there are fewer blocks of rows, columns are shared out."""


# -- tile code as functions of products and inputs by name


def _homes(given: Given) -> dict[str, Values]:
    homes: dict[str, Values] = {"row": {}, "col": {}, "scalar": {}}
    for name, x in given.items():
        home, _, own = name.partition(":")
        homes.setdefault(home, {})[own] = x
    inside = homes["col"].pop("inside")
    homes["col"].setdefault("live", inside)
    return homes


def _terms(spec: Spec, product: Tensor, given: Given) -> dict[str, Tensor]:
    homes = _homes(given)
    sides = homes["row"], homes["col"], homes["scalar"]
    terms = terms_of(spec, product, *sides, swapped=False)
    return {f"term:{name}": term.masked() for name, term in terms.items()}


def _gradients(spec: Spec, product: Tensor, given: Given) -> dict[str, Tensor]:
    homes = _homes(given)
    sides = homes["row"], homes["col"], homes["scalar"]
    of_rows, of_cols = ((homes.get(f"by_{side}", {}), homes.get(f"found_{side}", {})) for side in ("rows", "cols"))
    grad_scores, grads = score_grads(spec, product, *sides, of_rows, of_cols if spec.one_set else None)
    if "col:square" in spec.needs_grad and not spec.one_set:
        grads["col:square"] = grad_scores.sum(0, dtype=sum_type(grad_scores)) * -0.5
    return {"product": grad_scores, **grads}


def _local(spec: Spec, product: Tensor, given: Given) -> dict[str, Tensor]:
    homes = _homes(given)
    ones = (
        torch.ones_like(homes["row"]["live"], dtype=product.dtype),
        torch.ones_like(homes["col"]["live"], dtype=product.dtype),
    )
    by = {"by_rows:loss": homes["row"].get("weight", ones[0])}
    if spec.one_set:
        by["by_cols:loss"] = homes["col"].get("weight", ones[1])
    return {**_terms(spec, product, given), **_gradients(spec, product, {**given, **by})}


FUNCTIONS: dict[Kind, Any] = {"terms": _terms, "gradients": _gradients, "local": _local}


@lru_cache(maxsize=1024)
def _traced(kind: Kind, spec: Spec, inputs: tuple[Input, ...], wide: torch.dtype) -> Traced:
    return trace(partial(FUNCTIONS[kind], spec), inputs, wide)


@lru_cache(maxsize=1024)
def _kernel(
    kind: Kind,
    spec: Spec,
    inputs: tuple[Input, ...],
    low: torch.dtype,
    owner: Owner,
    *,
    gradient: bool,
    whole: bool,
    on_cpu: bool,
) -> Kernel | None:
    """Written when it is asked for first; None if it would give nothing."""
    traced = _traced(kind, spec, inputs, torch.promote_types(low, torch.float32))
    results = [one for one in _results(traced, spec) if (one.over == "column") == (owner == "col")]
    if not results and not gradient:
        return None
    return Writer(traced, owner, results, low, gradient=gradient, whole=whole, on_cpu=on_cpu).written()


def _results(traced: Traced, spec: Spec) -> list[Result]:
    """Of both owners: terms by how they are reduced, derivatives by whose values they belong to."""
    found = []
    layout = {f"term:{name}": (monoid, over) for name, monoid, over, _ in spec.layout}
    overs: dict[str, Over] = {"row": "row", "col": "column", "scalar": "all"}
    for name in traced.outputs:
        dtype, shape = traced.dtype(name), traced.shape(name)
        if name in layout:
            monoid, over = layout[name]
            whole = torch.int32 if dtype == torch.bool else torch.int64
            found.append(Result(name, monoid, over, dtype if dtype.is_floating_point else whole, shape[2:]))
        elif name != "product":
            over = overs[name.partition(":")[0]]
            found.append(Result(name, "add", over, dtype, shape[0 if over == "all" else 1 :]))
    return found


@dataclass(frozen=True)
class Kernels:
    """The kernels of one call, and what they are called with.

    Args:
        spec: What is fixed about the tile code.
        a: Anchors as operands of products, (rows, dim).
        r: References, (cols, dim).
        tensors: Values of rows, columns and the call by name.
        precision: How Triton multiplies float32.
        goals: Where the gradients of anchors and of references go, as far as they are asked for.
        sums: The same of values, by name.
    """

    spec: Spec
    a: Tensor
    r: Tensor
    tensors: Values
    precision: str
    goals: Mapping[Owner, Tensor]
    sums: Values

    @classmethod
    def of(
        cls,
        spec: Spec,
        sides: tuple[Tensor, Tensor],
        values: Sequence[Values],
        precision: str,
        goals: Mapping[Owner, Tensor],
        sums: Values,
    ) -> "Kernels":
        """Kernels of a spec, for anchors and references and the values of rows, of columns, and of the call."""
        rows, cols, scalars = values
        tensors = {f"row:{name}": x for name, x in rows.items()}
        tensors |= {f"col:{name}": x for name, x in cols.items() if name not in {"place", "begin", "new"}}
        tensors |= {f"scalar:{name}": x for name, x in scalars.items()}
        a, r = sides
        return cls(spec, a.contiguous(), r.flatten(0, -2).contiguous(), tensors, precision, goals, sums)

    @property
    def sizes(self) -> Sizes:
        """Of blocks."""
        return sizes(self.a.shape[1], self.a.dtype, self.a.device)

    def inputs(self, more: tuple[Input, ...] = ()) -> tuple[Input, ...]:
        """Of tile code: the values of the call, what a kernel knows by itself, and further ones."""
        axes: dict[str, tuple[Axis, int]] = {"row": ("row", 1), "col": ("col", 1), "scalar": ("scalar", 0)}
        found = []
        for name, x in self.tensors.items():
            axis, first = axes[name.partition(":")[0]]
            found.append(Input(name, axis, x.dtype, tuple(x.shape[first:])))
        fixed = (
            Input("col:begin", "scalar", torch.int64),
            Input("col:new", "scalar", torch.int64),
            Input("col:inside", "col", torch.bool),
        )
        return (*found, *fixed, *more)

    def derivatives(self) -> tuple[Input, ...]:
        """What the gradient of a score needs beside the values: derivatives by the reduced terms, and these."""
        wide = torch.promote_types(self.a.dtype, torch.float32)
        terms = {one.name: one for one in _results(_traced("terms", self.spec, self.inputs(), wide), self.spec)}
        found = []
        for name, monoid, over, counts in self.spec.layout:
            if counts:
                continue
            term = terms[f"term:{name}"]
            for side in ("rows", "cols") if self.spec.one_set else ("rows",):
                axes = ("row", "col") if side == "rows" else ("col", "row")
                axis: Any = {"row": axes[0], "column": axes[1], "all": "scalar"}[over]
                found.append(Input(f"by_{side}:{name}", axis, term.dtype, term.trailing))
                if monoid != "total":
                    dtype = term.dtype if monoid == "lse" else torch.int64
                    found.append(Input(f"found_{side}:{name}", axis, dtype, term.trailing))
        return tuple(found)

    def can_be_written(self, kinds: Sequence[Kind]) -> bool:
        """Whether the tile code of this program can be printed."""
        try:
            for kind in kinds:
                self.kernels(kind)
        except NotPrintable as error:
            logger.debug("No kernel for %s: %s.", self.spec.program, error)
            return False
        return True

    def kernels(self, kind: Kind) -> list[tuple[Kernel, Tensor | None]]:
        """Those of rows and of columns that have something to give, and where the gradient of embeddings goes."""
        found = []
        more = self.derivatives() if kind == "gradients" else ()
        for owner in OWNERS:
            goal = None if kind == "terms" else self.goals.get(owner)
            whole = self.sizes.inner == self.sizes.outer >= self.a.shape[1]
            inputs = self.inputs(more)
            how = {"gradient": goal is not None, "whole": whole, "on_cpu": self.a.device.type == "cpu"}
            kernel = _kernel(kind, self.spec, inputs, self.a.dtype, owner, **how)
            if kernel is not None:
                found.append((kernel, goal))
        return found

    def reduced(self) -> Reduced:
        """What the terms are reduced to, over rows, columns and the whole matrix."""
        found: Reduced = {}
        for kernel, _ in self.kernels("terms"):
            found |= self.call(kernel, {})
        return {name.removeprefix("term:"): x for name, x in found.items()}

    def local(self) -> Reduced:
        """What the terms of a local program are reduced to; its gradients come at once."""
        if not self.spec.needs_grad:
            return self.reduced()
        found = self._differentiated("local", {})
        return {name.removeprefix("term:"): x for name, x in found.items()}

    def backward(self, by: Values, found: Given) -> None:
        """Gradients from the derivatives by what the terms were reduced to, and from these."""
        homes = {"by": by, "found": found}
        given = {one.name: homes[one.name.partition("_")[0]][one.name.partition(":")[2]] for one in self.derivatives()}
        self._differentiated("gradients", given)

    def _differentiated(self, kind: Kind, given: Values) -> Reduced:
        """Run kernels that give gradients; what they give beside these and derivatives by values are terms."""
        terms: Reduced = {}
        for kernel, goal in self.kernels(kind):
            for name, found in self.call(kernel, given, goal).items():
                if name in self.sums:
                    self.sums[name] += found[0]
                else:
                    terms[name] = found
        return terms

    def call(self, kernel: Kernel, given: Values, goal: Tensor | None = None) -> Reduced:
        """Run a kernel; the gradient goes into `goal`."""
        (n, dim), m, size = self.a.shape, len(self.r), self.sizes
        own, other = (n, m) if kernel.owner == "row" else (m, n)
        blocks, parts, stride = -(-own // size.own), 1, other
        if not kernel.gradient:
            most = min(_programs(self.a.device) // blocks, -(-other // size.other))
            stride = -(-other // (max(1, most) * size.other)) * size.other
            parts = -(-other // stride)
        tensors = self.tensors | given
        buffers = [
            [
                self.a.new_empty((parts * blocks if one.over == "all" else parts * own) * one.parts, dtype=kept)
                for kept in one.kept
            ]
            for one in kernel.results
        ]
        arguments = [tensors[one.name].contiguous() for one in kernel.inputs]
        arguments += [x for each in buffers for x in each]
        if goal is not None:
            arguments.append(goal)
        grid = blocks, -(-dim // size.outer) if kernel.gradient else parts
        kernel.function[grid](
            self.a,
            self.r,
            *arguments,
            n,
            m,
            stride,
            DIM=dim,
            BM=size.own if kernel.owner == "row" else size.other,
            BN=size.other if kernel.owner == "row" else size.own,
            BK=size.inner,
            BD=size.outer,
            PREC=self.precision,
            num_warps=size.warps,
            num_stages=size.stages,
        )
        found: Reduced = {}
        for one, each in zip(kernel.results, buffers, strict=True):
            shape = () if one.over == "all" else (own,)
            found[one.name] = _merged(one, [x.view(-1, *shape, *one.trailing) for x in each])
        return found


def _merged(result: Result, parts: list[Tensor]) -> tuple[Tensor, Tensor | None]:
    """What the programs that had the same rows found together."""
    first = parts[0]
    match result.monoid:
        case "lse":
            peak = first.amax(0)
            base = torch.where(peak == -torch.inf, 0.0, peak)  # of nothing
            return (parts[1] * (first - base).exp()).sum(0).log() + base, None
        case "largest" | "smallest":
            best = first.amax(0) if result.monoid == "largest" else first.amin(0)
            at = (first == best).to(torch.uint8).argmax(0, keepdim=True)  # the first, as max does not promise
            return best, parts[1].gather(0, at)[0].long()
    return first.sum(0), None


def kernels_of(work: Work, *, local: bool) -> Kernels | None:
    """The kernels of a call, if they are asked for and can be written."""
    spec, problem = work.spec, work.problem
    if problem.budget.kernels is None or problem.ring is not None or spec.centers > 1 or spec.program.whole_rows:
        return None
    goals: dict[Owner, Tensor] = {}
    if work.grad_a is not None:
        goals["row"] = work.grad_a
    if work.grad_r is not None:
        goals["col"] = work.grad_r.flatten(0, -2)
    sides = work.mine, work.theirs
    kernels = Kernels.of(spec, sides, (work.rows, work.cols, work.scalars), problem.budget.kernels, goals, work.sums)
    kinds: list[Kind] = ["local" if local and spec.needs_grad else "terms"]
    if spec.needs_grad and not local:
        kinds.append("gradients")
    return kernels if kernels.can_be_written(kinds) else None


def require_triton(device: torch.device) -> None:
    """Refuse to begin where Triton is not installed, or cannot run.

    Raises:
        MissingExtraError: If it is not installed.
        TupletError: If there is no accelerator that it compiles for.
    """
    try:
        triton = importlib.import_module("triton")
    except ImportError:
        raise MissingExtraError('engine="triton" needs Triton.', package="triton") from None
    interpreted = not isinstance(triton.language.zeros, triton.JITFunction)
    if device.type not in COMPILED and not interpreted:
        raise TupletError(
            f'engine="triton" compiles for accelerators; the embeddings are on {device.type!r}.',
            hint='Take engine="auto" there. For tests, TRITON_INTERPRET=1 in the environment runs kernels on a CPU.',
            reference="triton-on-a-cpu",
        )


def _programs(device: torch.device) -> int:
    """How many programs keep a device busy."""
    if device.type != "cuda":
        return 2 * PROGRAMS
    return PROGRAMS * torch.cuda.get_device_properties(device).multi_processor_count
