"""Jacobians, Hessians and products with them, of a program; the cost is checked before anything runs.

Each function applies the transform of its name to the program as a function. Sparse matrices take few directions (see
`sparsity`): entries outside of the pattern are then exactly 0.0, even if an infinite slope would give 0.0 * inf = NaN.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Unpack

from engine.core import InvalidValueError, LimitExceededError, Symbol, Value
from engine.graph import Graph, quoted
from engine.programs.call import RunOptions
from engine.programs.call_setup import CallSetup
from engine.programs.executable import CheckedProgram
from engine.transforms.derivatives import MODES, grad, vmap
from engine.transforms.derivatives import jacobian as matrices
from engine.transforms.derivatives import jvp as along
from engine.transforms.derivatives import vjp as back

#: A checked derivative; `run` returns nested dicts of values by name, and takes cotangents, tangents or vectors by name
#: as `along`.
Derivative = CheckedProgram[dict[str, Any]]


def vjp(
    graph: Graph,
    inputs: Mapping[str, Value],
    cotangents: Mapping[str, Value],
    *,
    wrt: Sequence[str] | None = None,
    many: bool = False,
    **running: Unpack[RunOptions],
) -> Derivative:
    """Vector-Jacobian products of the program, for cotangents of outputs or nodes: {"values", "vjps"}.

    Args:
        graph, inputs: the program and a raw value for each of its inputs.
        cotangents: name -> value of the shape of the output or node.
        wrt: names of inputs or nodes; None for all floating inputs.
        many: whether every cotangent, and so every product, has a leading axis of directions.
        running: batched, train, seed, limits and plans, see `RunOptions`.

    Raises:
        AutogradError: of the kind that the wire contract names for the fault.
    """
    setup = CallSetup(graph, inputs, running)
    setup.check_given("cotangents", cotangents)
    setup.check_known("wrt", wrt or (), ("wrt",))
    setup.faults.check()
    chosen = setup.wrt(wrt)
    # Shapes of nodes are known after the first interpretation of the program, which without a batch is the one on the
    # tape.
    is_early = setup.call.rows is not None or bool(setup.faults)
    roots = setup.directions("cotangents", cotangents, many=many) if is_early else {}
    of = dict.fromkeys(setup.call.known[name] for name in cotangents)
    setup.check_gradient_size(of, chosen.values())
    outputs = setup.outputs(None)

    def row(given: Mapping[str, Value], roots: Mapping[str, Value]) -> Any:
        def f(moved: Mapping[str, Value]) -> Any:
            found = setup.at(given, moved)
            return {i: found[i] for i in of}, {name: found[i] for name, i in outputs.items()}

        _, pullback, values = back(f, setup.start(given, chosen.values()), has_aux=True)
        roots = roots if is_early else setup.directions("cotangents", cotangents, many=many)
        [found] = (vmap(pullback) if many else pullback)(roots)
        return {"values": values, "vjps": {name: found[i] for name, i in chosen.items()}}

    axis = int(many)
    answer = setup.function.over_rows(row, (roots, axis), out_axes={"values": 0, "vjps": axis})
    return setup.checked(answer)


def jvp(
    graph: Graph,
    inputs: Mapping[str, Value],
    tangents: Mapping[str, Value],
    *,
    outputs: Sequence[str] | None = None,
    many: bool = False,
    **running: Unpack[RunOptions],
) -> Derivative:
    """Jacobian-vector products of the program, for tangents of inputs or nodes: {"values", "jvps"}.

    tangents: name -> value of the shape of the input or node.
    outputs: names of outputs or nodes; None for the program's floating outputs. Other arguments as of `vjp`.
    """
    setup = CallSetup(graph, inputs, running)
    names = setup.outputs(outputs)
    setup.check_given("tangents", tangents)
    setup.faults.check()
    steps = setup.directions("tangents", tangents, many=many)

    def row(given: Mapping[str, Value], tangents: Mapping[str, Value]) -> Any:
        def f(moved: Mapping[str, Value]) -> Any:
            found = setup.at(given, moved)
            smooth = setup.smooth(names, "outputs", are_named=outputs is not None)
            return {name: found[i] for name, i in smooth.items()}, {name: found[i] for name, i in names.items()}

        start = setup.start(given, steps)
        _, found, values = _many(many, lambda t: along(f, (start,), (t,), has_aux=True))(tangents)
        return {"values": values, "jvps": found}

    return setup.checked(_over_rows_along(setup, row, steps, many, {"values": 0, "jvps": int(many)}))


def jacobian(
    graph: Graph,
    inputs: Mapping[str, Value],
    *,
    of: str | None = None,
    wrt: Sequence[str] | None = None,
    mode: str = "auto",
    **running: Unpack[RunOptions],
) -> Derivative:
    """Jacobian of outputs: {"values", "jacobian": {output: {name: value}}}, each of shape output shape + input shape.

    mode: "reverse" takes a backward pass for each element of the outputs, "forward" a forward pass for each element of
        the inputs, "auto" the cheaper one. If the sparsity pattern at least halves the number of passes, elements
        share passes.

    Raises:
        LimitExceededError: the matrix or its computation exceeds a limit; products with it cost far less.
    """
    setup = CallSetup(graph, inputs, running)
    if mode not in MODES:
        setup.faults.add(InvalidValueError, f"mode is {quoted(mode)}; expected one of {', '.join(MODES)}", ("mode",))
    names = setup.outputs(None if of is None else [of])
    setup.check_known("wrt", wrt or (), ("wrt",))
    setup.faults.check()
    chosen = setup.wrt(wrt)
    smooth = setup.smooth(names, "of", are_named=of is not None)
    with _suggesting("vjp gives its products from the left, jvp those from the right"):
        setup.check_matrices(smooth.values(), chosen.values())

        def row(given: Mapping[str, Value]) -> Any:
            def f(moved: Mapping[str, Value]) -> Any:
                found = setup.at(given, moved)
                return {i: found[i] for i in smooth.values()}, {name: found[i] for name, i in names.items()}

            found, values = matrices(f, mode=mode, has_aux=True)(setup.start(given, chosen.values()))
            blocks = {name: {x: found[i][j] for x, j in chosen.items()} for name, i in smooth.items()}
            return {"values": values, "jacobian": blocks}

        return setup.checked(setup.function.over_rows(row))


def hessian(
    graph: Graph,
    inputs: Mapping[str, Value],
    *,
    of: str | None = None,
    wrt: Sequence[str] | None = None,
    **running: Unpack[RunOptions],
) -> Derivative:
    """Hessian of an output of one element: {"values", "hessian": {name: {name: value}}, "grads"}."""
    setup = CallSetup(graph, inputs, running)
    root = setup.only_output(of)
    setup.check_known("wrt", wrt or (), ("wrt",))
    setup.faults.check()
    chosen = setup.wrt(wrt)
    setup.check_gradient_size([str(root)], chosen.values())
    if setup.faults:
        setup.one_element(root)
    with _suggesting("hvp gives its products with vectors"):
        setup.check_matrices(chosen.values(), chosen.values())

        def row(given: Mapping[str, Value]) -> Any:
            slopes = grad(partial(_root, setup, root, given), has_aux=True)

            def beside(moved: Mapping[str, Value]) -> Any:
                found, values = slopes(moved)
                return found, (found, values)

            blocks, (grads, values) = matrices(beside, mode="forward", has_aux=True)(
                setup.start(given, chosen.values())
            )
            return {
                "values": values,
                "hessian": {name: {other: blocks[i][j] for other, j in chosen.items()} for name, i in chosen.items()},
                "grads": {name: grads[i] for name, i in chosen.items()},
            }

        return setup.checked(setup.function.over_rows(row))


def hvp(
    graph: Graph,
    inputs: Mapping[str, Value],
    vectors: Mapping[str, Value],
    *,
    of: str | None = None,
    wrt: Sequence[str] | None = None,
    many: bool = False,
    **running: Unpack[RunOptions],
) -> Derivative:
    """Products of the Hessian with vectors, without the matrix: {"values", "hvp", "grads"}.

    vectors: name -> value of the shape of the input or node. Other arguments as of `vjp`.
    """
    setup = CallSetup(graph, inputs, running)
    root = setup.only_output(of)
    setup.check_known("wrt", wrt or (), ("wrt",))
    setup.check_given("vectors", vectors)
    setup.faults.check()
    chosen = setup.wrt(wrt)
    setup.check_gradient_size([str(root)], chosen.values())
    steps = setup.directions("vectors", vectors, many=many)

    def row(given: Mapping[str, Value], vectors: Mapping[str, Value]) -> Any:
        start = setup.start(given, [*chosen.values(), *steps])
        moved = {i: start[i] for i in steps}

        def slopes(moved: dict[str, Value]) -> Any:
            at = start | moved
            own = grad(lambda part: _root(setup, root, given, at | part), has_aux=True)
            found, values = own({i: at[i] for i in chosen.values()})
            return found, (found, values)

        _, found, (grads, values) = _many(many, lambda t: along(slopes, (moved,), (t,), has_aux=True))(vectors)
        return {
            "values": values,
            "hvp": {name: found[i] for name, i in chosen.items()},
            "grads": {name: grads[i] for name, i in chosen.items()},
        }

    return setup.checked(_over_rows_along(setup, row, steps, many, {"values": 0, "hvp": int(many), "grads": 0}))


def _root(
    setup: CallSetup, root: str | None, given: Mapping[str, Value], moved: Mapping[str, Value]
) -> tuple[Value, dict[str, Value]]:
    """Return the value `root`, which must have one element, and the outputs of the program."""
    found = setup.at(given, moved)
    setup.one_element(root)
    return found[str(root)], {output.name: found[output.id] for output in setup.call.graph.outputs}


def _many(many: bool, f: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Vectorize a function of one direction, which returns (value, derivative, aux), over many if asked to."""
    return vmap(f, out_axes=(None, 0, None)) if many else f


def _over_rows_along(
    setup: CallSetup, row: Callable[..., Any], steps: Mapping[str, Symbol], many: bool, out_axes: Any
) -> Any:
    """Apply a function of the inputs and directions of one row to all rows; shared inputs have shared directions."""
    axes = {i: int(many) if setup.rows(i, is_cotangent=False) else None for i in steps}
    return setup.function.over_rows(row, (dict(steps), axes), out_axes=out_axes)


@contextmanager
def _suggesting(what: str) -> Iterator[None]:
    """Add a cheaper alternative to the message of a LimitExceededError."""
    try:
        yield
    except LimitExceededError as error:
        detail = f"{error.detail}; {what}, which costs far less"
        raise LimitExceededError(detail, faults=[f._replace(msg=detail) for f in error.faults]) from error
