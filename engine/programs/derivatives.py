"""Products with Jacobians and Hessians, and the matrices themselves, of a program: checked and costed before they run.

Each is one interpretation of the program, on a tape for cotangents, with tangents for directions, or both; several
directions at once are an axis more, never a loop. Matrices that are sparse take few directions (see `sparsity`): what
no element depends on is then exactly 0.0, also beside infinities, where 0.0 * inf would be NaN.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Unpack

from engine.core.errors import InvalidValueError, LimitExceededError
from engine.core.tracer import Symbol
from engine.core.values import Value
from engine.graph.ir import Graph
from engine.graph.names import quoted
from engine.plans.basis import Basis
from engine.programs.application import Running, View
from engine.programs.choices import chosen_outputs, only_output
from engine.programs.request import Derivative, Request

MODES = ("auto", "reverse", "forward")


def vjp(
    graph: Graph,
    inputs: Mapping[str, Value],
    cotangents: Mapping[str, Value],
    *,
    wrt: Sequence[str] | None = None,
    many: bool = False,
    **running: Unpack[Running],
) -> Derivative:
    """Cotangents of outputs (or nodes) carried back to `wrt`: {"values", "vjps"}.

    many: every cotangent has a leading axis of directions, and so has every result.
    running: batched, train, seed, limits and plans, see `Running`.

    Raises:
        AutogradError: of the kind that the wire contract names for the fault.
    """
    request = Request(graph, inputs, running)
    request.check_names("cotangents", cotangents, request.application.known)
    request.check_wrt(wrt)
    view = request.view(directions=request.directions("cotangents", cotangents, many))
    chosen = request.chosen(view, wrt)
    roots = request.directed("cotangents", cotangents, view, many)
    found = view.gradients([(name, view.directed(step)) for name, step in roots.items()], list(chosen.values()))
    vjps = dict(zip(chosen, map(view.directions, found), strict=True))
    return request.derivative({"values": request.outputs(view), "vjps": vjps})


def jvp(
    graph: Graph,
    inputs: Mapping[str, Value],
    tangents: Mapping[str, Value],
    *,
    outputs: Sequence[str] | None = None,
    many: bool = False,
    **running: Unpack[Running],
) -> Derivative:
    """Tangents of inputs (or nodes) carried to outputs: {"values", "jvps"}. Arguments as of `vjp`."""
    request = Request(graph, inputs, running)
    names = chosen_outputs(request.application, outputs, request.faults)
    request.check_names("tangents", tangents, request.application.known)
    m = request.directions("tangents", tangents, many)
    plain = request.view()
    steps = request.directed("tangents", tangents, plain, many)
    smooth = request.smooth(plain, names, "outputs", outputs is not None)
    view, found = request.tangents(
        lambda view: [view.tangent(view.values[i]) for i in smooth.values()], directions=m, tangents=steps
    )
    jvps = dict(zip(smooth, found, strict=True))
    return request.derivative({"values": {name: view.value(i) for name, i in names.items()}, "jvps": jvps})


def jacobian(
    graph: Graph,
    inputs: Mapping[str, Value],
    *,
    of: str | None = None,
    wrt: Sequence[str] | None = None,
    mode: str = "auto",
    **running: Unpack[Running],
) -> Derivative:
    """All derivatives of outputs: {"values", "jacobian": {output: {name: value}}}, of shapes output + input.

    mode: "reverse" costs a pass back an element of the outputs, "forward" a pass an element of the inputs, "auto" takes
        the cheaper. Elements that no element of the other side has in common share a pass where that at least halves
        their number.

    Raises:
        LimitExceededError: the matrix, or the way to it, is beyond a limit; products with it are not.
    """
    request = Request(graph, inputs, running)
    if mode not in MODES:
        msg = f"mode is {quoted(mode)}; expected one of {', '.join(MODES)}"
        request.faults.add(InvalidValueError, msg, ("mode",))
    names = chosen_outputs(request.application, None if of is None else [of], request.faults)
    request.check_wrt(wrt)
    plain = request.view()
    chosen = request.chosen(plain, wrt)
    smooth = request.smooth(plain, names, "of", of is not None)
    above = {i: plain.aval(i) for i in smooth.values()}
    below = {i: plain.aval(i) for i in chosen.values()}
    with _suggesting("vjp gives its products from the left, jvp those from the right"):
        request.check_matrices(plain, smooth.values(), chosen.values())
        known = request.pattern(plain, below, lambda view: [view.step(i) for i in above])
        columns = request.basis(below, known)
        rows = request.basis(above, None if known is None else known.transposed())
        if mode == "forward" or (mode == "auto" and columns.count < rows.count):
            found = _forward(request, smooth, chosen, columns)
        else:
            found = _reverse(request, smooth, chosen, rows)
        return request.derivative({"values": request.outputs(plain, names), "jacobian": found})


def hessian(
    graph: Graph,
    inputs: Mapping[str, Value],
    *,
    of: str | None = None,
    wrt: Sequence[str] | None = None,
    **running: Unpack[Running],
) -> Derivative:
    """All second derivatives of one element: {"values", "hessian": {name: {name: value}}, "grads"}."""
    request = Request(graph, inputs, running)
    root = only_output(request.application, of, (), request.faults)
    request.check_wrt(wrt)
    plain = request.view()
    chosen = request.chosen(plain, wrt)
    root = request.check_one(plain, root)
    avals = {i: plain.aval(i) for i in chosen.values()}
    with _suggesting("hvp gives its products with vectors"):
        request.check_matrices(plain, chosen.values(), chosen.values())
        [*slopes] = plain.gradients([(root, plain.ones(root))], [*avals])
        known = request.pattern(
            plain,
            avals,
            lambda view: slopes if view is plain else view.gradients([(root, view.ones(root))], [*avals]),
        )
        basis = request.basis(avals, known)
        _, found = request.tangents(
            lambda view: [view.tangent(g) for g in view.gradients([(root, view.ones(root))], [*avals])],
            is_basis=True,
            directions=basis.count,
            tangents=basis.steps(lambda i: request.rows(i, "tangents")),
        )
        starts = _starts(plain, avals)
        blocks = {i: basis.columns(step, starts[i]) for i, step in zip(avals, found, strict=True)}
        grads = dict(zip(avals, map(plain.primal, slopes), strict=True))
        document = {
            "values": request.outputs(plain),
            "hessian": {name: {other: blocks[i][j] for other, j in chosen.items()} for name, i in chosen.items()},
            "grads": {name: grads[i] for name, i in chosen.items()},
        }
        return request.derivative(document)


def hvp(
    graph: Graph,
    inputs: Mapping[str, Value],
    vectors: Mapping[str, Value],
    *,
    of: str | None = None,
    wrt: Sequence[str] | None = None,
    many: bool = False,
    **running: Unpack[Running],
) -> Derivative:
    """Products of the Hessian with vectors, without the matrix: {"values", "hvp", "grads"}. Arguments as of `vjp`."""
    request = Request(graph, inputs, running)
    root = only_output(request.application, of, (), request.faults)
    request.check_wrt(wrt)
    request.check_names("vectors", vectors, request.application.known)
    m = request.directions("vectors", vectors, many)
    plain = request.view()
    chosen = request.chosen(plain, wrt)
    steps = request.directed("vectors", vectors, plain, many)
    root = request.check_one(plain, root)
    wanted = list(chosen.values())

    def products(view: View) -> list[Symbol]:
        slopes = view.gradients([(root, view.ones(root))], wanted)
        return [*map(view.tangent, slopes), *map(view.primal, slopes)]

    view, found = request.tangents(products, directions=m, tangents=steps)
    document = {
        "values": request.outputs(view),
        "hvp": dict(zip(chosen, found[: len(wanted)], strict=True)),
        "grads": dict(zip(chosen, found[len(wanted) :], strict=True)),
    }
    return request.derivative(document)


def _reverse(
    request: Request, names: Mapping[str, str], wrt: Mapping[str, str], basis: Basis
) -> dict[str, dict[str, Symbol]]:
    """One pass back along all elements of the outputs at once."""
    view = request.view(directions=basis.count)
    steps = basis.steps(lambda i: request.rows(i, "cotangents"))
    grads = view.gradients([(i, view.directed(step)) for i, step in steps.items()], list(wrt.values()), is_basis=True)
    starts = _starts(view, wrt.values())
    blocks = {x: basis.first(view.directions(g), starts[i]) for (x, i), g in zip(wrt.items(), grads, strict=True)}
    return {name: {x: block[i] for x, block in blocks.items()} for name, i in names.items()}


def _forward(
    request: Request, names: Mapping[str, str], wrt: Mapping[str, str], basis: Basis
) -> dict[str, dict[str, Symbol]]:
    """One pass along all elements of the inputs at once."""
    view, found = request.tangents(
        lambda view: [view.tangent(view.values[i]) for i in names.values()],
        is_basis=True,
        directions=basis.count,
        tangents=basis.steps(lambda i: request.rows(i, "tangents")),
    )
    starts = _starts(view, names.values())
    blocks = {name: basis.columns(step, starts[i]) for (name, i), step in zip(names.items(), found, strict=True)}
    return {name: {x: block[i] for x, i in wrt.items()} for name, block in blocks.items()}


def _starts(view: View, names: Iterable[str]) -> dict[str, int]:
    """The place of each value's first element where all elements stand one after another, each value once."""
    found: dict[str, int] = {}
    start = 0
    for i in dict.fromkeys(names):
        found[i] = start
        start += view.aval(i).size
    return found


@contextmanager
def _suggesting(what: str) -> Iterator[None]:
    """Adds to a refusal for cost what costs less."""
    try:
        yield
    except LimitExceededError as error:
        detail = f"{error.detail}; {what}, which costs far less"
        raise LimitExceededError(detail, faults=[f._replace(msg=detail) for f in error.faults]) from error
