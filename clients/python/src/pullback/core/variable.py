"""Variable: a handle of a value on the server, where the tape of its computation is too.

Operations on variables are recorded, and sent when a value, a gradient or a shape is read.
"""

from __future__ import annotations

import math
import weakref
from typing import Any, NoReturn

import numpy as np

from pullback.core.config import is_recording
from pullback.core.current import Recorder, current, tracing
from pullback.core.lost_derivatives import advice, place, warn_lost
from pullback.core.operators import Operators
from pullback.core.table import CALLS
from pullback.core.values import Shape, Value, as_raw, dtype_of, shape_of
from pullback.errors import InvalidValueError, NotScalarError, ShapeMismatchError, TraceError


class Creator:
    """The operation that computed a variable."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


def problem_of(error: BaseException) -> str:
    """Return an error as one line of text."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def _check_untraced(what: str) -> None:
    """Check that no function is being traced; what: the word for the property that is read.

    Raises:
        TraceError: a function is being traced.
    """
    if tracing.get() is not None:
        raise TraceError(
            f"the {what} of a Variable was read inside of a function that is traced, and would become a constant of "
            "its program. Compute with the Variable itself, whose value is sent with each call, or pass the value as "
            f"an argument{place()}"
        )


def unshown(error: BaseException) -> str:
    """Return the text shown in place of a variable whose value cannot be fetched."""
    return f"<variable that cannot be shown: {problem_of(error)}>"


class Variable(Operators):
    """A number or an array with a gradient, on the server of the current connection.

    Args:
        values: one number, nested list or array (copied), or several numbers for a vector. Python numbers become
            float64, arrays keep float64, float32, int64 or bool.
        name: shown by `str` and in pictures of graphs. `Connection.variable` finds a variable of a resumed session by
            the name that it was made with.
        dtype: the dtype to which the values are converted.

    >>> x = Variable(0.5)
    >>> y = x * x
    >>> y.backward()
    >>> print(y, x.grad)
    variable(0.25) variable(1.0)
    >>> Variable(1.0, 2.0, 3.0).shape
    (3,)

    Raises:
        InvalidValueError: ragged lists, unsupported dtypes, objects that are not numbers.
        NotConnectedError: there is no connection.
    """

    # entry: the command that made the variable. raw: its value, if known here; known: its shape and dtype, if known.
    # grad_raw: the value of its gradient (None: it has none), valid while grad_at is the recorder's count of passes.
    # grad_ref: the variable of that gradient. owner: for a gradient that has no id yet, the variable it belongs to.
    # is_constant: a gradient, or computed without recording: its number may be taken without a warning.
    __slots__ = (
        "__weakref__",
        "_entry",
        "_grad_at",
        "_grad_raw",
        "_grad_ref",
        "_id",
        "_is_constant",
        "_known",
        "_owner",
        "_raw",
        "_recorder",
        "name",
    )

    _recorder: Recorder
    _id: str
    _entry: Any
    _raw: Value
    _is_constant: bool
    _known: tuple[Shape, np.dtype[Any]] | None
    _grad_raw: Value
    _grad_at: int
    _grad_ref: weakref.ref[Variable] | None
    _owner: Variable | None
    name: str | None

    def __init_subclass__(cls) -> None:
        raise TypeError("Variable has no subclasses: operations know it by its exact type; hold one instead")

    def __init__(self, *values: Any, name: str | None = None, dtype: Any = None) -> None:
        if not values:
            raise InvalidValueError("Variable: expected a number, a list, an array or several numbers; got nothing")
        given = values[0] if len(values) == 1 else values
        self._begin(as_raw(given, dtype), name)
        if type(given) is Variable and given.dtype.kind == "f":
            given._warn_lost("x.data")

    @classmethod
    def _leaf(cls, raw: Value) -> Variable:
        """Return a leaf that holds a raw value without copying it; no other code may write to the value."""
        v = cls.__new__(cls)
        v._begin(raw, None)
        return v

    def _begin(self, raw: Value, name: str | None) -> None:
        self.name = None if name is None else str(name)
        current().adopt(self, raw)

    def _looked(self) -> Value:
        """Return the value, also while a function is traced."""
        if self._raw is None:
            self._recorder.look(self, "value")
        elif self._recorder.is_leaf(self):
            # Raises if the command that made the leaf was refused.
            self._recorder.id_of(self)
        if type(self._raw) is not float:
            self._raw.flags.writeable = False
        return self._raw

    @property
    def data(self) -> Value:
        """The value: a `float` for a float64 scalar, otherwise a read-only array. Assign to it to replace it.

        Raises:
            TraceError: a function is being traced; its program would contain the present value as a constant.
        """
        _check_untraced("value")
        return self._looked()

    @data.setter
    def data(self, value: Any) -> None:
        self._recorder.assign(self, as_raw(value))

    @property
    def grad(self) -> Variable | Any:  # Any in place of None: no check is needed after backward()
        """The gradient: a variable of the same shape, None before a backward pass and after `cleargrad`.

        Raises:
            TraceError: a function is being traced; its program would contain the present gradient as a constant.
        """
        _check_untraced("gradient")
        return self._recorder.gradient(self)

    @grad.setter
    def grad(self, value: Variable | None) -> None:
        if value is not None and (type(value) is not Variable or value.shape != self.shape):
            given = f"a variable of shape {value.shape}" if type(value) is Variable else type(value).__name__
            raise ShapeMismatchError(f"grad: expected None or a variable of shape {self.shape}, got {given}")
        self._recorder.set_gradient(self, value)

    @property
    def creator(self) -> Creator | None:
        """The operation that computed the variable; None for a leaf."""
        if self._recorder.is_leaf(self):
            return None
        found = self._recorder.look(self, "creator")["creator"]
        return None if found is None else Creator(found)

    @property
    def generation(self) -> int:
        """Length of the longest path from a leaf."""
        if self._recorder.is_leaf(self):
            return 0
        return int(self._recorder.look(self, "generation")["generation"])

    @property
    def shape(self) -> Shape:
        """Lengths of the axes; () for a scalar."""
        return self._about()[0]

    @property
    def dtype(self) -> np.dtype[Any]:
        """float64, float32, int64 or bool."""
        return self._about()[1]

    def _about(self) -> tuple[Shape, np.dtype[Any]]:
        if self._raw is not None:
            return shape_of(self._raw), dtype_of(self._raw)
        if self._known is None:
            found = self._recorder.look(self, "shape", "dtype")
            self._known = tuple(found["shape"]), np.dtype(found["dtype"])
        return self._known

    def __getitem__(self, index: Any) -> Variable:
        items = index if isinstance(index, tuple) else (index,)
        found: Variable = CALLS["slice"](self, tuple(item.data if type(item) is Variable else item for item in items))
        return found

    def __bool__(self) -> bool:
        return bool(self.item())

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec else str(self)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> object:
        # To type checkers it is no array: `array + variable` is a variable, and NumPy's functions do not take it.
        if self.dtype.kind == "f":
            raise InvalidValueError(
                f"a NumPy function would lose the tape{advice() or '; use the functions of F'}, "
                f"or x.data for the value alone{place()}"
            )
        return np.array(self.data, dtype=dtype)

    def __float__(self) -> float:
        return float(self._number())

    def __int__(self) -> int:
        return int(self._number())

    def _number(self) -> Any:
        number = self.item()
        if type(number) is float:
            self._warn_lost("x.item()")
        return number

    def _warn_lost(self, alone: str) -> None:
        if is_recording() and not self._is_constant:
            warn_lost(alone)

    def item(self) -> Any:
        """Return the only element as a Python number; `float(v)` and `int(v)` also warn that the derivative is lost.

        Raises:
            NotScalarError: there are several elements, or none.
        """
        data = self.data
        if math.prod(shape_of(data)) != 1:
            raise NotScalarError(f"expected one element, this variable has shape {self.shape}")
        return data if type(data) is float else data.item()

    def __str__(self) -> str:
        data = self.data
        text = (
            repr(data)
            if type(data) is float
            else np.array2string(data, floatmode="unique", separator=" ", prefix=" " * 9, threshold=1000)
        )
        return f"{self.name or 'variable'}({text})"

    def __repr__(self) -> str:
        try:
            return str(self)
        except Exception as error:  # noqa: BLE001 - debuggers and notebooks call this, and show the text
            return unshown(error)

    def _repr_html_(self) -> str:
        """Return HTML for notebooks: value, shape, and a picture of the graph that computed the variable."""
        found: str = self._recorder.shown(self)
        return found

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a Variable is a name for something in a session of a server and cannot be pickled or copied; pickle its "
            "x.data, or state_dict(model)"
        )

    def backward(self, *, create_graph: bool = False, retain_grad: bool = False, cotangent: Any = None) -> None:
        """Add the gradient of this variable to `grad` of every leaf from which it was computed.

        The initial cotangent is `cotangent` if given, otherwise `grad` if set, otherwise ones. Gradients accumulate
        until they are cleared.

        Args:
            create_graph: record the backward pass, so that gradients can be differentiated again.
            retain_grad: keep the gradients of intermediate variables too.
            cotangent: initial cotangent, of this variable's shape.

        Raises (when a gradient is read):
            NotDifferentiableError: this variable is not floating.
            ShapeMismatchError: the cotangent has another shape.
            StaleDataError: with create_graph, a leaf's data was replaced since the forward pass.
        """
        self._recorder.backward(self, create_graph, retain_grad, cotangent)

    def cleargrad(self) -> None:
        """Clear the gradient: set `grad` to None."""
        self._recorder.cleargrad([self])

    def unchain(self) -> None:
        """Make the variable a leaf: drop its operation and operands, keep its value."""
        self._recorder.command("unchain", self)

    def unchain_backward(self) -> None:
        """Unchain every variable from which this one was computed (truncated backpropagation through time)."""
        self._recorder.command("unchain_backward", self)

    def __del__(self) -> None:
        # If `__init__` failed there is nothing to delete; a variable of a resumed session (no entry) stays there.
        recorder = getattr(self, "_recorder", None)
        if recorder is not None and self._id and self._entry is not None:
            recorder.outbox.forget(self._id, self._entry)
