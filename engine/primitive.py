"""Operation: one row of the table, and the dispatch that runs a row on floats, arrays, Variables and Symbols.

A row says what an operation computes (`forward`), how a cotangent comes back (`vjps`, in terms of other operations),
which shape and dtype it gives (`infer`) and what it costs; everything else is derived here. A composite has a `body` in
terms of other operations in place of these.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from engine.attributes import REQUIRED, Attribute
from engine.config import is_recording
from engine.errors import ArityError, AutogradError, BadAttributeError, InvalidValueError
from engine.symbol import Symbol
from engine.table import nearest, register
from engine.values import FLOAT64, Aval, as_raw, aval, canonical, frozen
from engine.variable import Variable

Vjp = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Example:
    """Test data of a row: operands as shapes (filled from `domain`) or as nested lists, and attributes."""

    operands: tuple[Any, ...]
    attrs: dict[str, Any] = field(default_factory=dict)


def ex(*operands: Any, **attrs: Any) -> Example:
    """Short for `Example`."""
    return Example(operands, attrs)


@dataclass(eq=False, slots=True, kw_only=True)
class Operation:
    """One row.

    Fields:
        name, doc: what users call it; one line of what it does.
        operands: names in order; those from `required` on may be left out. `variadic`: any number of them from 1.
        attributes: in order, with type and default.
        forward: raw values and attributes -> array or number. Elementwise rows also have `scalar`, for
            floats alone, and `ufunc` where NumPy has one.
        vjps: for each operand (g, y, *operands, **attrs) -> its cotangent, or None where it has no derivative. The
            mechanism undoes broadcasting and promotion. Variadic rows have one `vjp(k, g, y, *operands, **attrs)`.
        infer: (*avals, **attrs) -> Aval, raising the typed error for operands that do not fit.
        flops: (*avals, out, **attrs) -> number of floating-point operations.
        kind: elementwise, linear, bilinear, other or composite: what jvp and batching follow from.
        domain: for each operand the interval that test data is drawn from; `examples`: the test data.
        is_differentiable: a gradient comes back through it to at least one operand (derived).
        random: draws from the generator that it is given as the keyword `rng`; never merged, folded or dropped.
        symbol: the operator of infix text.
    """

    name: str
    doc: str
    operands: tuple[str, ...]
    kind: str
    examples: tuple[Example, ...]
    required: int = -1
    variadic: bool = False
    outputs: Callable[..., int] | None = None
    attributes: tuple[Attribute, ...] = ()
    forward: Callable[..., Any] | None = None
    ufunc: np.ufunc | None = None
    scalar: Callable[..., Any] | None = None
    vjps: tuple[Vjp | None, ...] = ()
    vjp: Vjp | None = None
    infer: Callable[..., Aval] | None = None
    flops: Callable[..., int] | None = None
    body: Callable[..., Any] | None = None
    domain: tuple[tuple[float, float], ...] = ()
    random: bool = False
    aliases: tuple[str, ...] = ()
    alias_of: str = ""
    symbol: str = ""
    call: Callable[..., Any] = field(init=False, repr=False)
    is_differentiable: bool = field(init=False)
    _pullbacks: dict[int, tuple[Vjp | None, ...]] = field(init=False, repr=False, default_factory=dict)
    _defaults: dict[str, Any] = field(init=False, repr=False)
    _spellings: dict[str, Attribute] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.required < 0:
            self.required = 1 if self.variadic else len(self.operands)
        self._defaults = {a.name: a.default for a in self.attributes}
        self._spellings = {spelling: a for a in self.attributes for spelling in (a.name, *a.spellings)}
        self.is_differentiable = bool(self.body or self.vjp or any(self.vjps))
        self.call = _public(self)
        register(self)

    def pullbacks(self, n: int) -> tuple[Vjp | None, ...]:
        """The vjps of a call with n operands."""
        if self.vjp is None:
            return self.vjps if len(self.vjps) == n else self.vjps[:n]
        if n not in self._pullbacks:
            self._pullbacks[n] = tuple(partial(self.vjp, k) for k in range(n))
        return self._pullbacks[n]

    def signature(self) -> str:
        """As it is written: `sum(x, axes=None, keepdims=False)`."""
        names = [f"*{self.operands[0]}"] if self.variadic else list(self.operands)
        names = [n if i < self.required or self.variadic else f"{n}=None" for i, n in enumerate(names)]
        names += [a.name if a.default is REQUIRED else f"{a.name}={a.default!r}" for a in self.attributes]
        return f"{self.name}({', '.join(names)})"

    def bind(
        self, args: Sequence[Any], keywords: dict[str, Any], is_literal: Callable[[Any], bool] | None = None
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Sorts what a call was given into operands and attributes (parsed, with defaults).

        Positional arguments fill operands first, then attributes in order. A variadic operation takes its operands one
        by one or as one list. An optional operand is never filled by a literal.

        Raises:
            ArityError: too few or too many positional arguments.
            BadAttributeError: an attribute that is unknown, missing, given twice or of the wrong type.
        """
        n = self.required
        if self.variadic:
            listed = len(args) > 0 and isinstance(args[0], (list, tuple))
            operands, rest = (list(args[0]), args[1:]) if listed else (list(args), ())
        else:
            if len(args) > n and len(self.operands) > n:
                literal = is_literal or _is_literal
                while n < min(len(args), len(self.operands)) and not literal(args[n]):
                    n += 1
            operands, rest = list(args[:n]), args[n:]
            if keywords and len(operands) < len(self.operands):
                keywords = dict(keywords)
                for name in self.operands[len(operands) :]:
                    if name not in keywords:
                        break
                    operands.append(keywords.pop(name))
        if len(operands) < self.required or len(rest) > len(self.attributes):
            raise ArityError(f"{self.name}: got {self._given(len(args))}; expected {self.signature()}")
        return tuple(operands), self._attrs(rest, keywords)

    def _given(self, n: int) -> str:
        return f"{n} argument{'' if n == 1 else 's'}"

    def _attrs(self, rest: Sequence[Any], keywords: dict[str, Any]) -> dict[str, Any]:
        attrs = self._defaults.copy()
        given = set()
        for a, value in zip(self.attributes, rest, strict=False):
            attrs[a.name] = a.parse(value, self.name)
            given.add(a.name)
        for key, value in keywords.items():
            if key not in self._spellings:
                known = f"; it has {', '.join(self._spellings)}" if self._spellings else "; it has none"
                raise BadAttributeError(
                    f'{self.name}: unknown attribute "{key}"{nearest(key, self._spellings) or known}'
                )
            a = self._spellings[key]
            if a.name in given:
                spelled = " or ".join((a.name, *a.spellings))
                raise BadAttributeError(f"{self.name}: attribute {spelled} is given twice")
            attrs[a.name] = a.parse(value, self.name)
            given.add(a.name)
        for a in self.attributes:
            if attrs[a.name] is REQUIRED:
                raise BadAttributeError(f'{self.name}: attribute "{a.name}" is missing; expected {a.type.expected}')
        return attrs

    def run(self, operands: tuple[Any, ...], attrs: dict[str, Any], **extra: Any) -> Any:
        """Applies the row to operands and attributes that `bind` has sorted."""
        if self.body is None:
            return apply(self, operands, attrs, **extra)
        try:
            return self.body(*operands, **attrs, **extra)
        except AutogradError as error:
            if error.detail.startswith(f"{self.name}:"):
                raise
            raise type(error)(f"{self.name}: {error.detail}") from error


def _is_literal(value: Any) -> bool:
    return isinstance(value, (bool, int, float, str, list, tuple, dict)) or value is None


def _public(op: Operation) -> Callable[..., Any]:
    """The function that users call."""
    if op.scalar and op.is_differentiable and not op.attributes and len(op.operands) <= 2:
        call = _unary(op) if len(op.operands) == 1 else _binary(op)
    else:
        call = _general(op)
    call.__name__ = call.__qualname__ = op.name
    call.__doc__ = f"{op.doc}\n\nSignature: `{op.signature()}`."
    return call


def _general(op: Operation) -> Callable[..., Any]:
    n = len(op.operands)
    simple = not op.variadic and op.required == n
    defaults = op._defaults
    has_defaults = REQUIRED not in defaults.values()

    if op.random:

        def call(*args: Any, rng: Any = None, **keywords: Any) -> Any:
            operands, attrs = op.bind(args, keywords)
            return op.run(operands, attrs, rng=np.random.default_rng(rng))

    else:

        def call(*args: Any, **keywords: Any) -> Any:
            if simple and has_defaults and not keywords and len(args) == n:
                return op.run(args, defaults)
            operands, attrs = op.bind(args, keywords)
            return op.run(operands, attrs)

    return call


def _unary(op: Operation) -> Callable[..., Any]:
    """The fast path of an elementwise operation of one operand: floats and scalar variables; all else to `apply`."""
    scalar: Callable[[float], float] = op.scalar  # type: ignore[assignment]

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
                    v.generation = 0
                return v
        return apply(op, (x,), {})

    return call


def _binary(op: Operation) -> Callable[..., Any]:
    """The same for two operands, one of which may be a Python number."""
    scalar: Callable[[float, float], float] = op.scalar  # type: ignore[assignment]

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
            v.generation = 0
        return v

    return call


def _edge(op: Operation, raws: tuple[float, ...]) -> float:
    """What NumPy gives where Python's float functions raise: inf and nan."""
    with np.errstate(all="ignore"):
        return float(op.forward(*map(np.float64, raws)))  # type: ignore[misc]


def apply(op: Operation, args: tuple[Any, ...], attrs: dict[str, Any], **extra: Any) -> Any:
    """Runs a primitive on whatever its operands are: raw values give a raw value, variables go on the tape.

    Args:
        op: a row with a `forward`.
        args: its operands.
        attrs: its attributes, parsed.
        extra: what `forward` needs beside them and the tape does not (a generator of random numbers).

    Raises:
        ShapeMismatchError, BadAttributeError, InvalidValueError: as the row's `infer` finds.
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
        elif kind is Symbol:
            return x.recorder.record(op, args, attrs)
        else:
            x = _literal(x)
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
            op.infer(*map(aval, raws), **attrs)  # type: ignore[misc]
        if are_scalars:
            if not all(type(d) is bool for d in raws):
                raws = [d if type(d) is float else float(d) for d in raws]
            y = _of_scalars(op, raws, attrs, extra)
        elif has_floats:
            # A scalar variable is strong, as NumPy's scalars are; a Python number is weak.
            pairs = zip(raws, args, strict=True)
            strong = [np.float64(d) if type(d) is float and type(x) is Variable else d for d, x in pairs]
            y = op.forward(*strong, **attrs, **extra)  # type: ignore[misc]
        else:
            y = op.forward(*raws, **attrs, **extra)  # type: ignore[misc]
    except (ValueError, TypeError, IndexError, ArithmeticError) as error:
        op.infer(*map(aval, raws), **attrs)  # type: ignore[misc]
        raise InvalidValueError(f"{op.name}: {error}") from error
    if type(y) is not np.ndarray or not y.ndim or y.dtype is not FLOAT64:
        y = canonical(y)
    if generation < 0:
        return y
    if not taped or (type(y) is not float and y.dtype.kind != "f"):
        return Variable._leaf(y)
    v = _new(Variable)
    v._data = y
    v._grad = v.name = None
    v._op = op
    v._parents = args
    v._saved = tuple(raws)
    v._attrs = attrs
    v.generation = generation + 1
    return v


def _of_scalars(op: Operation, raws: list[Any], attrs: dict[str, Any], extra: dict[str, Any]) -> Any:
    if op.scalar is not None and type(raws[0]) is float:
        try:
            return op.scalar(*raws, **attrs)
        except (ArithmeticError, ValueError):
            with np.errstate(all="ignore"):
                return op.forward(*map(np.float64, raws), **attrs)  # type: ignore[misc]
    with np.errstate(all="ignore"):
        return op.forward(*map(np.asarray, raws), **attrs, **extra)  # type: ignore[misc]


def _literal(x: Any) -> Any:
    """A Python number stays weak; lists and NumPy's scalars become raw values."""
    if type(x) is int:
        if abs(x) > _LARGEST_EXACT_INT:
            return as_raw(x)
        return x
    return x if type(x) is bool else as_raw(x)


_new = object.__new__
_NUMBERS = (float, int, bool)
_LARGEST_EXACT_INT = 2**53
