"""Code: generated lines of Python with the values of their names, and the function that they define."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import CodeType, FunctionType

INDENT = "    "
#: A line of code, and the name of the operation that it computes.
Line = tuple[str, str]


@dataclass(slots=True)
class Code:
    """Generated code.

    lines: the lines.
    operations: for each line the name of the operation that it computes, or "".
    names: the values of the names in the lines.
    pieces: the code of functions that the lines call, by their code objects.
    """

    lines: list[str] = field(default_factory=list)
    operations: list[str] = field(default_factory=list)
    names: dict[str, object] = field(default_factory=dict)
    pieces: dict[CodeType, "Code"] = field(default_factory=dict)

    def add(self, line: str, operation: str = "") -> None:
        """Append a line."""
        self.lines.append(line)
        self.operations.append(operation)

    @property
    def source(self) -> str:
        """Return all lines as text."""
        return "\n".join(self.lines) + "\n"

    def bound(self, prefix: str, value: object) -> str:
        """Bind a value to a new name that begins with `prefix`; return the name."""
        name = f"{prefix}_{len(self.names)}"
        self.names[name] = value
        return name

    def function(self) -> FunctionType:
        """Compile the lines; return the function that they define."""
        return defined(self.source, self.names)

    def piece(self, code: "Code") -> FunctionType:
        """Compile other code, whose function the lines call; return that function."""
        function = code.function()
        self.pieces[function.__code__] = code
        return function


def defined(source: str, names: Mapping[str, object]) -> FunctionType:
    """Compile code that defines one function, with `names` as its globals; return the function.

    Its globals don't contain the function, so that without a reference cycle it is freed with its last user.
    """
    space = dict(names)
    exec(compile(source, "<plan>", "exec"), space)
    function = space.popitem()[1]
    assert isinstance(function, FunctionType)
    return function
