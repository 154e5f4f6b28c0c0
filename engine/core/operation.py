"""Operation: one row of the table.

A row defines the values of an operation (`forward`), its derivative (`vjps`, in terms of other operations), the shape
and dtype of its result (`infer`) and its cost (`flops`); everything else is derived here. A composite has a `body` in
terms of other operations instead.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, NoReturn

import numpy as np

from engine.core.attributes import REQUIRED, Attribute, Attributes, Given
from engine.core.errors import ArityError, BadAttributeError
from engine.core.lowering import Lowering
from engine.core.messages import nearest
from engine.core.trees import Function
from engine.core.values import Aval, Operand, Value, canonical

#: (cotangent of the result, result, *operands, **attributes) -> cotangent of an operand
Vjp = Callable[..., Operand]


@dataclass(frozen=True, slots=True)
class Example:
    """Test data of a row: operands as shapes (tuples, filled from `domain`), numbers or nested lists; attributes."""

    operands: tuple[Given, ...]
    attrs: Attributes = field(default_factory=dict)


def ex(*operands: Given, **attrs: Given) -> Example:
    """Shorthand for `Example`."""
    return Example(operands, attrs)


def example_operands(op: "Operation", example: Example) -> tuple[list[Value], Attributes]:
    """Return the values of an example's operands, spread over the domains of its row, and its attributes."""
    domains = op.domain * len(example.operands) if op.variadic else op.domain
    xs = [_spread(given, domain) for given, domain in zip(example.operands, domains, strict=False)]
    return xs, op.bind([0.0] * max(op.required, 1), dict(example.attrs))[1]


def _spread(given: Given, domain: tuple[float, float]) -> Value:
    if not isinstance(given, tuple):
        return np.array(given) if isinstance(given, list) else float(given)
    return canonical(np.linspace(*domain, prod(given) + 2)[1:-1].reshape(given))


def _of_composite(*_: object, **__: object) -> NoReturn:
    raise TypeError(
        "a composite has neither forward nor infer nor flops; its body is made of operations that have them"
    )


_NONE = Lowering()


@dataclass(eq=False, slots=True, kw_only=True, repr=False)
class Operation:
    """One row of the table.

    Fields:
        name, doc: its name for users, and a one-line description.
        operands: their names in order; those from index `required` on are optional.
        variadic: it takes any number of operands, at least 1.
        attributes: in order, with types and defaults.
        forward: (*raw values, **attrs) -> array or number.
        lowering: its implementation in generated code and on floats.
        vjps: for each operand, (g, y, *operands, **attrs) -> its cotangent; None if it has no derivative. The caller
            undoes broadcasting and promotion. A variadic row has one `vjp` instead, which returns all cotangents.
        power_vjps: only for a row whose result is a length: for each operand, (g, c, p, *operands, **attrs) -> c / p
            times the cotangent that it has if the result is raised to the power p >= 2, see `powers`.
        infer: (*avals, **attrs) -> aval of the result; raises the typed error for operands that do not fit.
        flops: (*avals, out, **attrs) -> number of floating-point operations.
        kind: elementwise, linear, bilinear, other or composite; it determines jvp and batching. A linear row is jointly
            linear in all operands that have a derivative.
        batch: its batching rule, see `batching`. By default, a linear row is applied to all rows at once, as it ignores
            leading axes, and any other runs row by row.
        domain: for each operand, the interval of its test data. examples: the test data.
        is_differentiable: it has a derivative in at least one operand; by default, whether it has vjps or a body.
        random: it draws from the generator in the keyword `rng`; plans never merge, fold or drop it.
        symbol: its operator in infix text.
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
    forward: Callable[..., Value] = _of_composite
    lowering: Lowering = _NONE
    vjps: tuple[Vjp | None, ...] = ()
    vjp: Callable[..., Sequence[Operand | None]] | None = None
    power_vjps: tuple[Vjp, ...] = ()
    infer: Callable[..., Aval] = _of_composite
    flops: Callable[..., int] = _of_composite
    body: Function | None = None
    domain: tuple[tuple[float, float], ...] = ()
    batch: Callable[..., Operand] | None = None
    random: bool = False
    aliases: tuple[str, ...] = ()
    alias_of: str = ""
    symbol: str = ""
    is_differentiable: bool | None = None
    #: True if it may leave out elements of its operands; computed and cached by `masking.selects`, None before.
    selects: bool | None = field(init=False, default=None)
    #: (operands, attributes, **extra) -> the result, for operands of any kind; `rows.define` sets it.
    run: Function = field(init=False)
    _defaults: Attributes = field(init=False, repr=False)
    _spellings: dict[str, Attribute] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.required < 0:
            self.required = 1 if self.variadic else len(self.operands)
        self._defaults = {a.name: a.default for a in self.attributes}
        self._spellings = {spelling: a for a in self.attributes for spelling in (a.name, *a.spellings)}
        if self.is_differentiable is None:
            self.is_differentiable = bool(self.body or self.vjp or any(self.vjps))

    def cotangents(self, g: Operand, y: Operand, xs: Sequence[Operand], attrs: Attributes) -> Sequence[Operand | None]:
        """Return the cotangents of all operands; None for one without a derivative."""
        if self.vjp is not None:
            return self.vjp(g, y, *xs, **attrs)
        return [None if vjp is None else vjp(g, y, *xs, **attrs) for vjp in self.vjps[: len(xs)]]

    def is_smooth(self, i: int) -> bool:
        """Return whether the operation has a derivative in operand i."""
        return self.vjp is not None or self.vjps[i] is not None

    def cotangent(self, i: int, g: Operand, y: Operand, xs: Sequence[Operand], attrs: Attributes) -> Any:
        """Return the cotangent of operand i; None if it has no derivative."""
        if self.vjp is not None:
            return self.vjp(g, y, *xs, **attrs)[i]
        vjp = self.vjps[i]
        return None if vjp is None else vjp(g, y, *xs, **attrs)

    def __repr__(self) -> str:
        return self.name

    def __copy__(self) -> "Operation":
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> "Operation":
        return self

    def signature(self) -> str:
        """Return the signature as text: `sum(x, axes=None, keepdims=False)`."""
        names = [f"*{self.operands[0]}"] if self.variadic else list(self.operands)
        names = [n if i < self.required or self.variadic else f"{n}=None" for i, n in enumerate(names)]
        attributes = [a.name if a.default is REQUIRED else f"{a.name}={a.default!r}" for a in self.attributes]
        names = [*attributes, *names] if self._has_leading_attribute() else [*names, *attributes]
        return f"{self.name}({', '.join(names)})"

    def _has_leading_attribute(self) -> bool:
        return bool(self.attributes) and self.attributes[0].leads

    def bind(
        self, args: Sequence[Given], keywords: dict[str, Given], is_literal: Callable[[Given], bool] | None = None
    ) -> tuple[tuple[Given, ...], Attributes]:
        """Bind the arguments of a call to operands and attributes (parsed, with defaults).

        Positional arguments fill operands first, then attributes in order. A variadic operation takes its operands one
        by one or as one list; if its first attribute leads, that string comes before them. A positional literal never
        fills an optional operand.

        Raises:
            ArityError: too few operands, or too many positional arguments.
            BadAttributeError: an attribute that is unknown, missing, given twice or of the wrong type.
        """
        n = self.required
        if self.variadic:
            operands, rest = self._variadic(args)
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
            given = f"{len(args)} argument{'' if len(args) == 1 else 's'}"
            raise ArityError(f"{self.name}: got {given}; expected {self.signature()}")
        return tuple(operands), self._attrs(rest, keywords)

    def _variadic(self, args: Sequence[Given]) -> tuple[list[Given], Sequence[Given]]:
        """Split positional arguments into operands and attributes.

        After a leading string, several arguments are operands even if the first is a list.
        """
        leads = bool(args) and isinstance(args[0], str) and self._has_leading_attribute()
        first, args = (args[:1], args[1:]) if leads else ((), args)
        if args and isinstance(args[0], (list, tuple)) and not (leads and len(args) > 1):
            return list(args[0]), (*first, *args[1:])
        return list(args), first

    def _attrs(self, rest: Sequence[Given], keywords: dict[str, Given]) -> Attributes:
        attrs = self._defaults.copy()
        given = []
        for a, value in zip(self.attributes, rest, strict=False):
            attrs[a.name] = a.parse(value, self.name)
            given.append(a.name)
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
            given.append(a.name)
        if len(given) < len(self.attributes):
            for a in self.attributes:
                if attrs[a.name] is REQUIRED:
                    raise BadAttributeError(f'{self.name}: attribute "{a.name}" is missing; expected {a.type.expected}')
        return attrs


def _is_literal(value: object) -> bool:
    return isinstance(value, (bool, int, float, str, list, tuple, dict)) or value is None
