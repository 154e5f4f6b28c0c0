"""The switches `no_grad` and `test_mode`: context variables, which nest and never leak between threads or tasks."""

import functools
import inspect
from collections.abc import Callable
from contextvars import ContextVar
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

_recording: ContextVar[bool] = ContextVar("recording", default=True)
_training: ContextVar[bool] = ContextVar("training", default=True)

#: Return whether operations on variables are recorded. Called once per operation, hence the bound method.
is_recording = _recording.get
#: Return whether operations that differ between training and inference (dropout) behave as in training.
is_training = _training.get


#: Earlier values of a flag, one for each open `with`, innermost first: (value, the rest).
Stack = tuple[bool, "Stack"] | None


Switch = TypeVar("Switch", bound="_Off")
Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class _Off:
    """Switch one flag off. It has no state of its own: many threads and tasks may enter one object."""

    _flag: ContextVar[bool]
    _before: ContextVar[Stack]

    def __call__(self, function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
        """Decorate a function or a coroutine function; in a generator the switch would leak between its steps.

        Raises:
            TypeError: for a generator function.
        """
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(
                f"{type(self).__name__}: use it as a context manager inside the generator {function.__name__}"
            )
        if not inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            def off(*args: Parameters.args, **keywords: Parameters.kwargs) -> Result:
                with type(self)():
                    return function(*args, **keywords)

            return off

        @functools.wraps(function)
        async def off_while_awaited(*args: Parameters.args, **keywords: Parameters.kwargs) -> Any:
            with type(self)():
                return await function(*args, **keywords)

        return off_while_awaited  # type: ignore[return-value]  # Result is its coroutine

    def __enter__(self: Switch) -> Switch:
        self._before.set((self._flag.get(), self._before.get()))
        self._flag.set(False)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        value, rest = self._before.get() or (True, None)
        self._flag.set(value)
        self._before.set(rest)


class no_grad(_Off):  # noqa: N801 - reads as a keyword, as in every library of the field
    """Do not record operations inside: they run faster, and their results have no gradient.

    >>> with no_grad():
    ...     y = F.exp(Variable(0.0))
    >>> y.creator is None
    True
    """

    _flag = _recording
    _before = ContextVar("recording before", default=None)


def off_since() -> Stack:
    """Return the identity of the innermost `no_grad` span."""
    return no_grad._before.get()


def records_since(began: Stack) -> bool:
    """Return whether derivatives are wanted by a transform that began at `off_since()`.

    A `no_grad` span that began inside the transform turns them off.
    """
    return is_recording() or off_since() is began


class test_mode(_Off):  # noqa: N801
    """Run operations inside as in inference, not as in training: dropout passes its input through.

    >>> with test_mode():
    ...     print(F.dropout(Variable(2.0), ratio=0.9))
    variable(2.0)
    """

    _flag = _training
    _before = ContextVar("training before", default=None)
    __test__ = False
