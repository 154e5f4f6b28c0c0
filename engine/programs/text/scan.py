"""Scan infix text token by token before Python parses it.

One linear pass finds syntax errors, checks nesting and size, and splits the text into statements: Python's parser never
sees text that it would warn of, refuse with a message of its own, or find too deep or too large.
"""

import keyword
import unicodedata
from dataclasses import dataclass
from typing import Never

from engine.core import LimitExceededError, ProgramSyntaxError
from engine.graph import CONSTANTS, check_limit, name_fault, normalized, quoted
from engine.programs.builder import MAX_NODES
from engine.programs.text.tokens import (
    INSTEAD,
    LONGEST_INTEGER,
    NEEDS_OPERAND,
    OPENED_BY,
    PREFIX,
    SIGN_OR_NUMBER,
    TOKEN,
    UNREADABLE,
    WORD,
    Statement,
    statement,
)

#: Tokens that a node takes on average.
_TOKENS_PER_NODE = 6
#: The most chains of maximal length that may be nested.
_CHAINS_DEEP = 2


@dataclass(slots=True)
class _Group:
    """Open bracket, or the statement itself.

    bracket: the character; empty for the statement.
    offset: its offset in the text.
    chain: the number of operators since the last comma.
    trailers: the number of calls and indices of the last operand.
    pending: the number of signs before the operand, each of which adds one level of depth.
    inner: the largest height of brackets closed since the last comma.
    height: the largest sum of `inner`, `chain` and `trailers` so far.
    """

    bracket: str
    offset: int
    chain: int = 0
    trailers: int = 0
    pending: int = 0
    inner: int = 0
    height: int = 0


class Scanner:
    """Scanner that splits a text into statements."""

    def __init__(self, text: str, max_depth: int, max_chain: int, max_nodes: float) -> None:
        self._text = text.replace("\r\n", "\n").replace("\r", "\n")
        self._max_depth, self._max_chain, self._max_nodes = max_depth, max_chain, max_nodes
        self._max_tokens = max(max_nodes, MAX_NODES)
        self._statements: list[Statement] = []
        self._groups = [_Group("", 0)]
        self._depth = self._nodes = self._tokens = self._all_tokens = 0
        self._start = -1
        self._start_line = self._start_column = self._end = 0
        self._line, self._line_start = 1, 0
        self._indent: str | None = None
        self._last = ""
        self._is_operand = False
        self._names: set[str] = set()

    def fail(self, detail: str, line: int, column: int) -> Never:
        """Raise a ProgramSyntaxError at a line and column, both from 1."""
        raise ProgramSyntaxError(detail, line, column, self._text.split("\n")[line - 1], ("expr", line, column))

    def scan(self) -> list[Statement]:
        """Return the statements.

        Raises:
            ProgramSyntaxError: a token is not part of the language, or is misplaced.
            LimitExceededError: nesting, a chain of operators or the number of nodes exceeds its limit.
        """
        unreadable = UNREADABLE.search(self._text)
        if unreadable:
            self._unexpected("", unreadable.start())
        act = {kind: getattr(self, f"_{kind}") for kind in TOKEN.groupindex if kind not in ("newline", "comment")}
        for match in TOKEN.finditer(self._text):
            kind = match.lastgroup
            if kind in act:
                token, end = match[kind], match.end()
                at = end - len(token)
                if self._start < 0:
                    self._begin(token, at)
                act[kind](token, at)
                self._last, self._end = token, end
                self._tokens += 1
                if self._tokens > self._max_tokens:
                    self._refuse_length()
            elif kind == "newline":
                if len(self._groups) == 1:
                    self._finish()
                self._line, self._line_start = self._line + 1, match.end()
        if len(self._groups) > 1:
            self._fail(f'"{self._groups[-1].bracket}" is never closed', self._groups[-1].offset)
        self._finish()
        return self._statements

    def _fail(self, detail: str, at: int) -> Never:
        self.fail(detail, self._text.count("\n", 0, at) + 1, at - self._text.rfind("\n", 0, at))

    def _unexpected(self, token: str, at: int) -> Never:
        char = self._text[at]
        shown = f"{quoted(char)}, " if char.isprintable() else ""
        about = f"U+{ord(char):04X} {unicodedata.name(char, '')}".rstrip()
        self._fail(f"unexpected character {shown}{about}", at)

    def _begin(self, token: str, at: int) -> None:
        if token == ";":
            self._fail('a statement is missing before ";"', at)
        if self._end <= self._line_start:
            indent = self._text[self._line_start : at]
            if self._indent is None:
                self._indent = indent
            elif indent != self._indent:
                self._fail("this line is not indented as the first one is; statements stand below each other", at)
        self._start, self._start_line, self._start_column = at, self._line, at - self._line_start + 1

    def _finish(self) -> None:
        """End the current statement, if there is one."""
        if self._start < 0:
            return
        self._separate()
        source = self._text[self._start : self._end]
        self._statements.append(statement(source, self._start_line, self._start_column))
        self._all_tokens += self._tokens
        if self._all_tokens > self._max_tokens * _TOKENS_PER_NODE or len(self._statements) > self._max_tokens:
            self._refuse_length()
        self._start, self._tokens, self._is_operand, self._last = -1, 0, False, ""

    def _refuse_length(self) -> Never:
        raise LimitExceededError(
            f"the text has {self._all_tokens + self._tokens:,} words and more, which no program of {self._max_nodes:,} "
            "nodes, the limit, needs; give large arrays as inputs",
            limit="nodes",
        )

    def _count_node(self) -> None:
        self._nodes += 1
        check_limit("nodes", self._nodes, self._max_nodes, "the program")

    def _separate(self) -> None:
        """End the current expression; the next token begins a new one."""
        if not self._is_operand and self._last in NEEDS_OPERAND:
            self._fail(f'an operand is missing after "{self._last}"', self._end)
        group = self._groups[-1]
        self._depth -= group.pending
        group.chain = group.pending = group.inner = 0

    def _operand(self, token: str, at: int) -> None:
        if self._is_operand:
            self._fail(f"an operator is missing between {quoted(self._last)} and {quoted(token)}", at)
        self._is_operand = True
        self._groups[-1].trailers = 0

    def _name(self, token: str, at: int) -> None:
        if token not in self._names:
            self._check_name(token, at)
            self._names.add(token)
        self._operand(token, at)

    def _check_name(self, token: str, at: int) -> None:
        if PREFIX.fullmatch(token) and self._text[at + len(token) : at + len(token) + 1] in ('"', "'"):
            self._fail(f'strings have no prefix; "{token}" before one is not part of the language', at)
        name = normalized(token)
        if token in ("True", "False", "None") or name in CONSTANTS:
            return
        if name in INSTEAD:
            self._fail(f'"{name}" is not part of the language; {INSTEAD[name]}', at)
        fault = name_fault(name if name.isascii() else token)
        if fault:
            is_statement = at == self._start and keyword.iskeyword(name)
            self._fail(fault + ("; statements are assignments and expressions" if is_statement else ""), at)
        if not token.isidentifier():
            self._fail(f"{quoted(token)} is no name; for a power write x ** 2", at)

    def _number(self, token: str, at: int) -> None:
        after = WORD.match(self._text, at + len(token))
        if after and after.group() in ("j", "J"):
            self._fail("complex numbers are not part of the language", at)
        if after:
            shown = quoted(token + after.group())
            self._fail(f"{shown} is neither a number nor a name; write a product as 2 * x", at)
        is_integer = token[1:2] in tuple("xXbBoO") or not {".", "e", "E"} & set(token)
        if is_integer and len(token) > LONGEST_INTEGER:
            self._fail(f"an integer of {len(token):,} digits is more than float64 holds", at)
        try:
            int(token, 0) if is_integer else float(token)
        except ValueError:
            self._fail(f"{quoted(token)} is no number", at)
        self._operand(token, at)

    def _string(self, token: str, at: int) -> None:
        self._operand(token, at)

    def _open(self, token: str, at: int) -> None:
        group = self._groups[-1]
        if self._is_operand:
            group.trailers += 1
            check_limit("chain", group.trailers, self._max_chain, "a row of calls and indices")
            self._heighten(group)
            if self._last != "array":
                self._count_node()
        else:
            group.trailers = 0
        self._groups.append(_Group(token, at))
        self._is_operand = False
        self._deepen()

    def _close(self, token: str, at: int) -> None:
        self._separate()
        group = self._groups[-1]
        if len(self._groups) == 1:
            self._fail(f'"{token}" closes nothing', at)
        if group.bracket != OPENED_BY[token]:
            self._fail(f'"{token}" does not close "{group.bracket}"', at)
        self._groups.pop()
        self._groups[-1].inner = max(self._groups[-1].inner, group.height)
        self._depth -= 1
        self._is_operand = True

    def _mark(self, token: str, at: int) -> None:
        if token == "...":
            return self._operand(token, at)
        bracket = self._groups[-1].bracket
        if token in (",", "=") and not self._is_operand and self._last not in (",", ":"):
            self._fail(f'an operand is missing before "{token}"', at)
        if token == ":" and bracket != "[":
            self._fail('":" stands inside the brackets of an index only', at)
        if token == ";" and bracket:
            self._fail(f'"{bracket}" is not closed before ";"', at)
        self._separate()
        self._is_operand = False
        if token == ";":
            self._finish()
        return None

    def _sign(self, token: str, at: int) -> None:
        group = self._groups[-1]
        if self._is_operand:
            if token != "**":
                self._depth -= group.pending
                group.pending = 0
            group.chain += 1
            check_limit("chain", group.chain, self._max_chain, "a row of operators without parentheses")
            self._heighten(group)
            self._count_node()
            self._is_operand = False
        elif token in ("+", "-"):
            group.pending += 1
            self._deepen()
            if token == "-" and not SIGN_OR_NUMBER.match(self._text, at + 1):
                self._count_node()
        elif self._last in NEEDS_OPERAND or token not in ("*", "**"):
            self._fail(f'an operand is missing before "{token}"', at)
        else:
            self._fail(f'"{token}" does not unpack values here; write them one by one', at)

    def _heighten(self, group: _Group) -> None:
        """Check the height of nested chains: Python's parser fails on high ones, each version at another height."""
        group.height = max(group.height, group.inner + group.chain + group.trailers)
        check_limit("chain", group.height, _CHAINS_DEEP * self._max_chain, "operators nested in operators")

    def _deepen(self) -> None:
        self._depth += 1
        check_limit("depth", self._depth, self._max_depth, "the text")

    def _wrong(self, token: str, at: int) -> None:
        if token[-1] == "=" and token != ":=":
            hint = "write the assignment in full, as in y = y + 1"
            self._fail(f'"{token}" is not part of the language; {hint}', at)
        self._fail(f'"{token}" is not part of the language; {INSTEAD[token]}', at)
