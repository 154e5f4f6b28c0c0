"""Forward and backward of a program: everything is checked and its cost known before anything runs."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.config import no_grad, test_mode
from engine.errors import (
    Faults,
    InvalidValueError,
    Loc,
    NotDifferentiableError,
    ShapeMismatchError,
    UnknownNameError,
)
from engine.graph.cost import Cost, Inference, infer
from engine.graph.interpret import interpret
from engine.graph.ir import Graph
from engine.graph.limits import Limits, check_limit
from engine.graph.names import quoted
from engine.table import listed, nearest
from engine.values import BOOL, FLOAT32, Aval, Value, aval, canonical, shape_of
from engine.variable import Variable

#: A batch may run as many times the nodes that a program may have: rows run one by one, some microseconds a node.
_BATCH = 50


@dataclass(frozen=True, slots=True)
class Backward:
    """What to differentiate: see the fields of the same names in the wire contract."""

    of: str | None = None
    wrt: tuple[str, ...] | None = None
    cotangent: Value | None = None
    retain_grad: bool = False


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Values by output, gradients by name of `wrt`, and with retain_grad those of every floating node."""

    values: dict[str, Value]
    grads: dict[str, Value] | None = None
    node_grads: dict[str, Value] | None = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """A program that was checked with its inputs; `run` computes."""

    graph: Graph
    inputs: dict[str, Value]
    outputs: dict[str, str]
    of: str | None
    wrt: dict[str, str]
    cotangent: Value | None
    retain_grad: bool
    batched: tuple[str, ...]
    rows: int | None
    train: bool
    seed: int | None
    avals: dict[str, Aval]
    cost: Cost

    def run(self) -> Evaluation:
        """Computes values and gradients."""
        with np.errstate(all="ignore"), nullcontext() if self.train else test_mode():
            if self.rows is None:
                return self._run(self.inputs, self.cotangent, ())
            return self._stack([self._run(*self._row(i), (i,)) for i in range(self.rows)])

    def _row(self, i: int) -> tuple[dict[str, Value], Value | None]:
        inputs = {name: canonical(x[i]) if name in self.batched else x for name, x in self.inputs.items()}
        return inputs, None if self.cotangent is None else canonical(np.asarray(self.cotangent)[i])

    def _run(self, inputs: dict[str, Value], cotangent: Value | None, row: tuple[int, ...]) -> Evaluation:
        def stream(place: int) -> np.random.Generator:
            return np.random.Generator(np.random.PCG64(np.random.SeedSequence(self.seed or 0, spawn_key=(place, *row))))

        leaves = {name: Variable._leaf(x) for name, x in inputs.items()}
        if self.of is None:
            with no_grad():
                values = interpret(self.graph, leaves, _lifted, stream)
            return Evaluation(self._values(values))
        values = interpret(self.graph, leaves, _lifted, stream)
        root = values[self.of]
        if type(root) is Variable:
            retain = self.retain_grad or any(i not in leaves for i in self.wrt.values())
            root.backward(retain_grad=retain, cotangent=cotangent)
        grads = {name: self._grad(i, values[i]) for name, i in self.wrt.items()}
        node_grads = None
        if self.retain_grad:
            node_grads = {name: self._grad(name, values[name]) for name in self._computed()}
        return Evaluation(self._values(values), grads, node_grads)

    def _values(self, values: Mapping[str, Any]) -> dict[str, Value]:
        return {name: _raw(values[node]) for name, node in self.outputs.items()}

    def _grad(self, name: str, value: Any) -> Value:
        grad = value.grad if type(value) is Variable else None
        if grad is not None:
            return grad._data
        known = self.avals[name]
        return canonical(np.zeros(known.shape, known.dtype if known.is_floating else float))

    def _stack(self, rows: list[Evaluation]) -> Evaluation:
        def stacked(pick: Callable[[Evaluation], dict[str, Value]], names: Mapping[str, str]) -> dict[str, Value]:
            if rows:
                return {name: np.stack([np.asarray(pick(row)[name]) for row in rows]) for name in names}
            return {name: np.zeros((0, *self.avals[i].shape), self.avals[i].dtype) for name, i in names.items()}

        grads = node_grads = None
        if self.of is not None:
            grads = stacked(lambda row: row.grads or {}, self.wrt)
            if self.retain_grad:
                node_grads = stacked(lambda row: row.node_grads or {}, {name: name for name in self._computed()})
        return Evaluation(stacked(lambda row: row.values, self.outputs), grads, node_grads)

    def _computed(self) -> list[str]:
        """Nodes that a gradient can be kept for: floating, and not made of literals alone."""
        names = [i for node in self.graph.nodes for i in node.ids]
        return [i for i in names if self.avals[i].is_floating and not self.avals[i].weak]


def prepare(
    graph: Graph,
    inputs: Mapping[str, Value],
    *,
    outputs: Sequence[str] | str | None = None,
    backward: Backward | None = None,
    batched: Sequence[str] = (),
    train: bool = False,
    seed: int | None = None,
    limits: Limits | None = None,
) -> Prepared:
    """Checks a program with its inputs and finds its cost; nothing is computed.

    Args:
        graph: a program.
        inputs: a raw value for each of its inputs.
        outputs: names to return: None for the program's, "all" for every node.
        backward: what to differentiate; None for forward only.
        batched: inputs whose leading axis is a batch; the answer is that of one run a row, stacked.
        train: random operations are active; needs a seed where there are any.
        seed: of random operations; each draws from a stream of its own, keyed by its place in the graph and by row.
        limits: what it may cost.

    Raises:
        AutogradError: of the kind that the wire contract names for the fault.
    """
    faults = Faults()
    _check_inputs(graph, inputs, batched, faults)
    if train and seed is None and any(node.op is not None and node.op.random for node in graph.nodes):
        faults.add(InvalidValueError, "train: true with a random operation needs a seed (an integer)", ("seed",))
    nodes = {i: i for node in graph.nodes for i in node.ids} | graph.aliases
    known = {i.name: i.name for i in graph.inputs} | nodes
    names = nodes if isinstance(outputs, str) else _outputs(graph, outputs, known, faults)
    of = _of(graph, backward, known, faults) if backward else None
    for place, name in enumerate((backward.wrt if backward else None) or ()):
        _check_known("wrt", name, known, ("backward", "wrt", place), faults)
    faults.check()

    rows = shape_of(inputs[batched[0]])[0] if batched else None
    avals = {name: _row_aval(x, name in batched) for name, x in inputs.items()}
    with nullcontext() if train else test_mode():
        inference = infer(graph, avals, limits, backward is not None)
    shared = sum(avals[i.name].nbytes for i in graph.inputs if i.name not in batched)
    cost = inference.cost if rows is None else _batch_cost(inference.cost, rows, shared, limits or Limits())
    wrt = _wrt(graph, backward, known, inference, faults) if backward else {}
    if backward and of is not None:
        _check_cotangent(backward, of, inference.avals[of], rows, faults)
    faults.check()
    answered = [*names.values(), *wrt.values()]
    if backward and backward.retain_grad:
        answered += inference.avals
    _check_answer([inference.avals[name] for name in answered], rows, limits or Limits())
    return Prepared(
        graph=graph,
        inputs={i.name: inputs[i.name] for i in graph.inputs},
        outputs=names,
        of=of,
        wrt=wrt,
        cotangent=backward.cotangent if backward else None,
        retain_grad=backward.retain_grad if backward else False,
        batched=tuple(batched),
        rows=rows,
        train=train,
        seed=seed,
        avals=inference.avals,
        cost=cost,
    )


def _lifted(constant: Value, is_weak: bool) -> Any:
    return constant if is_weak else Variable._leaf(constant)


def _raw(value: Any) -> Value:
    """What a name stands for; a number by itself is float64."""
    return value._data if type(value) is Variable else canonical(float(value) if type(value) is int else value)


def _row_aval(x: Value, is_batched: bool) -> Aval:
    known = aval(x)._replace(weak=None)
    return known._replace(shape=known.shape[1:]) if is_batched else known


def _batch_cost(cost: Cost, rows: int, shared: int, limits: Limits) -> Cost:
    """The cost of all rows, which share the bytes of what is not batched."""
    cost = Cost(cost.nodes * rows, (cost.bytes - shared) * rows + shared, cost.flops * rows)
    check_limit("nodes", cost.nodes, _BATCH * limits.max_nodes, f"a batch of {rows} rows")
    check_limit("bytes", cost.bytes, limits.max_bytes, f"a batch of {rows} rows")
    check_limit("flops", cost.flops, limits.max_flops, f"a batch of {rows} rows")
    return cost


def _check_answer(avals: Sequence[Aval], rows: int | None, limits: Limits) -> None:
    """Holds all values of an answer together to the limit of one: aliases cost nothing but here."""
    elements = sum(known.size for known in avals) * (1 if rows is None else rows)
    check_limit("elements", elements, limits.max_elements, "the answer")


def _check_inputs(graph: Graph, inputs: Mapping[str, Value], batched: Sequence[str], faults: Faults) -> None:
    wanted = {i.name: i for i in graph.inputs}
    for name in inputs:
        if faults.is_full(InvalidValueError):
            break
        if name not in wanted:
            near = nearest(name, wanted) or f"; it has {listed(list(wanted)) or 'no inputs'}"
            faults.add(InvalidValueError, f"input {quoted(name)} is not used by the program{near}", ("inputs", name))
    for name in batched:
        if name not in wanted:
            faults.add(InvalidValueError, f'batched: "{name}" is no input{nearest(name, wanted)}', ("batched",))
    for name, declared in wanted.items():
        if name not in inputs and faults.is_full(UnknownNameError):
            continue
        if name not in inputs:
            faults.add(
                UnknownNameError, f"input {quoted(name)} is missing{nearest(name, list(inputs))}", ("inputs", name)
            )
            continue
        known = aval(inputs[name])
        if name in batched and not known.shape:
            msg = f'batched: input "{name}" is a scalar; expected a leading axis of rows'
            faults.add(ShapeMismatchError, msg, ("inputs", name))
        elif declared.shape is not None and not _fits(known.shape[name in batched :], declared.shape):
            expected = [-1 if n is None else n for n in declared.shape]
            msg = f'input "{name}" has shape {list(known.shape)}; declared {expected}'
            faults.add(InvalidValueError, msg, ("inputs", name))
        elif declared.dtype is not None and known.dtype != declared.dtype:
            msg = f'input "{name}" has dtype {known.dtype}; declared {declared.dtype}'
            faults.add(InvalidValueError, msg, ("inputs", name))
    lengths = {name: shape_of(inputs[name])[0] for name in batched if shape_of(inputs.get(name, 0.0))}
    if len(set(lengths.values())) > 1:
        found = listed([f"{name}: {n}" for name, n in lengths.items()])
        faults.add(ShapeMismatchError, f"batched: leading axes differ ({found})", ("batched",))


def _fits(shape: tuple[int, ...], declared: tuple[int | None, ...]) -> bool:
    return len(shape) == len(declared) and all(d in (None, n) for n, d in zip(shape, declared, strict=True))


def _check_known(field: str, name: str, known: Mapping[str, str], loc: Loc, faults: Faults) -> None:
    if name not in known and not faults.is_full(UnknownNameError):
        msg = f"{field}: there is no input or node {quoted(name)}{nearest(name, list(known))}"
        faults.add(UnknownNameError, msg, loc)


def _outputs(graph: Graph, outputs: Sequence[str] | None, known: Mapping[str, str], faults: Faults) -> dict[str, str]:
    if outputs is None:
        return {output.name: output.id for output in graph.outputs}
    for place, name in enumerate(outputs):
        _check_known("outputs", name, known, ("outputs", place), faults)
    return {name: known[name] for name in outputs if name in known}


def _of(graph: Graph, backward: Backward, known: Mapping[str, str], faults: Faults) -> str | None:
    if backward.of is not None:
        _check_known("of", backward.of, known, ("backward", "of"), faults)
        return known.get(backward.of)
    if len(graph.outputs) == 1:
        return graph.outputs[0].id
    names = ", ".join(output.name for output in graph.outputs)
    msg = f"of: the program has {len(graph.outputs)} outputs ({names}); say which one to differentiate"
    faults.add(InvalidValueError, msg, ("backward", "of"))
    return None


def _wrt(
    graph: Graph, backward: Backward, known: Mapping[str, str], inference: Inference, faults: Faults
) -> dict[str, str]:
    if backward.wrt is None:
        return {i.name: i.name for i in graph.inputs if inference.avals[i.name].is_floating}
    for place, name in enumerate(backward.wrt):
        found = inference.avals[known[name]]
        loc = ("backward", "wrt", place)
        if not found.is_floating:
            faults.add(NotDifferentiableError, f'wrt: "{name}" has dtype {found.dtype}; expected a floating one', loc)
        elif found.weak:
            faults.add(NotDifferentiableError, f'wrt: "{name}" is made of literals alone; make it an input', loc)
    return {name: known[name] for name in backward.wrt}


def _check_cotangent(backward: Backward, of: str, known: Aval, rows: int | None, faults: Faults) -> None:
    if not known.is_floating:
        msg = f'of: "{of}" has dtype {known.dtype}; expected a floating output'
        faults.add(NotDifferentiableError, msg, ("backward", "of"))
    if backward.cotangent is not None and aval(backward.cotangent).dtype == BOOL:
        msg = "cotangent: expected numbers, got true or false"
        faults.add(InvalidValueError, msg, ("backward", "cotangent"))
    if known.dtype == FLOAT32 and backward.cotangent is not None:
        with np.errstate(all="ignore"):
            narrow = np.asarray(backward.cotangent, FLOAT32)
        if (np.isinf(narrow) & np.isfinite(backward.cotangent)).any():
            msg = "cotangent: a number is more than float32, the dtype of the output, holds"
            faults.add(InvalidValueError, msg, ("backward", "cotangent"))
    expected = known.shape if rows is None else (rows, *known.shape)
    if backward.cotangent is not None and shape_of(backward.cotangent) != expected:
        given = list(shape_of(backward.cotangent))
        msg = f'cotangent: shape {given}; expected that of "{of}", {list(expected)}'
        faults.add(ShapeMismatchError, msg, ("backward", "cotangent"))
