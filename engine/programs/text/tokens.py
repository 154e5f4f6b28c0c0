"""What infix text is made of, and what to write in place of what Python has and this language has not."""

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

TOKEN = re.compile(
    r"""
    [ \t]*+
    (?: (?P<name>[^\W\d]\w*)
    | (?P<number>0[xXbBoO]\w* | (?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)(?:[eE][+-]?[0-9][0-9_]*)?)
    | (?P<string>"[^"\\\n]*"|'[^'\\\n]*')
    | (?P<open>[(\[])
    | (?P<close>[)\]])
    | (?P<mark>\.\.\.|[,;]|[:=](?!=))
    | (?P<wrong>(?:\*\*|//|<<|>>|:|[-+*/@%&|^])=|->|//|<<|>>|!(?!=)|[.%&|^~{\\"'])
    | (?P<sign>\*\*|<=|>=|==|!=|[-+*/@<>])
    | (?P<newline>\n)
    | (?P<comment>\#[^\n]*+)
    | (?P<unexpected>.)
    | \Z)
    """,
    re.VERBOSE | re.DOTALL,
)
UNREADABLE = re.compile("[\x00\ud800-\udfff]")
WORD = re.compile(r"\w+")
PREFIX = re.compile(r"[fFrRbBuU]{1,2}")
SIGN_OR_NUMBER = re.compile(r"[ \t]*[-+.0-9]")
OPENED_BY = {")": "(", "]": "["}
NEEDS_OPERAND = {"+", "-", "*", "/", "@", "**", "<", "<=", ">", ">=", "==", "!=", "="}

#: What to write in place of what Python has and this language has not.
INSTEAD = {
    "and": "write logical_and(a, b)",
    "or": "write logical_or(a, b)",
    "not": "write logical_not(a)",
    "if": "write where(condition, x, y)",
    "else": "write where(condition, x, y)",
    "is": "write a == b",
    "in": "write any(equal(a, b))",
    "for": "operations work on whole arrays",
    "%": "write remainder(a, b)",
    "//": "write floor_divide(a, b)",
    "^": "write a ** b for a power, logical_xor(a, b) for bools",
    "&": "write logical_and(a, b)",
    "|": "write logical_or(a, b)",
    "~": "write logical_not(a)",
    "!": "write logical_not(a), or a != b",
    "<<": "write a * 2 ** b",
    ">>": "write floor_divide(a, 2 ** b)",
    ":=": "write y = ... as a statement of its own",
    "->": "statements are assignments and expressions",
    ".": "there are no attributes; operations are called by name, as in transpose(x)",
    "{": "write lists as [1, 2]",
    "\\": "inside parentheses an expression may go over several lines",
    "'": "a string ends on its line and holds no backslash",
    '"': "a string ends on its line and holds no backslash",
}
#: No number that float64 holds needs more characters as an integer.
LONGEST_INTEGER = 400


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement and where it begins (line and column from 1).

    counts: where the source is not ASCII, by line how many characters end within so many bytes.
    """

    source: str
    line: int
    column: int
    counts: tuple[npt.NDArray[np.int_], ...] = ()

    def place(self, line: int, offset: int) -> tuple[int, int]:
        """Where a node of its syntax tree is: from the tree's line (from 1) and offset in UTF-8 bytes."""
        if self.counts and offset:
            offset = int(self.counts[line - 1][offset - 1])
        return self.line + line - 1, offset + (self.column if line == 1 else 1)


def statement(source: str, line: int, column: int) -> Statement:
    """A statement that begins there."""
    if source.isascii():
        return Statement(source, line, column)
    lines = [np.frombuffer(text.encode(), np.uint8) for text in source.split("\n")]
    # The first byte of a character is any but 10xxxxxx.
    return Statement(source, line, column, tuple(np.cumsum((text & 0xC0) != 0x80) for text in lines))
