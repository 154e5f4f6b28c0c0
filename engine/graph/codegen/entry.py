"""Entry: a program as a function of Python's own arguments, in whatever containers they come."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from engine import trees
from engine.graph.codegen.buffers import is_fresh
from engine.graph.codegen.code import INDENT, Code
from engine.graph.codegen.emit import Emitter
from engine.graph.codegen.forms import ARRAY, forms
from engine.graph.codegen.program import Program
from engine.graph.codegen.structure import Structure
from engine.graph.trace import Trace
from engine.symbol import Symbol
from engine.values import FLOAT64, Aval, Value

Function = Callable[..., Any]


class Entry:
    """The code for one form of arguments.

    function: takes the arguments apart, makes sure that they have that form, computes, and puts results together; with
        arguments of another form it calls `other`.

    Args:
        trace, outputs: what is computed; inputs are called x and the number of the leaf.
        args: arguments in that form.
        avals: of all leaves, those of keywords after these.
        y: the result, whose leaves are the outputs.
        other: what takes arguments of other forms.
    """

    def __init__(
        self,
        trace: Trace,
        outputs: Sequence[Symbol],
        args: tuple[Any, ...],
        avals: Sequence[Aval],
        y: Any,
        other: Function,
    ) -> None:
        structure = Structure(trace, outputs)
        self._program = Program(structure)
        self._constants = structure.constant_values(trace)
        self._leaves = [int(name[1:]) for name in structure.names]
        self._form = y
        self.nbytes = self._program.nbytes
        found, numbers = forms(structure.steps), structure.outputs
        #: What may be a view of an argument, a constant or another result is copied.
        self._copied = [
            k
            for k, n in enumerate(numbers)
            if found[n] == ARRAY and (not is_fresh(structure.steps[n]) or numbers.index(n) < k)
        ]
        self.function = self._written(structure, args, avals, other)

    @property
    def source(self) -> str:
        """The code that computes."""
        return self._program.source

    def run(self, values: Sequence[Value]) -> Any:
        """The result, from the leaves of all arguments."""
        return trees.filled(self._form, iter(self.results(*(values[k] for k in self._leaves))))

    def results(self, *given: Value) -> list[Value]:
        """The leaves of the result, from the inputs of the program."""
        found = self._program([*given, *self._constants])
        for k in self._copied:
            found[k] = np.array(found[k])
        return found

    def _written(self, structure: Structure, args: tuple[Any, ...], avals: Sequence[Aval], other: Function) -> Function:
        emitter = Emitter(structure, is_guarded=False, buffers={})
        code = emitter.code
        code.names |= {"other": other, "results": self.results, "ndarray": np.ndarray}
        parameters = [f"p{k}" for k in range(len(args))]
        code.add(f"def entry({', '.join(parameters)}):")
        inputs = {leaf: f"x{k}" for k, leaf in enumerate(self._leaves)}
        reader = _Reader(code, avals, inputs, parameters)
        for item, text in zip(args, parameters, strict=True):
            reader.read(item, text)
        given = ", ".join(f"x{k}" for k in range(len(structure.inputs)))
        outputs = [f"y{k}" for k in range(len(structure.outputs))]
        if self._program.is_scalar:
            body = [line for n in range(len(structure.steps)) for line, _ in emitter.emit(n)]
            outputs_text = [emitter.result(n) for n in structure.outputs]
            for line in [
                "try:",
                *(INDENT + line for line in body),
                f"{INDENT}return {self._packed(code, outputs_text)}",
            ]:
                code.add(INDENT + line)
            code.add(f"{INDENT}except (ArithmeticError, ValueError):")
            code.add(f"{2 * INDENT}pass")
        code.add(f"{INDENT}{''.join(text + ', ' for text in outputs) or '()'} = results({given})")
        code.add(f"{INDENT}return {self._packed(code, outputs)}")
        function: Function = code.function()
        return function

    def _packed(self, code: Code, texts: Sequence[str]) -> str:
        """An expression for the result in its containers."""
        leaves = iter(texts)

        def packed(tree: Any) -> str:
            if tree is None:
                return "None"
            if isinstance(tree, dict):
                return "{" + ", ".join(f"{code.bound('key', key)}: {packed(item)}" for key, item in tree.items()) + "}"
            if isinstance(tree, list | tuple):
                items = "".join(packed(item) + ", " for item in tree)
                if type(tree) in (list, tuple):
                    return f"[{items}]" if type(tree) is list else f"({items})"
                return f"{code.bound('container', type(tree))}({items if hasattr(tree, '_fields') else f'({items})'})"
            return next(leaves)

        return packed(self._form)


class _Reader:
    """Writes how arguments are taken apart, and that `other` takes those of another form."""

    def __init__(self, code: Code, avals: Sequence[Aval], inputs: dict[int, str], parameters: Sequence[str]) -> None:
        self._code = code
        self._avals = avals
        self._inputs = inputs
        self._given = ", ".join(parameters)
        self._leaves = 0
        self._containers = 0

    def read(self, tree: Any, text: str) -> None:
        """One argument, or what is inside of one, called `text`."""
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

    def _inside(self, items: Sequence[tuple[Any, str]]) -> None:
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
            self._unless(f"type({name}) is float")
            return
        if known == Aval((), FLOAT64):
            self._code.names["float64"] = np.float64
            self._unless(f"type({name}) is float64")
            self._code.add(f"{INDENT}{name} = float({name})")
            return
        dtype = self._code.bound("dtype", known.dtype)
        self._unless(f"type({name}) is ndarray and {name}.dtype is {dtype} and {name}.shape == {known.shape!r}")

    def _unless(self, condition: str) -> None:
        self._code.add(f"{INDENT}if not ({condition}):")
        self._code.add(f"{2 * INDENT}return other({self._given})")
