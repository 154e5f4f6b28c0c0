"""Tokens and statements of infix text, and suggestions for Python syntax that is not part of the language."""

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

#: Token of Python that is not part of the language -> suggestion for the error message.
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
#: Characters of the longest integer literal; every integer within the range of float64 is shorter.
LONGEST_INTEGER = 400


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement with its line and column, both from 1.

    counts: for a source that is not ASCII, by line, the number of characters in its first n + 1 bytes.
    """

    source: str
    line: int
    column: int
    counts: tuple[npt.NDArray[np.int_], ...] = ()

    def position(self, line: int, offset: int) -> tuple[int, int]:
        """Return line and column in the text, from a line (from 1) and a byte offset in the statement's syntax tree."""
        if self.counts and offset:
            offset = int(self.counts[line - 1][offset - 1])
        return self.line + line - 1, offset + (self.column if line == 1 else 1)


def statement(source: str, line: int, column: int) -> Statement:
    """Return the statement with a source, line and column."""
    if source.isascii():
        return Statement(source, line, column)
    lines = [np.frombuffer(text.encode(), np.uint8) for text in source.split("\n")]
    # In UTF-8 only the first byte of a character is not of the form 10xxxxxx.
    return Statement(source, line, column, tuple(np.cumsum((text & 0xC0) != 0x80) for text in lines))
