"""Function transforms: what each gives, in which structure, and what it refuses."""

import math
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from engine import Variable
from engine import functions as F
from engine.core.errors import (
    AutogradError,
    BadAttributeError,
    NotDifferentiableError,
    NotScalarError,
    ShapeMismatchError,
)
from engine.transforms import check_grads, grad, hessian, hvp, jacobian, jvp, stop_gradient, value_and_grad, vjp, vmap
from tests.engine.same import assert_same

A = np.array([[2.0, -1.0, 0.5], [0.0, 3.0, 1.0]])
V = np.array([1.0, 2.0, -0.5])
MODES = ["reverse", "forward", "auto"]
PARAMETERS: Any = {"w": A, "layers": [(1.5, None), [V]], "none": None, "empty": ()}


def cubes(x: Any) -> Any:
    return F.sum(x**3)


def bilinear(x: Any, y: Any) -> Any:
    return x @ y


class TestGrad:
    def test_scalar(self) -> None:
        assert_same(grad(F.sin)(1.0), math.cos(1.0))
        assert_same(grad(lambda x: x * x)(3), 6.0)

    def test_array(self) -> None:
        assert_same(grad(cubes)(V), 3 * V**2)
        assert_same(grad(lambda x: F.sum(F.tanh(x)))(A), 1 - np.tanh(A) ** 2)

    def test_one_element_of_any_shape_is_a_scalar(self) -> None:
        assert_same(grad(lambda x: F.reshape(x[0] * x[1], (1, 1)))(V), np.array([2.0, 1.0, 0.0]))
        assert_same(grad(lambda x: x**2)(np.array([3.0])), np.array([6.0]))

    def test_what_the_output_does_not_depend_on_has_zeros(self) -> None:
        assert_same(grad(lambda x: 3.0)(2.0), 0.0)
        assert_same(grad(lambda x, y: F.sum(y), argnums=(0, 1))(A, V), (np.zeros((2, 3)), np.ones(3)))
        assert_same(grad(lambda x: F.floor(x) * 2.0)(2.5), 0.0)
        assert_same(grad(stop_gradient)(2.0), 0.0)

    def test_of_the_identity(self) -> None:
        assert_same(grad(lambda x: x)(2.0), 1.0)
        assert_same(grad(lambda x, y: y, argnums=(0, 1))(2.0, 3.0), (0.0, 1.0))

    def test_empty(self) -> None:
        assert_same(grad(F.sum)(np.zeros((0, 3))), np.zeros((0, 3)))

    @pytest.mark.parametrize(
        ("argnums", "expected"),
        [
            (0, 12.0),
            (1, 4.0),
            (-1, 4.0),
            (-2, 12.0),
            ((0,), (12.0,)),
            ((0, 1), (12.0, 4.0)),
            ((1, 0), (4.0, 12.0)),
            ((0, -1), (12.0, 4.0)),
        ],
        ids=str,
    )
    def test_argnums(self, argnums: Any, expected: Any) -> None:
        assert_same(grad(lambda x, y: x**2 * y, argnums)(2.0, 3.0), expected)

    def test_other_arguments_stay_what_they_are(self) -> None:
        def power(x: Any, n: int, *, scale: float) -> Any:
            assert type(n) is int
            y = scale
            for _ in range(n):
                y = y * x
            return y

        assert_same(grad(power)(2.0, 3, scale=5.0), 60.0)
        labels = np.array([0, 2])
        p = np.exp(A) / np.exp(A).sum(axis=1, keepdims=True)
        assert_same(grad(F.cross_entropy)(A, labels), (p - np.eye(3)[labels]) / 2)

    def test_value_and_grad(self) -> None:
        assert_same(value_and_grad(cubes)(V), (8.875, 3 * V**2))
        y, slopes = value_and_grad(bilinear, argnums=(0, 1))(V, V + 1)
        assert_same(y, float(V @ (V + 1)))
        assert_same(slopes, (V + 1, V))

    def test_has_aux(self) -> None:
        def f(x: Any) -> Any:
            y = x * x
            return F.sum(y), {"squares": y, "count": 3, "nothing": None}

        found, aux = grad(f, has_aux=True)(V)
        assert_same(found, 2 * V)
        assert type(aux["squares"]) is np.ndarray
        np.testing.assert_array_equal(aux["squares"], V * V)
        assert aux["count"] == 3
        assert aux["nothing"] is None
        (y, aux), found = value_and_grad(f, has_aux=True)(V)
        assert_same((y, found), (5.25, 2 * V))
        np.testing.assert_array_equal(aux["squares"], V * V)

    def test_dtype_of_values(self) -> None:
        x = A.astype(np.float32)
        assert_same(grad(lambda x: F.sum(2.5 * x**2))(x), 5 * x, rtol=1e-6)
        found = grad(F.sin)(np.float32(1.0))
        assert (np.shape(found), np.asarray(found).dtype) == ((), np.float32)
        mixed = grad(lambda x, y: F.sum(x * y), argnums=(0, 1))(x, A)
        assert_same(mixed, (x, A), rtol=1e-6)

    def test_inputs_are_not_written_to_and_results_are_their_own(self) -> None:
        x = V.copy()
        found = grad(lambda x: F.sum(x) + F.sum(x * 1.0))(x)
        y, pullback = vjp(lambda x: x, x)
        assert not np.shares_memory(y, x)
        assert not np.shares_memory(found, x)
        np.testing.assert_array_equal(pullback(V)[0], V)
        np.testing.assert_array_equal(x, V)


class TestContainers:
    @staticmethod
    def loss(p: Any) -> Any:
        assert p["none"] is None and p["empty"] == ()
        ((a, _), [v]) = p["layers"]
        return a**2 * F.sum(p["w"] @ v)

    def expected(self) -> Any:
        total = float((A @ V).sum())
        return {
            "w": 2.25 * np.tile(V, (2, 1)),
            "layers": [(3.0 * total, None), [2.25 * A.sum(axis=0)]],
            "none": None,
            "empty": (),
        }

    def test_grad_has_the_structure_of_the_argument(self) -> None:
        assert_same(grad(self.loss)(PARAMETERS), self.expected())
        both = grad(lambda p, x: self.loss(p) * x, argnums=(1, 0))(PARAMETERS, 1.0)
        assert_same(both, (2.25 * float((A @ V).sum()), self.expected()))

    def test_vjp_and_jvp(self) -> None:
        y, pullback = vjp(lambda p: {"loss": [self.loss(p)], "a": p["layers"][0][0]}, PARAMETERS)
        assert_same(y, {"loss": [2.25 * float((A @ V).sum())], "a": 1.5})
        slopes = self.expected()
        assert_same(pullback({"loss": [1.0], "a": 0.0}), (slopes,))
        only_a = pullback({"loss": [0.0], "a": 2.0})[0]
        assert_same(only_a["layers"][0], (2.0, None))
        np.testing.assert_array_equal(only_a["w"], np.zeros((2, 3)))
        tangent = {"w": np.ones((2, 3)), "layers": [(0.5, None), [V]], "none": None, "empty": ()}
        _, (dy, da) = jvp(lambda p: (self.loss(p), p["layers"][0][0]), (PARAMETERS,), (tangent,))
        inner = slopes["w"].sum() + 0.5 * slopes["layers"][0][0] + slopes["layers"][1][0] @ V
        assert_same((dy, da), (float(inner), 0.5))

    @pytest.mark.parametrize("mode", MODES)
    def test_jacobian_has_the_output_outside_and_the_argument_inside(self, mode: str) -> None:
        def f(p: Any) -> Any:
            return {"product": p["A"] @ p["v"], "size": (F.sum(p["v"] ** 2),)}

        found = jacobian(f, mode=mode)({"A": A, "v": V})
        assert_same(
            found,
            {
                "product": {"A": np.einsum("ik,l->ikl", np.eye(2), V), "v": A},
                "size": ({"A": np.zeros((2, 3)), "v": 2 * V},),
            },
        )

    def test_hessian_in_blocks(self) -> None:
        found = hessian(lambda p: p["x"] ** 2 * F.sum(p["y"][0] ** 3))({"x": 2.0, "y": [V]})
        squares = 3 * V**2
        assert_same(
            found,
            {
                "x": {"x": 2 * float((V**3).sum()), "y": [4.0 * squares]},
                "y": [{"x": 4.0 * squares, "y": [np.diag(4.0 * 6 * V)]}],
            },
        )

    def test_hvp_of_containers(self) -> None:
        def f(p: Any, z: Any) -> Any:
            return p["x"] * p["y"][0] * z

        found = hvp(f, ({"x": 2.0, "y": [3.0]}, 5.0), ({"x": 1.0, "y": [10.0]}, 100.0))
        assert_same(found, ({"x": 5 * 10.0 + 3 * 100.0, "y": [5 * 1.0 + 2 * 100.0]}, 3 * 1.0 + 2 * 10.0))

    def test_vmap_of_containers(self) -> None:
        def f(p: Any, c: Any) -> Any:
            return {"product": p["v"] @ p["w"], "pair": [c, (p["v"] * c, None)]}

        found = vmap(f, in_axes=({"v": 0, "w": None}, 0))({"v": A, "w": V}, np.array([1.0, 2.0]))
        expected = {"product": A @ V, "pair": [np.array([1.0, 2.0]), (A * [[1.0], [2.0]], None)]}
        assert_same(found, expected)

    def test_leaves_of_all_kinds(self) -> None:
        found = grad(lambda p: p[0] * p[1] * F.sum(p[2]))([2, 3.0, V.astype(np.float32)])
        assert_same(found[:2], [7.5, 5.0])
        assert_same(found[2], np.full(3, 6.0, np.float32))


class TestVjp:
    def test_pullback_is_used_several_times(self) -> None:
        y, pullback = vjp(lambda x, v: F.tanh(x @ v), A, V)
        assert_same(y, np.tanh(A @ V))
        slope = 1 - np.tanh(A @ V) ** 2
        for c in (np.array([1.0, 0.0]), np.array([-2.0, 3.0])):
            assert_same(pullback(c), (np.outer(c * slope, V), A.T @ (c * slope)))

    def test_one_primal_gives_a_tuple(self) -> None:
        y, pullback = vjp(F.exp, 0.5)
        assert_same((y, pullback(2.0)), (math.exp(0.5), (2 * math.exp(0.5),)))

    def test_has_aux(self) -> None:
        y, pullback, aux = vjp(lambda x: (x**2, [x, 7]), 3.0, has_aux=True)
        assert_same((y, pullback(1.0)), (9.0, (6.0,)))
        assert aux == [3.0, 7]

    def test_it_is_linear_in_a_cotangent_that_is_differentiated(self) -> None:
        def f(c: Any) -> Any:
            _, pullback = vjp(F.sin, 1.0)
            return pullback(c)[0] ** 2

        assert_same(grad(f)(3.0), 6 * math.cos(1.0) ** 2)

    def test_pullback_outlives_the_transform_that_it_was_made_in(self) -> None:
        def f(x: Any) -> Any:
            y, pullback = vjp(lambda z: x * z**2, 3.0)
            return y * pullback(1.0)[0]

        assert_same(grad(f)(2.0), 2 * 2.0 * 9 * 6)


class TestJvp:
    def test_value_and_tangent(self) -> None:
        assert_same(jvp(F.sin, (1.0,), (2.0,)), (math.sin(1.0), 2 * math.cos(1.0)))
        y, dy = jvp(lambda x, v: x @ v, (A, V), (np.ones((2, 3)), 2 * V))
        assert_same((y, dy), (A @ V, np.full(2, V.sum()) + 2 * A @ V))

    def test_lists_of_primals_are_taken_too(self) -> None:
        assert_same(jvp(lambda x, y: x * y, [2.0, 3.0], [1.0, 10.0]), (6.0, 23.0))

    def test_has_aux(self) -> None:
        y, dy, aux = jvp(lambda x: (x**2, {"x": x}), (3.0,), (1.0,), has_aux=True)
        assert_same((y, dy, aux), (9.0, 6.0, {"x": 3.0}))

    def test_of_what_does_not_depend_on_the_primals(self) -> None:
        y, dy = jvp(lambda x: (np.ones(2), F.floor(x), stop_gradient(x) * x), (2.5,), (1.0,))
        assert_same(dy, (np.zeros(2), 0.0, 2.5))
        assert_same(y, (np.ones(2), 2.0, 6.25))

    def test_float32(self) -> None:
        x = V.astype(np.float32)
        y, dy = jvp(lambda x: 0.5 * F.square(x), (x,), (x,))
        assert_same((y, dy), (x * x / 2, x * x), rtol=1e-6)


class TestJacobian:
    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize(
        ("f", "x", "expected"),
        [
            (lambda x: F.sin(x), 1.0, math.cos(1.0)),
            (lambda x: x * V, 2.0, V),
            (lambda x: A @ x, V, A),
            (lambda x: F.sum(x * x), V, 2 * V),
            (lambda x: x * x, V, np.diag(2 * V)),
            (lambda x: F.transpose(x), A, np.einsum("il,jk->jikl", np.eye(2), np.eye(3)).transpose(0, 1, 3, 2)),
            (lambda x: F.concat([x, x[:1]]), V, np.vstack([np.eye(3), np.eye(3)[:1]])),
            (lambda x: np.ones(2), V, np.zeros((2, 3))),
            (lambda x: x[:0], V, np.zeros((0, 3))),
            (lambda x: F.stack([F.sum(x), 2.0]), np.zeros((0, 2)), np.zeros((2, 0, 2))),
            (lambda x: x.astype("float64") * 2, V.astype(np.float32), 2 * np.eye(3)),
        ],
        ids="sin scaled matvec sum square transpose concat constant no_outputs no_inputs float32".split(),
    )
    def test_against_closed_forms(self, mode: str, f: Callable[[Any], Any], x: Any, expected: Any) -> None:
        found = jacobian(f, mode=mode)(x)
        assert np.shape(found) == np.shape(expected)
        np.testing.assert_allclose(found, expected, rtol=1e-13)

    @pytest.mark.parametrize("mode", MODES)
    def test_argnums_and_aux(self, mode: str) -> None:
        def f(x: Any, s: Any, y: Any) -> Any:
            return x * y * s, {"sum": x + y}

        found, aux = jacobian(f, argnums=(0, -1), mode=mode, has_aux=True)(V, 2.0, 3.0)
        assert_same(found, (6 * np.eye(3), 2 * V))
        assert_same(aux, {"sum": V + 3.0})
        assert_same(jacobian(f, 1, mode, has_aux=True)(V, 2.0, 3.0)[0], 3 * V)

    def test_auto_takes_the_cheaper_mode(self) -> None:
        """4 directions are enough for either function; with one for each of the other side's elements, there would
        be matrices of 4,000 x 4,000 and 3,000 x 3,000 on the way."""
        x, left, wide = np.linspace(0, 1, 4), np.linspace(0, 1, 1000), np.linspace(0, 1, 3000)
        tracemalloc.start()
        tall = jacobian(lambda x: F.outer(left, x))(x)
        flat = jacobian(lambda x: F.sum(F.reshape(x * x, (4, 750)), axes=1))(wide)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert_same(tall, np.einsum("i,jk->ijk", left, np.eye(4)))
        assert_same(flat, np.kron(np.eye(4), np.ones(750)) * 2 * wide)
        assert peak < 20e6


class TestHessian:
    def test_of_a_vector(self) -> None:
        H = np.array([[2.0, 1.0, 0.0], [1.0, -3.0, 0.5], [0.0, 0.5, 4.0]])
        assert_same(hessian(lambda x: 0.5 * (x @ H @ x))(V), H)
        assert_same(hessian(cubes)(V), np.diag(6 * V))
        assert_same(hessian(F.sin)(1.0), -math.sin(1.0))

    def test_of_a_matrix(self) -> None:
        found = hessian(lambda X: F.sum(X @ F.transpose(X)))(A)
        assert_same(found, np.einsum("ik,jl->ijkl", 2 * np.ones((2, 2)), np.eye(3)))

    def test_argnums(self) -> None:
        def f(x: Any, y: Any) -> Any:
            return F.sum(x) ** 2 * y**3

        ones, s = np.ones(3), V.sum()
        assert_same(hessian(f)(V, 2.0), 16 * np.outer(ones, ones))
        assert_same(
            hessian(f, argnums=(0, 1))(V, 2.0),
            ((16 * np.outer(ones, ones), 24 * s * ones), (24 * s * ones, float(12 * s**2))),
        )

    def test_has_aux(self) -> None:
        found, aux = hessian(lambda x: (x**4, {"x": x}), has_aux=True)(2.0)
        assert_same((found, aux), (48.0, {"x": 2.0}))

    def test_of_a_linear_function_is_zero(self) -> None:
        assert_same(hessian(lambda x: V @ x)(V), np.zeros((3, 3)))
        assert_same(hessian(lambda x: 1.0)(V), np.zeros((3, 3)))


class TestHvp:
    def test_is_the_hessian_times_the_vector(self) -> None:
        v = np.array([0.5, -1.0, 2.0])
        assert_same(hvp(cubes, (V,), (v,)), (6 * V * v,))
        assert_same(hvp(lambda x: x**4, (2.0,), (0.5,)), (24.0,))

    def test_of_several_primals_jointly(self) -> None:
        dx, dy = np.array([1.0, 0.0, 2.0]), 3.0
        found = hvp(lambda x, y: F.sum(x**2) * y**3, (V, 2.0), (dx, dy))
        assert_same(found, (16 * dx + 24 * V * dy, float(24 * V @ dx + 12 * (V @ V) * dy)))

    def test_of_what_a_hessian_would_be_too_large_for(self) -> None:
        x = np.linspace(-1, 1, 100_000)
        (found,) = hvp(lambda x: F.sum(F.sin(x[1:]) * x[:-1]), (x,), (np.ones(x.size),))
        expected = np.zeros(x.size)
        expected[1:] += -np.sin(x[1:]) * x[:-1] + np.cos(x[1:])
        expected[:-1] += np.cos(x[1:])
        assert_same(found, expected)


class TestVmap:
    def test_over_the_first_axis(self) -> None:
        assert_same(vmap(F.sum)(A), A.sum(axis=1))
        assert_same(vmap(lambda x: F.sin(x))(V), np.sin(V))
        assert_same(vmap(lambda x, y: x @ y)(A, 2 * A), 2 * (A * A).sum(axis=1))

    @pytest.mark.parametrize(
        ("in_axes", "args", "expected"),
        [
            ((0, None), (A, V), A @ V),
            ((None, 0), (V, A), A @ V),
            ([0, None], (A, V), A @ V),
            (1, (A, 2 * A), 2 * (A * A).sum(axis=0)),
            (-1, (A, 2 * A), 2 * (A * A).sum(axis=0)),
            ((0, 1), (A, A.T), (A * A).sum(axis=1)),
            ((-1, None), (A.T, V), A @ V),
        ],
        ids="left right list second_axis last_axis mixed negative".split(),
    )
    def test_in_axes(self, in_axes: Any, args: Any, expected: Any) -> None:
        assert_same(vmap(bilinear, in_axes=in_axes)(*args), expected)

    def test_shapes_inside_lack_the_axis(self) -> None:
        seen = []

        def f(x: Any) -> Any:
            seen.append((x.shape, x.dtype, len(x)))
            return F.reshape(x, (-1, 1)) * 2

        assert_same(vmap(f)(A), 2 * A[:, :, None])
        assert set(seen) == {((3,), np.dtype("float64"), 3)}

    def test_out_axes(self) -> None:
        assert_same(vmap(lambda x: 2 * x, out_axes=1)(A), 2 * A.T)
        assert_same(vmap(lambda x: 2 * x, out_axes=-1)(A), 2 * A.T)
        assert_same(vmap(lambda x: (x, 2 * x), out_axes=(0, 1))(A), (A, 2 * A.T))

    def test_what_does_not_depend_on_the_rows_is_repeated(self) -> None:
        found = vmap(lambda x, c: (c, np.ones(2), x), in_axes=(0, None))(V, 3.0)
        assert_same(found, (np.full(3, 3.0), np.ones((3, 2)), V))

    @pytest.mark.parametrize("n", [0, 1, 2, 1000])
    def test_any_number_of_rows(self, n: int) -> None:
        x = np.random.default_rng(n).standard_normal((n, 3))
        assert_same(vmap(lambda row: F.tanh(row) @ V)(x), np.tanh(x) @ V)
        assert_same(vmap(grad(lambda row: F.sum(row**3)))(x), 3 * x**2)

    def test_integers_and_masks_are_rows_too(self) -> None:
        found = vmap(lambda row, n: F.where(row > 0, row, 0.0) * n)(A, np.array([2, 3]))
        np.testing.assert_array_equal(found, np.maximum(A, 0) * [[2], [3]])
        picked = vmap(lambda row, i: F.take(row, i))(A, np.array([2, 0]))
        assert_same(picked, np.array([0.5, 0.0]))

    def test_float32_stays(self) -> None:
        assert_same(vmap(lambda x: 2 * x)(A.astype(np.float32)), 2 * A.astype(np.float32))

    def test_nested(self) -> None:
        outer = vmap(lambda x: vmap(lambda y: x * y)(V))(np.array([1.0, 2.0]))
        assert_same(outer, np.outer([1.0, 2.0], V))
        assert_same(vmap(vmap(F.sin))(A), np.sin(A))
        assert_same(vmap(lambda column: vmap(lambda x: x * 2)(column), in_axes=1, out_axes=1)(A), 2 * A)

    def test_rows_see_only_themselves(self) -> None:
        """An infinity in one row stays there."""
        x = np.array([[1.0, np.inf], [1.0, 2.0]])
        with np.errstate(invalid="ignore"):
            found = vmap(lambda row: F.sum(row) - row[1])(x)
        assert np.isnan(found[0]) and found[1] == 1.0

    def test_python_control_flow_on_rows_is_refused(self) -> None:
        def branches(x: Any) -> Any:
            return x if x > 0 else -x

        def loops(x: Any) -> Any:
            while x < 10:
                x = x * 2
            return x

        for f in (branches, loops, lambda x: x * float(x), lambda x: x * int(x)):
            with pytest.raises(AutogradError, match=r"(?i)vmap|batch"):
                vmap(f)(V)

    def test_control_flow_on_what_is_no_row_is_free(self) -> None:
        def f(x: Any, c: Any) -> Any:
            return x * 2 if c > 0 else x

        assert_same(vmap(f, in_axes=(0, None))(V, 1.0), 2 * V)
        assert_same(vmap(f, in_axes=(0, None))(V, -1.0), V)


class TestCheckGrads:
    def test_right_derivatives(self) -> None:
        found = check_grads(lambda x, y: F.tanh(x @ y) * 2, A, V)
        assert found.ok
        assert found.max_error < 1e-6
        assert check_grads(lambda p: p["x"] ** 2 * p["y"][0], {"x": 2.0, "y": [3.0]}).ok
        assert check_grads(lambda x: (F.sin(x), [F.cos(x)]), 0.3, order=1).ok

    def test_a_wrong_first_derivative(self) -> None:
        found = check_grads(lambda x: x * stop_gradient(x), np.array([0.5, 3.0]))
        assert not found.ok
        assert found.max_error > 0.1
        assert found.worst is not None

    def test_a_wrong_second_derivative(self) -> None:
        def f(x: Any) -> Any:
            """x**3 in value and slope, but linear beyond."""
            c = stop_gradient(x)
            return c**3 + 3 * c**2 * (x - c)

        assert check_grads(f, 2.0, order=1).ok
        assert not check_grads(f, 2.0, order=2).ok

    def test_a_kink(self) -> None:
        assert not check_grads(F.relu, 0.0, order=1).ok
        assert check_grads(F.abs, -1.0).ok

    def test_tolerances(self) -> None:
        def f(x: Any) -> Any:
            """Wrong by one part in a thousand."""
            return 0.999 * x + 0.001 * stop_gradient(x)

        assert not check_grads(f, 1.0, order=1).ok
        assert check_grads(f, 1.0, order=1, rtol=1e-2, atol=1e-2).ok


ONE = np.array([1.0])

ERRORS: dict[str, tuple[type[AutogradError], str, Callable[[], Any]]] = {
    "grad of a vector": (NotScalarError, r"\(3,\)", lambda: grad(F.sin)(V)),
    "grad of nothing": (NotScalarError, r"\(0,\)", lambda: grad(lambda x: x[:0])(V)),
    "value_and_grad of a vector": (NotScalarError, r"\(2, 3\)", lambda: value_and_grad(F.sin)(A)),
    "hessian of a vector": (NotScalarError, r"\(3,\)", lambda: hessian(F.sin)(V)),
    "hvp of a vector": (NotScalarError, r"\(3,\)", lambda: hvp(F.sin, (V,), (V,))),
    "grad to integers": (NotDifferentiableError, "int64", lambda: grad(F.sum)(np.array([1, 2]))),
    "grad to masks": (NotDifferentiableError, "bool", lambda: grad(F.sum)(V > 0)),
    "grad to integers in a container": (
        NotDifferentiableError,
        "int64",
        lambda: grad(lambda p: F.sum(p["x"]))({"x": V, "n": np.array([1, 2])}),
    ),
    "grad to an integer variable": (NotDifferentiableError, "int64", lambda: grad(F.sum)(Variable(np.array([1])))),
    "grad of a mask": (NotDifferentiableError, "bool", lambda: grad(lambda x: x > 0)(1.0)),
    "grad of an index": (NotDifferentiableError, "int64", lambda: grad(F.argmax)(V)),
    "vjp to integers": (NotDifferentiableError, "int64", lambda: vjp(F.sum, np.array([1, 2]))),
    "jvp of integers": (NotDifferentiableError, "int64", lambda: jvp(F.sum, (np.array([1]),), (ONE,))),
    "jacobian to integers": (NotDifferentiableError, "int64", lambda: jacobian(F.sum)(np.array([1, 2]))),
    "cotangent of another shape": (
        ShapeMismatchError,
        r"\(2,\).*\(3,\)|\(3,\).*\(2,\)",
        lambda: vjp(F.sin, V)[1](ONE[[0, 0]]),
    ),
    "cotangent that would broadcast": (ShapeMismatchError, r"\(3,\)", lambda: vjp(F.sin, V)[1](1.0)),
    "cotangent of another structure": (
        ShapeMismatchError,
        "cotangent",
        lambda: vjp(lambda x: (x, x), 1.0)[1]([1.0, 1.0, 1.0]),
    ),
    "cotangent of other keys": (ShapeMismatchError, "cotangent", lambda: vjp(lambda x: {"y": x}, 1.0)[1]({"z": 1.0})),
    "tangent of another shape": (ShapeMismatchError, r"\(3,\)", lambda: jvp(F.sin, (V,), (ONE,))),
    "tangent missing": (ShapeMismatchError, "tangent", lambda: jvp(bilinear, (V, V), (V,))),
    "tangent of another structure": (
        ShapeMismatchError,
        "tangent",
        lambda: jvp(lambda p: p["x"], ({"x": 1.0},), ([1.0],)),
    ),
    "vector of another shape": (ShapeMismatchError, r"\(3,\)", lambda: hvp(cubes, (V,), (ONE,))),
    "vector missing": (ShapeMismatchError, "vector", lambda: hvp(bilinear, (V, V), (V,))),
    "vmap of unequal lengths": (ShapeMismatchError, r"2.*3|3.*2", lambda: vmap(lambda x, y: x * F.sum(y))(V, A)),
    "vmap of unequal lengths in a container": (
        ShapeMismatchError,
        r"2.*3|3.*2",
        lambda: vmap(lambda p: p["x"])({"x": V, "y": A}),
    ),
    "argnums beyond": (BadAttributeError, "argnums.*2", lambda: grad(bilinear, argnums=2)(V, V)),
    "argnums before": (BadAttributeError, "argnums.*-3", lambda: grad(bilinear, argnums=-3)(V, V)),
    "one of argnums beyond": (BadAttributeError, "argnums.*5", lambda: jacobian(bilinear, argnums=(0, 5))(V, V)),
    "argnums of hessian": (BadAttributeError, "argnums.*1", lambda: hessian(cubes, argnums=1)(V)),
    "mode": (BadAttributeError, "sideways", lambda: jacobian(cubes, mode="sideways")(V)),
    "order": (BadAttributeError, "order.*3", lambda: check_grads(cubes, V, order=3)),
    "vmap over a scalar": (AutogradError, "axis", lambda: vmap(F.sin)(1.0)),
    "vmap over no such axis": (AutogradError, "4", lambda: vmap(F.sin, in_axes=4)(A)),
    "an error inside": (ShapeMismatchError, "matmul", lambda: grad(lambda x: F.sum(x @ x))(A)),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name: str) -> None:
    kind, words, call = ERRORS[name]
    with pytest.raises(kind, match=words) as caught:
        call()
    assert caught.value.detail


def test_stop_gradient() -> None:
    assert_same(stop_gradient(2.0), 2.0)
    np.testing.assert_array_equal(stop_gradient(V), V)
    assert_same(grad(lambda x: x * stop_gradient(x))(3.0), 3.0)
    assert_same(grad(grad(lambda x: x**2 * stop_gradient(x)))(3.0), 6.0)
    assert_same(jvp(lambda x: x * stop_gradient(x), (3.0,), (1.0,)), (9.0, 3.0))
