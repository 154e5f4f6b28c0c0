"""Random programs over small matrices, with three readings: scalar oracle, `functions`, and text for the server."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from engine import functions as F
from tests.acceptance import scalar_tape as S

UNARY = {
    "sqrt": (S.sqrt, F.sqrt, "sqrt({})"),
    "log": (S.log, F.log, "log({})"),
    "inverse": (S.inverse, lambda x: 1.0 / x, "1 / {}"),
    "pow": (lambda x: S.power(x, 1.5), lambda x: x**1.5, "{} ** 1.5"),
    "asin": (S.asin, F.asin, "asin({})"),
    "clip": (lambda x: S.clip(x, -1.0, 1.0), lambda x: F.clip(x, -1.0, 1.0), "clip({}, -1, 1)"),
    "relu": (S.relu, F.relu, "relu({})"),
}
BINARY = {
    "add": (S.add, F.add, "{} + {}"),
    "sub": (S.sub, F.sub, "{} - {}"),
    "mul": (S.mul, F.mul, "{} * {}"),
    "maximum": (lambda a, b: S.largest([a, b]), F.maximum, "maximum({}, {})"),
    "minimum": (lambda a, b: S.largest([a, b], -1.0), F.minimum, "minimum({}, {})"),
}
ROWS = {
    "max": (S.largest, F.max),
    "min": (lambda xs: S.largest(xs, -1.0), F.min),
    "sum": (S.total, F.sum),
    "norm": (S.norm, F.norm),
    "std": (S.std, F.std),
    "logsumexp": (S.logsumexp, F.logsumexp),
}
SHAPED = ["where", "compare", "mask_fill", "matmul_constant", "matmul", "concat", "take", "transpose", "tril", "triu"]
KINDS = [*UNARY, *UNARY, *BINARY, *ROWS, *SHAPED, *SHAPED]


@dataclass
class Program:
    """Steps over n x n matrices; step k makes value k + 2, for x and y are values 0 and 1."""

    n: int
    inputs: list[np.ndarray]
    steps: list[tuple[str, tuple[int, ...], Any]] = field(default_factory=list)
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    ends: list[tuple[int, str]] = field(default_factory=list)

    def constant(self, value: np.ndarray) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = value
        return name

    def oracle(self, inputs: list[np.ndarray] | None = None) -> tuple[Any, list[Any], list[S.Node]]:
        """Return the sum, the elements of the last matrix, and the leaves."""
        leaves = [S.Node(v) for x in inputs or self.inputs for v in x.ravel()]
        size = self.n * self.n
        values = [np.array(leaves[k : k + size], dtype=object).reshape(self.n, self.n) for k in (0, size)]
        for kind, operands, extra in self.steps:
            values.append(self.step(kind, [values[k] for k in operands], extra))
        parts = [v for k, name in self.ends for v in values[k][self.constants[name]]]
        return S.total(parts), list(values[-1].ravel()), leaves

    def step(self, kind: str, args: list[Any], extra: Any) -> Any:
        a = args[0]
        y = np.empty((self.n, self.n), dtype=object)
        cells = list(np.ndindex(y.shape))
        if kind in UNARY:
            return over(y, {c: UNARY[kind][0](a[c]) for c in cells})
        if kind in BINARY:
            return over(y, {c: BINARY[kind][0](a[c], args[1][c]) for c in cells})
        if kind in ROWS:
            per_row = [ROWS[kind][0](list(row)) for row in a]
            return over(y, {c: per_row[c[0]] for c in cells})
        if kind == "where":
            return over(y, {c: (a if self.constants[extra][c] else args[1])[c] for c in cells})
        if kind == "compare":
            return over(y, {c: args[1][c] if S.greater(a[c], extra) else args[2][c] for c in cells})
        if kind == "mask_fill":
            return over(y, {c: a[c] if self.constants[extra][c] else np.float64(0.5) for c in cells})
        if kind in ("matmul", "matmul_constant"):
            b = args[1] if kind == "matmul" else self.constants[extra]
            return over(y, {(i, j): S.total(S.mul(a[i, k], b[k, j]) for k in range(self.n)) for i, j in cells})
        if kind == "concat":
            return np.concatenate([a, args[1]])[extra : extra + self.n]
        if kind == "take":
            return a[extra]
        if kind == "transpose":
            return a.T
        return over(
            y, {(i, j): a[i, j] if (j <= i if kind == "tril" else j >= i) else np.float64(0.0) for i, j in cells}
        )

    def last(self, x: Any, y: Any) -> Any:
        return self.run(x, y)[1]

    def loss(self, x: Any, y: Any) -> Any:
        return self.run(x, y)[0]

    def run(self, x: Any, y: Any) -> tuple[Any, Any]:
        values = [x, y]
        for kind, operands, extra in self.steps:
            a, *rest = [values[k] for k in operands]
            if kind in UNARY:
                out = UNARY[kind][1](a)
            elif kind in BINARY:
                out = BINARY[kind][1](a, rest[0])
            elif kind in ROWS:
                out = F.broadcast_to(ROWS[kind][1](a, axes=1, keepdims=True), (self.n, self.n))
            elif kind == "where":
                out = F.where(self.constants[extra], a, rest[0])
            elif kind == "compare":
                out = F.where(a > extra, rest[0], rest[1])
            elif kind == "mask_fill":
                out = F.mask_fill(a, self.constants[extra], value=0.5)
            elif kind == "matmul":
                out = F.matmul(a, rest[0])
            elif kind == "matmul_constant":
                out = F.matmul(a, self.constants[extra])
            elif kind == "concat":
                out = F.concat([a, rest[0]], axis=0)[extra : extra + self.n]
            elif kind == "take":
                out = F.take(a, np.array(extra), axis=0)
            else:
                out = {"transpose": F.transpose, "tril": F.tril, "triu": F.triu}[kind](a)
            values.append(out)
        parts = [F.sum(F.where(self.constants[name], values[k], 0.0)) for k, name in self.ends]
        return sum(parts[1:], parts[0]), values[-1]

    def text(self) -> str:
        lines = []
        for number, (kind, operands, extra) in enumerate(self.steps):
            a, *rest = ["xy"[k] if k < 2 else f"v{k}" for k in operands]
            form = {
                "where": f"where({extra}, {a}, {rest[0] if rest else ''})",
                "compare": f"where({a} > {extra}, {', '.join(rest)})",
                "mask_fill": f"mask_fill({a}, {extra}, value=0.5)",
                "matmul": f"{a} @ {rest[0] if rest else ''}",
                "matmul_constant": f"{a} @ {extra}",
                "take": f"take({a}, {extra}, axis=0)",
                "transpose": f"transpose({a})",
                "tril": f"tril({a})",
                "triu": f"triu({a})",
            }
            if kind == "concat":
                line = f"concat([{a}, {rest[0]}], axis=0)[{extra}:{extra + self.n}]"
            elif kind in ROWS:
                line = f"broadcast_to({kind}({a}, axes=1, keepdims=True), [{self.n}, {self.n}])"
            elif kind in UNARY or kind in BINARY:
                line = (UNARY | BINARY)[kind][2].format(a, *rest)
            else:
                line = form[kind]
            lines.append(f"v{number + 2} = {line}")
        ends = " + ".join(f"sum(where({m}, {'xy'[k] if k < 2 else f'v{k}'}, 0))" for k, m in self.ends)
        return "; ".join([*lines, f"out = {ends}"])

    def document(self, text: str | None = None) -> dict[str, Any]:
        """Return the inputs that the text reads, in JSON's spelling."""
        words = set(re.findall(r"\w+", text or self.text()))
        given = {"x": self.inputs[0], "y": self.inputs[1], **self.constants}
        return {name: spelled(v) for name, v in given.items() if name in words}


def over(y: np.ndarray, cells: dict[tuple[int, ...], Any]) -> np.ndarray:
    for c, v in cells.items():
        y[c] = v
    return y


def spelled(x: Any) -> Any:
    """Return an array as JSON can hold it."""
    if isinstance(x, np.ndarray):
        x = x.tolist()
    if isinstance(x, list):
        return [spelled(v) for v in x]
    if isinstance(x, bool | np.bool):
        return bool(x)
    return float(x) if np.isfinite(x) else "NaN" if np.isnan(x) else "Infinity" if x > 0 else "-Infinity"


def random_program(rng: np.random.Generator, n: int = 3, steps: int = 7) -> Program:
    """Build a program whose end mostly takes what is finite, out of inputs with zeros and negative numbers."""

    def matrix(specials: list[float]) -> np.ndarray:
        x = np.round(rng.normal(size=(n, n)) * 1.5, 3) + rng.uniform(1e-4, 9e-4, (n, n))
        return np.where(rng.random((n, n)) < 0.25, rng.choice(specials, (n, n)), x)

    program = Program(n, [matrix([0.0, 0.0, -1.0, 1.0]) for _ in "xy"])
    for k in range(steps):
        kind = str(rng.choice(KINDS))
        # The newest value comes first mostly, so that programs are deep.
        newest = k + 1 if rng.random() < 0.7 else int(rng.integers(k + 2))
        operands = (newest, *(int(rng.integers(k + 2)) for _ in range(2)))
        extra: Any = None
        if kind in ("where", "mask_fill"):
            extra = program.constant(rng.random((n, n)) < 0.6)
        elif kind == "matmul_constant":
            extra = program.constant(matrix([0.0, np.nan, 1.0]))
        elif kind == "compare":
            extra = float(rng.choice([0.0, 0.25]))
        elif kind == "concat":
            extra = int(rng.integers(n + 1))
        elif kind == "take":
            extra = [int(i) for i in rng.integers(n, size=n)]
        arity = {**dict.fromkeys(BINARY, 2), "where": 2, "compare": 3, "matmul": 2, "concat": 2}.get(kind, 1)
        program.steps.append((kind, operands[:arity], extra))
    values = np.array([S.value(v) for v in program.oracle()[1]]).reshape(n, n)
    finite = np.isfinite(values) if rng.random() < 0.85 else np.full((n, n), True)
    program.ends.append((steps + 1, program.constant(finite & (rng.random((n, n)) < 0.8))))
    if rng.random() < 0.5:
        program.ends.append((int(rng.integers(2, steps + 2)), program.constant(rng.random((n, n)) < 0.4)))
    return program
