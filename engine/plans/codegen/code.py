"""Code: generated lines of Python, what the names in them are bound to, and the function that they define."""

from dataclasses import dataclass, field
from types import CodeType
from typing import Any

INDENT = "    "
#: A line of code, and the operation that it computes.
Line = tuple[str, str]


@dataclass(slots=True)
class Code:
    """Lines of code: for each the operation that it computes; and what the names in it are bound to.

    pieces: code of functions that the lines call, by what Python compiled it to.
    """

    lines: list[str] = field(default_factory=list)
    operations: list[str] = field(default_factory=list)
    names: dict[str, Any] = field(default_factory=dict)
    pieces: dict[CodeType, "Code"] = field(default_factory=dict)

    def add(self, line: str, operation: str = "") -> None:
        """One more line."""
        self.lines.append(line)
        self.operations.append(operation)

    @property
    def source(self) -> str:
        """All lines."""
        return "\n".join(self.lines) + "\n"

    def bound(self, prefix: str, value: Any) -> str:
        """A name of its own for a value."""
        name = f"{prefix}_{len(self.names)}"
        self.names[name] = value
        return name

    def function(self) -> Any:
        """The function that the lines define."""
        return defined(self.source, self.names)

    def piece(self, code: "Code") -> Any:
        """The function that other code defines, which the lines are going to call."""
        function = code.function()
        self.pieces[function.__code__] = code
        return function


def defined(source: str, names: dict[str, Any]) -> Any:
    """The function that a piece of code defines, and that uses `names`.

    It does not hold itself: with its last user it is gone, without the garbage collector.
    """
    space = dict(names)
    exec(compile(source, "<plan>", "exec"), space)
    return space.popitem()[1]
