"""Entry: generated code that unpacks Python arguments, runs a plan and packs the results."""

from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import Any

import numpy as np

from engine.core import FLOAT32, FLOAT64, INT64, Aval, DType, Symbol, Value, as_raw, trees
from engine.core.trees import Function, Tree
from engine.core.values import BOOL
from engine.plans.codegen.code import INDENT, Code
from engine.plans.codegen.emit import Emitter
from engine.plans.codegen.finiteness import FinitenessGuard
from engine.plans.codegen.kernel import is_finite_text
from engine.plans.codegen.structure import Structure
from engine.plans.plan import Plan
from engine.plans.trace import Trace

#: Types of Python and NumPy scalars that become arrays of a dtype.
_SCALARS: dict[DType, frozenset[type]] = {
    BOOL: frozenset([bool, np.bool_]),
    INT64: frozenset([np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32]),
    FLOAT32: frozenset([np.float16, np.float32]),
}


class OtherFormError(Exception):
    """Raised by generated code: the arguments do not have the form that it was generated for."""


class Entry:
    """Generated code for one form of arguments.

    function: unpacks positional arguments, checks their form, computes, and packs the results; raises OtherFormError
        for arguments of another form.
    nbytes: size in bytes, estimated.

    Args:
        trace: the trace; its inputs are called `x` and the number of the leaf.
        outputs: the values to compute.
        args: positional arguments of that form.
        avals: shapes and dtypes of all leaves, first those of positional arguments, then those of keywords.
        y: the result of the function, with the outputs as leaves.
    """

    def __init__(
        self, trace: Trace, outputs: Sequence[Symbol], args: tuple[Tree, ...], avals: Sequence[Aval], y: Tree
    ) -> None:
        self._plan = plan = Plan(trace, outputs)
        self._leaves = [int(name[1:]) for name in plan.names]
        #: The containers of the result, without symbols, which would keep the trace.
        self._form = trees.unflatten(y, repeat(...))
        guard = plan.guard
        structure = guard.structure
        self.function = self._written(structure, args, avals, guard)
        self.nbytes = plan.nbytes

    @property
    def source(self) -> str:
        """Return the code of the plan."""
        return self._plan.source

    def run(self, values: Sequence[Value]) -> Any:
        """Run the plan on the leaves of all arguments; return the result in its containers."""
        return trees.unflatten(self._form, iter(self._plan.fresh(*(values[k] for k in self._leaves))))

    def _written(
        self, structure: Structure, args: tuple[Tree, ...], avals: Sequence[Aval], guard: FinitenessGuard
    ) -> Function:
        emitter = Emitter(structure, is_guarded=False, buffers={})
        code = emitter.code
        code.names |= {"results": self._plan.fresh, "OtherFormError": OtherFormError}
        parameters = [f"p{k}" for k in range(len(args))]
        code.add(f"def entry({', '.join(parameters)}):")
        inputs = {leaf: f"x{k}" for k, leaf in enumerate(self._leaves)}
        reader = _Reader(code, avals, inputs)
        for item, text in zip(args, parameters, strict=True):
            reader.read(item, text)
        given = ", ".join(f"x{k}" for k in range(len(structure.inputs)))
        outputs = [f"y{k}" for k in range(guard.count)]
        kernel = self._plan.code.kernel
        if kernel.is_scalar and not kernel.is_long:
            body = [line for n in range(len(structure.steps)) for line, _ in emitter.emit(n)]
            outputs_text = [emitter.result(n) for n in structure.outputs]
            result = f"return {_packed(code, self._form, iter(outputs_text))}"
            if guard.watched:
                result = f"if {is_finite_text(dict.fromkeys(outputs_text[k] for k in guard.watched))}: {result}"
            for line in ["try:", *(INDENT + line for line in body), INDENT + result]:
                code.add(INDENT + line)
            code.add(f"{INDENT}except (ArithmeticError, ValueError):")
            code.add(f"{2 * INDENT}pass")
        code.add(f"{INDENT}{''.join(text + ', ' for text in outputs) or '()'} = results({given})")
        code.add(f"{INDENT}return {_packed(code, self._form, iter(outputs))}")
        function: Function = code.function()
        return function


def _packed(code: Code, tree: Tree, leaves: Iterator[str]) -> str:
    """Return an expression that packs leaves into the containers of `tree`."""
    if tree is None:
        return "None"
    if isinstance(tree, dict):
        items = (f"{code.bound('key', key)}: {_packed(code, item, leaves)}" for key, item in tree.items())
        return f"{{{', '.join(items)}}}"
    if isinstance(tree, list | tuple):
        listed = "".join(_packed(code, item, leaves) + ", " for item in tree)
        if type(tree) in (list, tuple):
            return f"[{listed}]" if type(tree) is list else f"({listed})"
        return f"{code.bound('container', type(tree))}({listed if hasattr(tree, '_fields') else f'({listed})'})"
    return next(leaves)


class _Reader:
    """Writer of the code that unpacks arguments and raises OtherFormError for those of another form."""

    def __init__(self, code: Code, avals: Sequence[Aval], inputs: dict[int, str]) -> None:
        self._code = code
        self._avals = avals
        self._inputs = inputs
        self._leaves = 0
        self._containers = 0

    def read(self, tree: Tree, text: str) -> None:
        """Write the code for an argument or a part of one, which `text` evaluates to."""
        if tree is None:
            self._unless(f"{text} is None")
        elif isinstance(tree, dict):
            keys = [self._code.bound("key", key) for key in tree]
            condition = f"type({text}) is dict and list({text}) == [{', '.join(keys)}]"
            if any(type(key) is not str for key in tree):
                # 1, True and 1.0 are equal keys.
                kinds = ", ".join(self._code.bound("kind", type(key)) for key in tree)
                condition += f" and [*map(type, {text})] == [{kinds}]"
            self._unless(condition)
            self._inside([(item, f"{text}[{key}]") for key, item in zip(keys, tree.values(), strict=True)])
        elif isinstance(tree, list | tuple):
            kind = self._code.bound("container", type(tree))
            self._unless(f"type({text}) is {kind} and len({text}) == {len(tree)}")
            self._inside([(item, f"{text}[{k}]") for k, item in enumerate(tree)])
        else:
            self._leaf(text)

    def _inside(self, items: Sequence[tuple[Tree, str]]) -> None:
        for item, text in items:
            if isinstance(item, dict | list | tuple):
                name = f"q{self._containers}"
                self._containers += 1
                self._code.add(f"{INDENT}{name} = {text}")
                self.read(item, name)
            else:
                self.read(item, text)

    def _leaf(self, text: str) -> None:
        known, name = self._avals[self._leaves], self._inputs.get(self._leaves, f"u{self._leaves}")
        self._leaves += 1
        self._code.add(f"{INDENT}{name} = {text}")
        if known.weak is float:
            # A Python number becomes a float if it is not one.
            numbers = f"type({name}) is int or {self._is_array(name, Aval((), FLOAT64))}"
            self._converted(f"type({name}) is float", numbers, name, f"{self._named('as_raw', as_raw)}({name})")
        elif known == Aval((), FLOAT64):
            self._unless(f"type({name}) is {self._named('float64', np.float64)}")
            self._code.add(f"{INDENT}{name} = float({name})")
        elif known.shape:
            self._unless(self._is_array(name, known))
        else:
            scalars = f"type({name}) in {self._code.bound('scalars', _SCALARS[known.dtype])}"
            array = f"{self._named('asarray', np.asarray)}({name}, {self._code.bound('dtype', known.dtype)})"
            self._converted(self._is_array(name, known), scalars, name, array)

    def _named(self, name: str, value: object) -> str:
        self._code.names[name] = value
        return name

    def _is_array(self, name: str, known: Aval) -> str:
        kind, dtype = self._named("ndarray", np.ndarray), self._code.bound("dtype", known.dtype)
        return f"type({name}) is {kind} and {name}.dtype is {dtype} and {name}.shape == {known.shape!r}"

    def _unless(self, condition: str, indent: str = INDENT) -> None:
        self._code.add(f"{indent}if not ({condition}):")
        self._code.add(f"{indent}{INDENT}raise OtherFormError")

    def _converted(self, is_so: str, can_be: str, name: str, text: str) -> None:
        """Write the code that converts a leaf unless `is_so`, if it `can_be` converted, by the expression `text`."""
        self._code.add(f"{INDENT}if not ({is_so}):")
        self._unless(can_be, 2 * INDENT)
        self._code.add(f"{2 * INDENT}{name} = {text}")
