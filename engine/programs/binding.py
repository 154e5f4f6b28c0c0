"""Binding: fix the values of some inputs of a program."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from engine.core import Faults, InvalidValueError, UnknownNameError, Value, aval, canonical, frozen
from engine.graph import Graph, quoted
from engine.programs.declarations import misfit, other_inputs


def bind(graph: Graph, values: Mapping[str, Value]) -> Graph:
    """Return the program with some of its inputs fixed: they move from `inputs` to `bound`.

    values: name -> raw value of the declared shape and dtype; writeable arrays are copied.

    Raises:
        UnknownNameError: the program has no such input.
        InvalidValueError: an input is bound already, or a value does not fit its declaration.

    >>> from engine.programs.text.parser import parse
    >>> bound = bind(parse("a * x"), {"a": 2.0})
    >>> [i.name for i in bound.inputs], bound.bound
    (['x'], {'a': 2.0})
    """
    declared = {i.name: i for i in graph.inputs}
    faults = Faults()
    for name, value in values.items():
        loc = ("bind", name)
        if name in graph.bound:
            faults.add(InvalidValueError, f"bind: {quoted(name)} is bound already; its value is fixed for good", loc)
        elif name not in declared:
            msg = f"bind: the program has no input {quoted(name)}{other_inputs(name, declared)}"
            faults.add(UnknownNameError, msg, loc)
        elif fault := misfit(declared[name], aval(value)):
            faults.add(InvalidValueError, f"bind: {fault}", loc)
    faults.check()
    fixed = {name: _fixed(value) for name, value in values.items()}
    free = tuple(i for i in graph.inputs if i.name not in fixed)
    return replace(graph, inputs=free, bound={**graph.bound, **fixed})


def _fixed(value: Value) -> Value:
    known = canonical(value)
    return frozen(known) if isinstance(known, np.ndarray) else known
