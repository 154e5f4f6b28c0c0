"""Compile Python functions of numbers and arrays: trace them once for each form of arguments, and run generated code.

>>> from engine import functions as F
>>> from engine.transforms import value_and_grad
>>> step = compile(value_and_grad(lambda x: F.square(F.exp(F.square(x)))))
>>> step(0.5)
(1.648721270700128, 3.297442541400256)
"""

import functools
import inspect
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Generic, Never, Protocol, TypeVar

import numpy as np

from engine.core import (
    FLOAT64,
    NATURAL,
    NUMBER,
    Attribute,
    Aval,
    InvalidValueError,
    Lru,
    Result,
    Symbol,
    Tracer,
    Value,
    Variable,
    as_raw,
    aval,
    end,
    trees,
)
from engine.core.trees import Function, Tree
from engine.plans.codegen.code import defined
from engine.plans.codegen.kernel import Kernel
from engine.plans.plan import Plan
from engine.plans.trace import FOREIGN, Trace
from engine.transforms.arguments import Entry, OtherFormError
from engine.transforms.calls import check_hidden, choose, next_level, with_chosen
from engine.transforms.derivatives import grad


class Sized(Protocol):
    """Object with a size in bytes."""

    nbytes: int


Code = TypeVar("Code", bound=Sized)

#: Bounds on the forms of arguments for which a compiled function keeps code, least recently used evicted first.
_FORMS_KEPT = 64
_BYTES_KEPT = 2**28
#: Number of recent forms that are tried before the form of the arguments is computed.
_RECENT = 4
#: Number of arguments, and the code for one form of them.
_Coded = tuple[int, Function]
#: Names in the generated wrapper, which parameters cannot have.
_NAMES = ("latest", "find", "OtherFormError")


def _fits_nothing(*args: object) -> Never:
    raise OtherFormError


_NONE: _Coded = (-1, _fits_nothing)


def compile(f: Function) -> Function:
    """Compile a function to code, for loops and servers; `compiled` is the same, to be used as a decorator.

    f: takes and returns numbers, arrays, and nested lists, tuples and dicts of them. It is called once for each form
        of arguments (containers, shapes, dtypes, numbers or arrays) on symbols in place of values: it cannot branch on
        values, and globals and closures keep the values that they had then. Transforms can be applied inside
        (`compile(value_and_grad(loss))`) and outside.
    Returns a function of the same arguments. Results are equal to those of `f` within a few units in the last place,
    and share no memory with other values. Its attribute `source(*args)` returns the code.

    >>> @compiled
    ... def energy(p):
    ...     return p["m"] * p["v"] ** 2 / 2
    >>> energy({"m": 2.0, "v": 3.0})
    9.0
    >>> print(energy.source({"m": 2.0, "v": 3.0}))
    def plan(x0, x1):
        v5 = (x0 * (x1 * x1)) / 2.0
        return (v5, )
    <BLANKLINE>

    Raises (when called):
        InvalidValueError: the function branches on a value, uses a variable, or takes or returns an object that is not
            a value.
        NotSupportedError: it draws random numbers.
    """
    return _Compiled(f).function()


compiled = compile


class _Forms(Generic[Code]):
    """Cache of code by form of arguments, safe for threads."""

    def __init__(self) -> None:
        self._made: Lru[Hashable, Code] = Lru(_FORMS_KEPT, _BYTES_KEPT)

    def get(self, tree: Tree, avals: list[Aval], make: Callable[[], Code]) -> Code:
        """Return the code for arguments in these containers, of these shapes and dtypes; compile it on first use."""
        key = (_hashable(trees.structure(tree)), *avals)
        return self._made.get_or_make(key, make, lambda code: code.nbytes)


class _Compiled:
    """A function with its compiled code by form of arguments."""

    def __init__(self, f: Function) -> None:
        self._f = f
        self._forms: _Forms[Entry] = _Forms()
        #: Code for the most recently used forms, the latest first.
        self._recent: tuple[_Coded, ...] = (_NONE,)

    def function(self) -> Function:
        """Return the wrapper that users call; it tries the latest code first, which checks the form of arguments."""
        parameters = _plain_parameters(self._f)
        call = _by_count(self._find) if parameters is None else _by_position(self._find, parameters)
        functools.update_wrapper(call, self._f)
        call.source = lambda *args, **keywords: self._entry(args, keywords)[0].source  # type: ignore[attr-defined]
        return call

    def _find(self, args: tuple[Tree, ...], keywords: dict[str, Tree]) -> tuple[Any, _Coded]:
        """Return the result for arguments that do not fit the latest code, and the code to try first next time."""
        for coded in () if keywords else self._recent[1:]:
            if coded[0] == len(args):
                try:
                    return coded[1](*args), self._latest(coded)
                except OtherFormError:
                    continue
        tracers = [leaf for leaf in trees.leaves((args, keywords)) if isinstance(leaf, Tracer)]
        if tracers:
            # Inside of another transform, call the function itself, so that the transform records its operations.
            for leaf in tracers:
                leaf.check_alive()
            return self._f(*args, **keywords), self._recent[0]
        entry, values = self._entry(args, keywords)
        return entry.run(values), self._recent[0] if keywords else self._latest((len(args), entry.function))

    def _latest(self, coded: _Coded) -> _Coded:
        self._recent = (coded, *(other for other in self._recent if other != coded))[:_RECENT]
        return coded

    def _entry(self, args: tuple[Tree, ...], keywords: dict[str, Tree]) -> tuple[Entry, list[Value]]:
        tree = (args, keywords)
        leaves = trees.leaves(tree)
        values = [raw_argument(leaf) for leaf in leaves]
        avals = [_aval(*pair) for pair in zip(leaves, values, strict=True)]
        return self._forms.get(tree, avals, lambda: self._traced(args, keywords, avals)), values

    def _traced(self, args: tuple[Tree, ...], keywords: dict[str, Tree], avals: list[Aval]) -> Entry:
        trace = Trace(level=next_level(), transform="compile")
        symbols = [trace.input(f"x{k}", known) for k, known in enumerate(avals)]
        given_args, given_keywords = trees.unflatten((args, keywords), iter(symbols))
        try:
            y = self._f(*given_args, **given_keywords)
            outputs = [symbol_of(trace, leaf) for leaf in trees.leaves(y)]
            entry = Entry(trace, outputs, args, avals, y)
        finally:
            end(trace)
        check_hidden(y)
        return entry


def _by_position(find: Callable[..., tuple[Any, _Coded]], parameters: Sequence[str]) -> Function:
    """Return a wrapper with these parameters, which calls the latest code."""
    source = f"""\
def call({", ".join(parameters)}):
    global latest
    try:
        return latest({", ".join(parameters)})
    except OtherFormError:
        pass
    result, (_, latest) = find(({"".join(f"{name}, " for name in parameters)}), {{}})
    return result
"""
    names = {"latest": _NONE[1], "find": find, "OtherFormError": OtherFormError}
    function: Function = defined(source, names)
    return function


def _by_count(find: Callable[..., tuple[Any, _Coded]]) -> Function:
    """Return a wrapper for any arguments, which calls the latest code if it takes the same number of them."""
    latest = _NONE

    def call(*args: Any, **keywords: Any) -> Any:
        nonlocal latest
        count, function = latest
        if count == len(args) and not keywords:
            try:
                return function(*args)
            except OtherFormError:
                pass
        result, latest = find(args, keywords)
        return result

    return call


def raw_argument(leaf: object) -> Value:
    """Return an argument as a raw value.

    Raises:
        InvalidValueError: it is a variable, or not a value.
    """
    if isinstance(leaf, Variable):
        raise InvalidValueError("a compiled function takes numbers and arrays, no variables; give it `x.data`")
    return as_raw(leaf)


def _aval(leaf: object, value: Value) -> Aval:
    """Return the aval of an argument: a NumPy float64 scalar is not weak, a Python number is."""
    known = aval(value)
    return known._replace(weak=None) if type(leaf) is np.float64 else known


def symbol_of(trace: Trace, leaf: object) -> Symbol:
    """Return a result of a traced function as a step of its trace.

    Raises:
        InvalidValueError: it is not a value, or is a variable or a value of another transform.
    """
    if isinstance(leaf, Symbol) and leaf.recorder is trace:
        return leaf
    if isinstance(leaf, Tracer):
        leaf.check_alive()
    if isinstance(leaf, Variable | Tracer):
        raise InvalidValueError(
            f"a compiled function returns {FOREIGN}, or what was computed from such alone; give it as an argument"
        )
    return trace.constant(as_raw(leaf))


def _plain_parameters(f: Function) -> list[str] | None:
    """Return the parameters of a function if all are positional and required; None for any other function."""
    try:
        parameters = list(inspect.signature(f).parameters.values())
    except ValueError:
        return None
    if any(p.kind is not p.POSITIONAL_OR_KEYWORD or p.default is not p.empty or p.name in _NAMES for p in parameters):
        return None
    return [p.name for p in parameters]


def _hashable(form: Tree) -> Hashable:
    if isinstance(form, dict):
        # 1, True and 1.0 are equal keys.
        return (dict, *((type(key), key, _hashable(item)) for key, item in form.items()))
    return tuple(map(_hashable, form)) if isinstance(form, tuple) else form


def descent(loss: Function, argnums: int | Sequence[int] = 0) -> Function:
    """Compile gradient descent to a loop that runs all steps in one call.

    loss: a function of one element, as of `grad`; traced once for each form of arguments, as by `compile`.
    argnums: positions of the arguments to optimize.
    Returns a function of the arguments of the loss, `learning_rate` and `steps`, which runs `steps` steps
    `x - learning_rate * gradient` and returns the optimized arguments in their form: one, or a tuple.

    >>> descend = descent(lambda x, y: (x - 3.0) ** 2 + (y + 1.0) ** 2, argnums=(0, 1))
    >>> x, y = descend(0.0, 0.0, learning_rate=0.25, steps=60)
    >>> round(x, 12), round(y, 12)
    (3.0, -1.0)

    Raises (when called):
        BadAttributeError: `steps` is not an integer from 0, or `learning_rate` is not a number.
        InvalidValueError, NotScalarError, NotDifferentiableError: as of `compile` and `transforms.grad`.
    """
    forms: _Forms[_Descent] = _Forms()
    gradient = grad(loss, argnums)

    @functools.wraps(loss)
    def descend(*args: Any, learning_rate: Any, steps: int) -> Any:
        count = Attribute("steps", NATURAL).parse(steps, "descent")
        leaves = trees.leaves(args)
        if any(isinstance(leaf, Tracer) for leaf in (*leaves, learning_rate)):
            # Inside of another transform, run step by step, so that the transform records every operation.
            return _descended(gradient, argnums, args, learning_rate, count)
        rate = float(Attribute("learning_rate", NUMBER).parse(learning_rate, "descent"))
        values = [raw_argument(leaf) for leaf in leaves]
        avals = [_aval(*pair) for pair in zip(leaves, values, strict=True)]
        found = forms.get(args, avals, lambda: _Descent(gradient, argnums, args, avals))
        return found.run(args, values, rate, count)

    return descend


def _descended(gradient: Function, argnums: Any, args: tuple[Tree, ...], rate: Result, steps: int) -> Any:
    """Run gradient descent step by step, on values of any kind; return the optimized arguments."""
    chosen, positions = choose(args, argnums)
    for _ in range(steps):
        slopes = trees.leaves(gradient(*with_chosen(args, positions, chosen, argnums)), chosen)
        moved = [x - rate * g for x, g in zip(trees.leaves(chosen), slopes, strict=True)]
        chosen = trees.unflatten(chosen, iter(moved))
    return chosen


class _Descent:
    """Compiled gradient descent for one form of arguments."""

    def __init__(self, gradient: Function, argnums: Any, args: tuple[Tree, ...], avals: list[Aval]) -> None:
        trace = Trace(level=next_level(), transform="descent")
        symbols = [trace.input(f"x{k}", known) for k, known in enumerate(avals)]
        rate = trace.input("rate", Aval((), FLOAT64, float))
        try:
            slopes = trees.leaves(gradient(*trees.unflatten(args, iter(symbols))))
            self._argnums = argnums
            moved = trees.leaves(choose(trees.unflatten(args, iter(range(len(avals)))), argnums)[0])
            outputs = [symbols[k] - rate * symbol_of(trace, g) for k, g in zip(moved, slopes, strict=True)]
        finally:
            end(trace)
        # A gradient that is not finite leaves its argument not finite, so that checking the results is enough. If the
        # loss itself reads derivatives, it is not: then compute with supports from the start.
        own = {g.index for g in slopes if type(g) is Symbol and g.recorder is trace}
        if not own.issuperset(place for place in trace.live(outputs) if place in trace.alternatives):
            trace, stands = trace.resolved(is_masked=True)
            outputs = [trace.symbol(stands[x.index]) for x in outputs]
        # The optimized inputs come first, read or not, so that the k-th output is assigned to the k-th input.
        compiled = functools.partial(Kernel, carried=range(len(moved)))
        inputs = [symbols[k] for k in moved]
        self._plan = Plan(trace, outputs, compiled, inputs=inputs, tells=True) if moved else None
        self.nbytes = 0 if self._plan is None else self._plan.nbytes

    def run(self, args: tuple[Tree, ...], values: list[Value], rate: float, steps: int) -> Any:
        """Run the descent; return the optimized arguments."""
        chosen, _ = choose(args, self._argnums)
        if self._plan is None:
            return trees.unflatten(chosen, iter(()))
        given = {"rate": rate} | {f"x{k}": x for k, x in enumerate(values)}
        return trees.unflatten(chosen, iter(self._plan.moved([given[name] for name in self._plan.names], steps)))
