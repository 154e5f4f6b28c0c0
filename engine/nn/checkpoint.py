"""Serialize variables, tapes, layers and optimizers as plain data, from which they are restored bit for bit.

Raw values stay unchanged. A writer must keep their dtype, shape and strides: sums round by the order in memory.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from engine.core.attributes import Attributes
from engine.core.table import OPERATIONS
from engine.core.values import Value
from engine.core.variable import Variable
from engine.nn.layers import Layer
from engine.nn.optimizers import Optimizer


class Record(NamedTuple):
    """A variable; it refers to others by their positions in the list of records.

    data, name, generation: as of the variable.
    grad: its gradient; None if it has none.
    op: the name of the row that computed it, None for a leaf.
    parents: its operands; None for one that is no variable.
    saved: their raw values at that time; None for one that is still the data of its parent.
    attrs: the row's attributes in canonical form.
    """

    data: Value
    name: str | None
    generation: int
    grad: int | None
    op: str | None
    parents: tuple[int | None, ...]
    saved: tuple[Value, ...]
    attrs: Attributes | None


def records(variables: Iterable[Variable]) -> list[Record]:
    """Return records of variables, in order and each once, then of all from which they were computed, and of gradients.

    >>> x = Variable(3.0, name="x")
    >>> y = x * x
    >>> [(r.data, r.op, r.parents) for r in records([y])]
    [(9.0, 'mul', (1, 1)), (3.0, None, ())]
    """
    found: list[Variable] = []
    positions: dict[int, int] = {}

    def position(v: Variable) -> int:
        if id(v) not in positions:
            positions[id(v)] = len(found)
            found.append(v)
        return positions[id(v)]

    for v in variables:
        position(v)
    written = []
    for v in found:  # grows during the loop
        parents = tuple(position(p) if type(p) is Variable else None for p in v._parents)
        saved = tuple(
            None if type(p) is Variable and p._data is raw else raw for p, raw in zip(v._parents, v._saved, strict=True)
        )
        grad = None if v._grad is None else position(v._grad)
        op = None if v._op is None else v._op.name
        written.append(Record(v._data, v.name, v.generation, grad, op, parents, saved, v._attrs))
    return written


def variables(written: Sequence[Record]) -> list[Variable]:
    """Return new variables for records: those that were given to `records`, then the others."""
    found = [Variable._leaf(record.data) for record in written]
    for v, record in zip(found, written, strict=True):
        v.name = record.name
        v.generation = record.generation
        v._grad = None if record.grad is None else found[record.grad]
        v._op = None if record.op is None else OPERATIONS[record.op]
        pairs = list(zip(record.parents, record.saved, strict=True))
        v._saved = tuple(found[p]._data if p is not None and raw is None else raw for p, raw in pairs)
        v._parents = tuple(raw if p is None else found[p] for p, raw in pairs)
        v._attrs = record.attrs
    return found


def memories(layer: Layer) -> dict[str, tuple[Variable, ...]]:
    """Return the memories of recurrent layers, by the names of `Layer.layers`."""
    return {name: found._memory for name, found in layer.layers().items() if found._memory}


def recall(layer: Layer, memories: Mapping[str, Sequence[Variable]]) -> None:
    """Restore the memories that `memories` returned for a layer of the same structure."""
    layers = layer.layers()
    for name, kept in memories.items():
        layers[name]._memory = tuple(kept)


def adopt(layer: Layer, params: Mapping[str, Variable]) -> None:
    """Replace parameters of a layer, made or not, by variables."""
    slots = layer.slots()
    for name, p in params.items():
        slot = slots[name]
        setattr(slot.layer, slot.attribute, p)


def steps(optimizer: Optimizer) -> tuple[int, dict[str, tuple[Value, ...]]]:
    """Return the number of steps that an optimizer has taken, and its state for each parameter."""
    return optimizer._steps, dict(optimizer._state)


def resume(optimizer: Optimizer, count: int, kept: Mapping[str, Sequence[Value]]) -> None:
    """Restore the number of steps and the state that `steps` returned for an optimizer of the same class."""
    optimizer._steps = count
    optimizer._state = {name: tuple(values) for name, values in kept.items()}
