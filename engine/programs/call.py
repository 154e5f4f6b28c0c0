"""ProgramCall: a checked program with its inputs and the options of a run."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TypedDict, Unpack

from engine.core import (
    Faults,
    InvalidValueError,
    ShapeMismatchError,
    Symbol,
    UnknownNameError,
    Value,
    aval,
    listed,
    nearest,
    shape_of,
    test_mode,
)
from engine.graph import Graph, Limits, quoted
from engine.plans.plan import Plan, Plans
from engine.plans.trace import Trace
from engine.programs.declarations import misfit, other_inputs


class RunOptions(TypedDict, total=False):
    """Options of a run, accepted by every function that takes a program and its inputs.

    batched: inputs whose leading axis is a batch; results are stacked, as of one run per row.
    train: whether random operations are active; needs a seed if the program has any.
    seed: of random operations; each draws from a stream of its own, keyed by its place in the graph and by row.
    limits: bounds on the cost.
    plans: the cache of compiled code, which programs of equal structure share.
    """

    batched: Sequence[str]
    train: bool
    seed: int | None
    limits: Limits | None
    plans: Plans | None


@dataclass(frozen=True, slots=True)
class ProgramCall:
    """A checked program with its inputs; further fields as of `RunOptions`.

    rows: the number of rows of the batch; None without a batch.
    """

    graph: Graph
    inputs: dict[str, Value]
    batched: tuple[str, ...]
    rows: int | None
    train: bool
    seed: int | None
    limits: Limits
    plans: Plans | None

    @property
    def names(self) -> dict[str, str]:
        """Return the names of all nodes and aliases, name -> id of the node or name of the input."""
        return {i: i for node in self.graph.nodes for i in node.ids} | self.graph.aliases

    @property
    def known(self) -> dict[str, str]:
        """Return `names` with those of the inputs."""
        return {i.name: i.name for i in self.graph.inputs} | self.names

    def mode(self) -> AbstractContextManager[object]:
        """Return a context in which random operations are active or not, by `train`."""
        return nullcontext() if self.train else test_mode()

    def trace(self) -> Trace:
        """Return an empty trace with the limits of this call."""
        return Trace(self.limits)

    def plan(self, trace: Trace, outputs: Sequence[Symbol]) -> Plan:
        """Return the plan of some values of a trace."""
        return Plan(trace, outputs) if self.plans is None else self.plans.plan(trace, outputs)

    def values(self) -> dict[str, Value]:
        """Return the values of all inputs by name, with those of bound inputs."""
        return self.inputs | self.graph.bound


def check_call(graph: Graph, inputs: Mapping[str, Value], faults: Faults, **running: Unpack[RunOptions]) -> ProgramCall:
    """Return a program with its inputs; errors in them are added to `faults`, and the result is valid without any."""
    batched = tuple(running.get("batched", ()))
    train, seed = running.get("train", False), running.get("seed")
    _check_inputs(graph, inputs, batched, faults)
    if train and seed is None and any(node.op is not None and node.op.random for node in graph.nodes):
        faults.add(InvalidValueError, "train: true with a random operation needs a seed (an integer)", ("seed",))
    rows = next((shape_of(inputs[name])[0] for name in batched if shape_of(inputs.get(name, 0.0))), None)
    in_order = {i.name: inputs[i.name] for i in graph.inputs if i.name in inputs}
    limits = running.get("limits") or Limits()
    return ProgramCall(graph, in_order, batched, rows, train, seed, limits, running.get("plans"))


def _check_inputs(graph: Graph, inputs: Mapping[str, Value], batched: Sequence[str], faults: Faults) -> None:
    wanted = {i.name: i for i in graph.inputs}
    for name in inputs:
        if faults.is_full(InvalidValueError):
            break
        if name in graph.bound:
            msg = f"input {quoted(name)} is bound: its value is fixed and not given again"
            faults.add(InvalidValueError, msg, ("inputs", name))
        elif name not in wanted:
            msg = f"input {quoted(name)} is not used by the program{other_inputs(name, wanted)}"
            faults.add(InvalidValueError, msg, ("inputs", name))
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
        elif fault := misfit(declared, known, name in batched):
            faults.add(InvalidValueError, fault, ("inputs", name))
    lengths = {name: shape_of(inputs[name])[0] for name in batched if shape_of(inputs.get(name, 0.0))}
    if len(set(lengths.values())) > 1:
        found = listed([f"{name}: {n}" for name, n in lengths.items()])
        faults.add(ShapeMismatchError, f"batched: leading axes differ ({found})", ("batched",))
