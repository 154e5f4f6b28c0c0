"""No answer depends on how an array lies in memory: every row, fed and read through views of all kinds."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from engine import Variable, compile
from engine import functions as F
from engine.transforms import grad, hessian, jacobian, jvp, vjp, vmap
from tests.acceptance.comparing import agree, report, shown

A = np.array
Function = Callable[..., Any]
rng = np.random.default_rng(20)
M = rng.uniform(0.2, 0.8, (3, 4))
S = rng.uniform(0.2, 0.8, (3, 3)) + 2 * np.eye(3)
T3 = rng.uniform(0.2, 0.8, (2, 3, 4))
LABELS = A([2, 0, 3])
UNARY = (
    "abs acos asin asinh atan atanh cos cosh digamma erf erfc exp exp2 expm1 gammaln gelu log log10 log1p log2 neg "
    "relu sigmoid sigmoid_slope sin sinh softplus sqrt square tan tanh"
).split()
BINARY = "add sub mul div pow maximum minimum hypot atan2 logaddexp".split()
REDUCTIONS = "sum mean variance std max min prod logsumexp norm".split()

# name, function, arrays that are differentiated
CASES: list[tuple[str, Function, list[np.ndarray]]] = [
    *((name, getattr(F, name), [M]) for name in UNARY),
    ("acosh", F.acosh, [M + 1]),
    *((name, getattr(F, name), [M, rng.uniform(0.2, 0.8, (3, 4))]) for name in BINARY),
    *((f"{name} broadcast", getattr(F, name), [M, rng.uniform(0.2, 0.8, (3, 1))]) for name in BINARY),
    *((name, getattr(F, name), [M]) for name in REDUCTIONS),
    *((f"{name} 0", partial(getattr(F, name), axes=0), [M]) for name in REDUCTIONS),
    *((f"{name} 1 3d", partial(getattr(F, name), axes=1, keepdims=True), [T3]) for name in REDUCTIONS),
    ("cross_entropy", lambda x: F.cross_entropy(x, LABELS), [M]),
    ("cross_entropy ignoring", lambda x: F.cross_entropy(x, A([2, -100, 3])), [M]),
    ("cross_entropy_slope", lambda x: F.cross_entropy_slope(x, LABELS), [M]),
    ("mean_squared_error", F.mean_squared_error, [M, M[::-1] + 0.1]),
    ("softmax", F.softmax, [M]),
    ("softmax 0", lambda x: F.softmax(x, axis=0), [M]),
    ("log_softmax", F.log_softmax, [T3]),
    ("log_softmax 1", lambda x: F.log_softmax(x, axis=1), [T3]),
    ("clip", lambda x: F.clip(x, 0.3, 0.6), [M]),
    ("where", lambda x, y: F.where(A(M > 0.5), x, y), [M, M * 2]),
    ("mask_fill", lambda x: F.mask_fill(x, A(M > 0.5), value=2.0), [M]),
    ("matmul", F.matmul, [M, rng.uniform(0.2, 0.8, (4, 2))]),
    ("matmul vector", F.matmul, [M, rng.uniform(0.2, 0.8, 4)]),
    ("matmul batched", F.matmul, [T3, rng.uniform(0.2, 0.8, (4, 2))]),
    ("linear", F.linear, [M, rng.uniform(0.2, 0.8, (4, 2)), rng.uniform(0.2, 0.8, 2)]),
    ("einsum", lambda x, y: F.einsum([x, y], subscripts="ij,kj->ki"), [M, rng.uniform(0.2, 0.8, (2, 4))]),
    ("einsum diagonal", lambda x: F.einsum([x], subscripts="ii->i"), [S]),
    ("tensordot", lambda x, y: F.tensordot(x, y, axes=2), [T3, M]),
    ("outer", F.outer, [M, rng.uniform(0.2, 0.8, 3)]),
    ("solve", F.solve, [S, rng.uniform(0.2, 0.8, (3, 2))]),
    ("inv", F.inv, [S]),
    ("det", F.det, [S]),
    ("log_abs_det", F.log_abs_det, [S]),
    ("slogdet", lambda x: F.slogdet(x)[1], [S]),
    ("cholesky", lambda x: F.cholesky(x @ F.transpose(x)), [S]),
    ("trace", F.trace, [S]),
    ("diagonal", lambda x: F.diagonal(x, offset=1), [M]),
    ("tril", F.tril, [M]),
    ("triu", lambda x: F.triu(x, 1), [T3]),
    ("reshape", lambda x: F.reshape(x, (2, 6)), [M]),
    ("transpose", lambda x: F.transpose(x, (1, 2, 0)), [T3]),
    ("matrix_transpose", F.matrix_transpose, [T3]),
    ("flip", lambda x: F.flip(x, axes=1), [M]),
    ("roll", lambda x: F.roll(x, 2), [M]),
    ("roll 0", lambda x: F.roll(x, 1, axes=0), [M]),
    ("repeat", lambda x: F.repeat(x, 2), [M]),
    ("repeat 1", lambda x: F.repeat(x, 2, axis=1), [M]),
    ("tile", lambda x: F.tile(x, (2, 1)), [M]),
    ("broadcast_to", lambda x: F.broadcast_to(x, (2, 3, 4)), [M]),
    ("sum_to", lambda x: F.sum_to(x, (3, 1)), [T3]),
    ("squeeze", lambda x: F.squeeze(F.unsqueeze(x, axes=1)), [M]),
    ("concat", lambda x, y: F.concat([x, y], axis=1), [M, M * 2]),
    ("stack", lambda x, y: F.stack([x, y], axis=1), [M, M * 2]),
    ("split", lambda x: F.concat(F.split(x, [1, 3], axis=1)[::-1], axis=1), [M]),
    ("slice", lambda x: x[::-1, 1:3], [M]),
    ("slice list", lambda x: x[:, [2, 0, 2]], [M]),
    ("take", lambda x: F.take(x, A([[2, 0], [1, 1]]), axis=0), [M]),
    ("take flat", lambda x: F.take(x, A([5, 0, 11])), [M]),
    ("get_item", lambda x: F.get_item(x, 1, [3, 0]), [M]),
    ("scatter_add", lambda x, u: F.scatter_add(x, A([0, 0]), u, axis=0), [M, rng.uniform(0.2, 0.8, (2, 4))]),
    ("slice_add", lambda x, u: F.slice_add(x, u, index=[0]), [M, rng.uniform(0.2, 0.8, 4)]),
    ("cumulative_sum", lambda x: F.cumulative_sum(x, axis=1), [M]),
    ("cumsum flat", F.cumsum, [M]),
    ("astype", lambda x: F.astype(x, "float32"), [M]),
]  # fmt: skip


def transposed(x: np.ndarray) -> tuple[np.ndarray, Function]:
    return np.ascontiguousarray(x.T), F.transpose


def permuted(x: np.ndarray) -> tuple[np.ndarray, Function]:
    """Move the first axis to the end, and back through a view."""
    axes = (x.ndim - 1, *range(x.ndim - 1))
    return np.ascontiguousarray(np.moveaxis(x, 0, -1)), lambda v: F.transpose(v, axes)


def reversed_(x: np.ndarray) -> tuple[np.ndarray, Function]:
    return np.ascontiguousarray(np.flip(x)), F.flip


def strided(x: np.ndarray) -> tuple[np.ndarray, Function]:
    return np.repeat(x, 2, axis=-1), lambda v: v[..., ::2]


def backwards(x: np.ndarray) -> tuple[np.ndarray, Function]:
    return np.ascontiguousarray(x[::-1]), lambda v: v[::-1]


def spread(x: np.ndarray) -> tuple[np.ndarray, Function]:
    """A repeated axis that is read once: a view with stride 0 in between."""
    return x.copy(), lambda v: F.broadcast_to(v, (2, *x.shape))[1]


VIEWS = {f.__name__: f for f in (transposed, permuted, reversed_, strided, backwards, spread)}


def fortran(x: np.ndarray) -> np.ndarray:
    return np.asfortranarray(x)


def read_only(x: np.ndarray) -> np.ndarray:
    y = x.copy()
    y.flags.writeable = False
    return y


def every_other(x: np.ndarray) -> np.ndarray:
    return np.repeat(np.repeat(x, 2, axis=-1), 2, axis=0)[::2, ..., ::2] if x.ndim > 1 else np.repeat(x, 2)[::2]


def negative_strides(x: np.ndarray) -> np.ndarray:
    return np.flip(np.flip(x).copy())


def moved_axes(x: np.ndarray) -> np.ndarray:
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 0, -1)), -1, 0)


LAYOUTS = {f.__name__: f for f in (fortran, read_only, every_other, negative_strides, moved_axes)}


def weighted(f: Function, weights: np.ndarray) -> Function:
    return lambda *xs: F.sum(f(*xs) * weights)


def weights_of(f: Function, xs: list[np.ndarray]) -> np.ndarray:
    shape = np.shape(f(*[Variable(x) for x in xs]).data)
    return np.random.default_rng(1).uniform(-1, 1, shape)


def derivatives(f: Function, xs: list[np.ndarray], weights: np.ndarray) -> dict[str, Any]:
    """Return value, gradient and a second derivative by all ways, for arrays as they lie."""
    loss = weighted(f, weights)
    argnums = tuple(range(len(xs)))
    variables = [Variable(x) for x in xs]
    out = loss(*variables)
    out.backward(create_graph=True)
    firsts = [v.grad for v in variables]
    assert all(g is not None for g in firsts)
    for v in variables:
        v.cleargrad()
    sum((F.sum(F.sin(g)) for g in firsts if g is not None), Variable(0.0)).backward()
    tangents = [np.cos(np.arange(x.size, dtype=float)).reshape(x.shape) for x in xs]
    return {
        "value": [f(*xs)],
        "compiled value": [compile(f)(*xs)],
        "gradient": [g.data for g in firsts if g is not None],
        "second": [np.zeros(v.shape) if v.grad is None else v.grad.data for v in variables],
        "transform": grad(loss, argnums=argnums)(*xs),
        "compiled": compile(grad(loss, argnums=argnums))(*xs),
        "jvp": [jvp(f, xs, tangents)[1]],
        "vjp": vjp(f, *xs)[1](np.asfortranarray(weights) if weights.ndim else float(weights)),
    }


def test_arrays_in_any_layout() -> None:
    failures, cases = [], 0
    for name, f, xs in CASES:
        weights = weights_of(f, xs)
        right = derivatives(f, xs, weights)
        for layout, lay in LAYOUTS.items():
            got = derivatives(f, [lay(x) for x in xs], weights)
            cases += len(got)
            failures += [
                f"{name}, {layout}, {what}: {shown(g)}, right: {shown(w)}"
                for what in right
                for g, w in zip(got[what], right[what], strict=True)
                if not agree(g, w)
            ]
    assert not failures, report(failures, cases)


def test_views_inside_of_a_function() -> None:
    """The row reads its operand through a view; the gradient has to find its way back through the same view."""
    failures, cases = [], 0
    for name, f, xs in CASES:
        weights = weights_of(f, xs)
        loss = weighted(f, weights)
        argnums = tuple(range(len(xs)))
        right = grad(loss, argnums=argnums)(*xs)
        for view_name, view in VIEWS.items():
            pairs = [view(x) for x in xs]
            stored, back = [p[0] for p in pairs], [p[1] for p in pairs]

            def through(*vs: Any, loss: Any = loss, back: Any = back) -> Any:
                return loss(*(b(v) for b, v in zip(back, vs, strict=True)))

            variables = [Variable(x) for x in stored]
            through(*variables).backward()
            ways = {
                "tape": [v.grad for v in variables],
                "compiled": compile(grad(through, argnums=argnums))(*stored),
            }
            if view_name == "transposed":
                rows = [np.stack([x, x]) for x in stored]
                ways["vmap"] = [g[1] for g in vmap(grad(through, argnums=argnums))(*rows)]
            # The view has a transpose that puts the right gradient back in place; gradients of it are linear.
            expected = [
                grad(lambda v, b=b, r=r: F.sum(b(v) * r))(x) for x, b, r in zip(stored, back, right, strict=True)
            ]
            cases += len(ways)
            failures += [
                f"{name} of {view_name}, {way}, operand {k}: {shown(g)}, right: {shown(w)}"
                for way, got in ways.items()
                for k, (g, w) in enumerate(zip(got, expected, strict=True))
                if not agree(g, w, rtol=1e-8 if name == "astype" else 1e-9)
            ]
    assert not failures, report(failures, cases)


def test_cotangents_in_any_layout() -> None:
    failures, cases = [], 0
    for name, f, xs in CASES:
        weights = weights_of(f, xs)
        right = grad(weighted(f, weights), argnums=tuple(range(len(xs))))(*xs)
        for layout, lay in LAYOUTS.items():
            if weights.ndim == 0:
                continue
            variables = [Variable(x) for x in xs]
            y = f(*variables)
            y.backward(cotangent=lay(weights).astype(y.dtype))
            # The same as a transposed result, whose cotangent arrives as a view.
            others = [Variable(x) for x in xs]
            F.sum(F.transpose(f(*others)) * lay(np.ascontiguousarray(weights.T))).backward()
            cases += 2
            failures += [
                f"{name}, {layout}, {way}, operand {k}: {shown(v.grad)}, right: {shown(w)}"
                for way, vs in {"cotangent": variables, "transposed": others}.items()
                for k, (v, w) in enumerate(zip(vs, right, strict=True))
                if not agree(v.grad, w, rtol=1e-5 if name == "astype" else 1e-9)
            ]
    assert not failures, report(failures, cases)


def test_gradients_against_differences() -> None:
    """The contiguous answers that everything else is compared with are right themselves."""
    failures, step = [], 1e-5
    for name, f, xs in CASES:
        if name == "astype":
            continue
        weights = weights_of(f, xs)
        loss = weighted(f, weights)
        for k, x in enumerate(xs):
            got = grad(loss, argnums=k)(*xs)
            want = np.zeros_like(x)
            for index in np.ndindex(x.shape):
                ends = []
                for sign in (1, -1):
                    moved = [v.copy() for v in xs]
                    moved[k][index] += sign * step
                    ends.append(float(loss(*moved)))
                want[index] = (ends[0] - ends[1]) / (2 * step)
            if not agree(got, want, 1e-6, 1e-7):
                failures.append(f"{name}, operand {k}: {shown(got)}, right: {shown(want)}")
    assert not failures, report(failures, len(CASES))


def test_nothing_that_was_given_is_written_into() -> None:
    """Arguments, cotangents and constants stay as they were; results share no memory with them."""
    failures = []
    for name, f, xs in CASES:
        for lay in (np.ascontiguousarray, fortran, moved_axes):
            given = [lay(x) for x in xs]
            before = [x.copy() for x in given]
            weights = weights_of(f, xs)
            value, back = vjp(f, *given)
            back(np.ones(weights.shape, value.dtype) if weights.ndim else 1.0)
            compiled = compile(f)(*given)
            for result in (value, compiled):
                if isinstance(result, np.ndarray) and any(np.shares_memory(result, x) for x in given):
                    failures.append(f"{name}: the result shares memory with its argument")
                if isinstance(result, np.ndarray) and result.flags.writeable:
                    result[...] = 7
            if not all(np.array_equal(a, b) for a, b in zip(given, before, strict=True)):
                failures.append(f"{name}: an argument was written into")
    assert not failures, report(failures, len(CASES) * 3)


def test_the_case_of_the_report_by_hand() -> None:
    """Columns of x are rows of the logits: gradients are (softmax - one_hot) / 2, transposed."""
    x = A([[1.0, 2], [3, 5], [0, 1]])
    e = np.exp(x - x.max(0))
    want = e / e.sum(0)
    want[0, 0] -= 1
    want[1, 1] -= 1
    v = Variable(x)
    F.cross_entropy(F.transpose(v), A([0, 1])).backward()
    assert agree(v.grad, want / 2)
    # softmax's own derivative: diag(s) - s s', one block for each column.
    h = hessian(lambda u: F.cross_entropy(F.transpose(u), A([0, 1])))(x)
    s = e / e.sum(0)
    for c in (0, 1):
        assert agree(h[:, c, :, c], (np.diag(s[:, c]) - np.outer(s[:, c], s[:, c])) / 2)
    assert agree(h[:, 0, :, 1], np.zeros((3, 3)))


def test_jacobians_of_views() -> None:
    x = rng.uniform(0.5, 1, (3, 3))
    want = np.zeros((3, 3, 3, 3))
    for i, j in np.ndindex(3, 3):
        want[i, j, j, i] = np.cos(x[j, i])
    for mode in ("forward", "reverse", "auto"):
        assert agree(jacobian(lambda v: F.sin(F.transpose(v)), mode=mode)(x), want), mode
        assert agree(compile(jacobian(lambda v: F.sin(v.T), mode=mode))(fortran(x)), want), mode
