"""Dispatch of a row on floats, arrays, Variables and tracers.

`public_call` makes the function that users call: a fast path for scalars, where an autograd library spends its time,
and `apply` for everything else.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from engine.core.attributes import REQUIRED, Attributes
from engine.core.config import is_recording
from engine.core.errors import AutogradError, InvalidValueError
from engine.core.operation import Operation
from engine.core.tracer import Symbol, Tracer, top
from engine.core.values import FLOAT64, as_raw, aval, canonical, frozen
from engine.core.variable import CONSTANT, Variable

_new = object.__new__
_NUMBERS = (float, int, bool)
_STRONG = (Variable, np.float64)
#: Kinds of rows in which a Python integer takes the dtype of the other operands.
PROMOTING = ("elementwise", "bilinear")


def runner(op: Operation) -> Callable[..., Any]:
    """Return the `run` of an operation: it takes the operands and attributes that `bind` returns."""
    return partial(apply if op.body is None else _composed, op)


def _composed(op: Operation, operands: tuple[Any, ...], attrs: Attributes, **extra: Any) -> Any:
    """Run a composite; errors raised in its body are prefixed with its name."""
    try:
        return op.body(*map(_operand_of_body, operands), **attrs, **extra)  # type: ignore[misc]
    except AutogradError as error:
        if error.detail.startswith(f"{op.name}:"):
            raise
        raise error.of(op.name) from error


def _operand_of_body(x: Any) -> Any:
    """Convert an operand of a composite: arrays get one of the four dtypes, in native byte order."""
    if type(x) is np.ndarray:
        return canonical(x)
    return as_raw(x) if isinstance(x, (list, tuple)) else x


def public_call(op: Operation) -> Callable[..., Any]:
    """Return the function that users call."""
    if op.lowering.scalar and op.is_differentiable and not op.attributes and len(op.operands) <= 2:
        call = _unary(op) if len(op.operands) == 1 else _binary(op)
    else:
        call = _general(op)
    call.__name__ = call.__qualname__ = op.name
    # The module in which `pickle` finds it by that name.
    call.__module__ = "engine.functions"
    call.__doc__ = f"{op.doc}\n\nSignature: `{op.signature()}`."
    return call


def row_call(op: Operation, public: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function that other rows and tracers call: operands, then attributes in their canonical form.

    public: the function that users call. It serves where there is nothing to parse, and where operands and attributes
        must be told apart.
    """
    n = len(op.operands)
    if not op.attributes or op.variadic or op.random or op.required < n:
        return public
    names = [a.name for a in op.attributes]

    def call(*args: Any, **attrs: Any) -> Any:
        return op.run(args[:n], op._defaults | dict(zip(names, args[n:], strict=False)) | attrs)

    return call


def _general(op: Operation) -> Callable[..., Any]:
    n = len(op.operands)
    simple = not op.variadic and op.required == n
    defaults = op._defaults
    has_defaults = REQUIRED not in defaults.values()

    if op.random:

        def call(*args: Any, rng: Any = None, **keywords: Any) -> Any:
            operands, attrs = op.bind(args, keywords)
            return op.run(operands, attrs, rng=rng)

    else:

        def call(*args: Any, **keywords: Any) -> Any:
            if simple and has_defaults and not keywords and len(args) == n:
                return op.run(args, defaults)
            operands, attrs = op.bind(args, keywords)
            return op.run(operands, attrs)

    return call


def _unary(op: Operation) -> Callable[..., Any]:
    """Return the call of a unary elementwise row: a fast path for floats and scalar variables, otherwise `apply`."""
    scalar: Callable[..., float] = op.lowering.scalar  # type: ignore[assignment]

    def call(x: Any) -> Any:
        kind = type(x)
        if kind is float:
            try:
                return scalar(x)
            except (ArithmeticError, ValueError):
                return _edge(op, (x,))
        if kind is Variable:
            d = x._data
            if type(d) is float:
                try:
                    y = scalar(d)
                except (ArithmeticError, ValueError):
                    y = _edge(op, (d,))
                v = _new(Variable)
                v._data = y
                v._grad = v.name = v._attrs = None
                if is_recording():
                    v._op = op
                    v._parents = (x,)
                    v._saved = (d,)
                    v.generation = x.generation + 1
                else:
                    v._op = None
                    v._parents = v._saved = ()
                    v._attrs = CONSTANT
                    v.generation = 0
                return v
        return apply(op, (x,), {})

    return call


def _binary(op: Operation) -> Callable[..., Any]:
    """Return the call of a binary elementwise row: a fast path as in `_unary`; one operand may be a Python number."""
    scalar: Callable[..., float] = op.lowering.scalar  # type: ignore[assignment]

    def call(x1: Any, x2: Any) -> Any:
        kind1, kind2 = type(x1), type(x2)
        if kind1 is Variable:
            d1 = x1._data
            generation = x1.generation
            if kind2 is Variable:
                d2 = x2._data
                if x2.generation > generation:
                    generation = x2.generation
            else:
                d2 = x2
        elif kind2 is Variable:
            d1 = x1
            d2 = x2._data
            generation = x2.generation
        elif kind1 is float and kind2 is float:
            try:
                return scalar(x1, x2)
            except (ArithmeticError, ValueError):
                return _edge(op, (x1, x2))
        else:
            return apply(op, (x1, x2), {})
        if type(d1) is float:
            if type(d2) is int:
                d2 = as_raw(d2)
            elif type(d2) is not float:
                return apply(op, (x1, x2), {})
        elif type(d1) is int and type(d2) is float:
            d1 = as_raw(d1)
        else:
            return apply(op, (x1, x2), {})
        try:
            y = scalar(d1, d2)
        except (ArithmeticError, ValueError):
            y = _edge(op, (d1, d2))
        v = _new(Variable)
        v._data = y
        v._grad = v.name = v._attrs = None
        if is_recording():
            v._op = op
            v._parents = (x1, x2)
            v._saved = (d1, d2)
            v.generation = generation + 1
        else:
            v._op = None
            v._parents = v._saved = ()
            v._attrs = CONSTANT
            v.generation = 0
        return v

    return call


def _edge(op: Operation, raws: tuple[float, ...]) -> float:
    """Compute with NumPy, which returns inf or nan where Python's float functions raise."""
    with np.errstate(all="ignore"):
        return float(op.forward(*map(np.float64, raws)))


def apply(op: Operation, args: tuple[Any, ...], attrs: Attributes, **extra: Any) -> Any:
    """Run a primitive on operands of any kind: raw values give a raw value, variables are recorded on the tape.

    Args:
        op: a row with a `forward`.
        args: its operands.
        attrs: its attributes, parsed.
        extra: further arguments of `forward` that are not recorded (a generator of random numbers).

    Raises:
        ShapeMismatchError, BadAttributeError, InvalidValueError: raised by the row's `infer`.
    """
    raws: list[Any] = []
    generation = -1
    are_scalars = True
    has_floats = has_constants = False
    for x in args:
        kind = type(x)
        if kind is Variable:
            d = x._data
            if x.generation > generation:
                generation = x.generation
            if type(d) is float:
                has_floats = True
            else:
                are_scalars = False
            raws.append(d)
        elif kind is float:
            raws.append(x)
        elif kind is np.ndarray:
            are_scalars = False
            has_constants = True
            raws.append(x if x.dtype is FLOAT64 and x.ndim else canonical(x))
        elif kind is np.float64:
            has_floats = True
            raws.append(float(x))
        elif issubclass(kind, Tracer):
            return top(args).record(op, args, attrs, **extra)
        else:
            x = _literal(op, x)
            are_scalars = are_scalars and type(x) in _NUMBERS
            raws.append(x)
    taped = generation >= 0 and op.is_differentiable and is_recording()
    if taped and has_constants:
        raws = [
            frozen(d) if type(x) is np.ndarray and type(d) is np.ndarray else d for d, x in zip(raws, args, strict=True)
        ]
    try:
        if attrs and any(type(d) in _NUMBERS or not d.ndim for d in raws):
            # NumPy lets a scalar have an axis 0.
            op.infer(*map(aval, raws), **attrs)
        if are_scalars:
            if not all(type(d) is bool for d in raws):
                raws = [d if type(d) is float else float(d) for d in raws]
            y = _of_scalars(op, raws, attrs, extra)
        elif has_floats:
            # A scalar variable is strong, like a NumPy scalar; a Python number is weak.
            pairs = zip(raws, args, strict=True)
            strong = [np.float64(d) if type(d) is float and type(x) in _STRONG else d for d, x in pairs]
            y = op.forward(*strong, **attrs, **extra)
        else:
            y = op.forward(*raws, **attrs, **extra)
    except (ValueError, TypeError, IndexError, ArithmeticError) as error:
        op.infer(*map(aval, raws), **attrs)
        raise InvalidValueError(f"{op.name}: {error}") from error
    if type(y) is not np.ndarray or not y.ndim or y.dtype is not FLOAT64:
        y = canonical(y)
    if generation < 0:
        return y
    if not taped or (type(y) is not float and y.dtype.kind != "f"):
        return Variable._constant(y)
    v = _new(Variable)
    v._data = y
    v._grad = v.name = None
    v._op = op
    v._parents = args
    v._saved = tuple(raws)
    v._attrs = attrs
    v.generation = generation + 1
    return v


def _of_scalars(op: Operation, raws: list[Any], attrs: Attributes, extra: dict[str, Any]) -> Any:
    if op.lowering.scalar is not None and type(raws[0]) is float:
        try:
            return op.lowering.scalar(*raws, **attrs)
        except (ArithmeticError, ValueError):
            with np.errstate(all="ignore"):
                return op.forward(*map(np.float64, raws), **attrs)
    with np.errstate(all="ignore"):
        return op.forward(*map(np.asarray, raws), **attrs, **extra)


def operand(op: Operation, x: Any) -> Any:
    """Convert a user's argument to an operand: a number or an array; variables and tracers stay unchanged.

    A symbol that represents a known Python number becomes that number: rows may inspect it (`pow` its exponent).
    """
    kind = type(x)
    if kind is Symbol and x.aval.weak:
        known = x.recorder.known(x)
        return x if known is None else known
    if kind is float or kind is Variable or kind is np.ndarray or kind is np.float64 or issubclass(kind, Tracer):
        return x
    return _literal(op, x)


def _literal(op: Operation, x: Any) -> Any:
    """Convert a literal to an operand: ints stay weak in promoting rows; lists and NumPy scalars become raw values."""
    if type(x) is int and op.kind in PROMOTING and abs(x) < 2**63:
        return x
    if type(x) is bool:
        return x
    try:
        return as_raw(x)
    except InvalidValueError as error:
        raise InvalidValueError(f"{op.name}: {error.detail}") from error
