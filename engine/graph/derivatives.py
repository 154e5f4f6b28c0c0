"""Products with Jacobians and Hessians, and the matrices themselves, of a program: checked and costed before they run.

Each is one interpretation of the program, on a tape for cotangents, with tangents for directions, or both; several
directions at once are an axis more, never a loop.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from engine.errors import Fault, InvalidValueError, LimitExceededError
from engine.graph.application import View
from engine.graph.choices import chosen_outputs, only_output
from engine.graph.ir import Graph
from engine.graph.names import quoted
from engine.graph.request import Derivative, Request
from engine.symbol import Symbol
from engine.table import CALLS
from engine.values import Aval, Value

MODES = ("auto", "reverse", "forward")


def vjp(
    graph: Graph,
    inputs: Mapping[str, Value],
    cotangents: Mapping[str, Value],
    *,
    wrt: Sequence[str] | None = None,
    many: bool = False,
    **options: Any,
) -> Derivative:
    """Cotangents of outputs (or nodes) carried back to `wrt`: {"values", "vjps"}.

    many: every cotangent has a leading axis of directions, and so has every result.
    options: batched, train, seed, limits and plans, as of `evaluate.prepare`.

    Raises:
        AutogradError: of the kind that the wire contract names for the fault.
    """
    request = Request(graph, inputs, options)
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
    **options: Any,
) -> Derivative:
    """Tangents of inputs (or nodes) carried to outputs: {"values", "jvps"}. Arguments as of `vjp`."""
    request = Request(graph, inputs, options)
    names = chosen_outputs(request.application, outputs, request.faults)
    request.check_names("tangents", tangents, request.application.known)
    m = request.directions("tangents", tangents, many)
    plain = request.view()
    steps = request.directed("tangents", tangents, plain, many)
    smooth = request.smooth(plain, names, "outputs", outputs is not None)
    view = request.view(directions=m, tangents=steps)
    jvps = {name: view.tangent(view.values[i]) for name, i in smooth.items()}
    return request.derivative({"values": {name: view.value(i) for name, i in names.items()}, "jvps": jvps})


def jacobian(
    graph: Graph,
    inputs: Mapping[str, Value],
    *,
    of: str | None = None,
    wrt: Sequence[str] | None = None,
    mode: str = "auto",
    **options: Any,
) -> Derivative:
    """All derivatives of outputs: {"values", "jacobian": {output: {name: value}}}, of shapes output + input.

    mode: "reverse" costs a pass back an element of the outputs, "forward" a pass an element of the inputs, "auto" takes
    the cheaper.

    Raises:
        LimitExceededError: the matrix, or the way to it, is beyond a limit; products with it are not.
    """
    request = Request(graph, inputs, options)
    if mode not in MODES:
        msg = f"mode is {quoted(mode)}; expected one of {', '.join(MODES)}"
        request.faults.add(InvalidValueError, msg, ("mode",))
    names = chosen_outputs(request.application, None if of is None else [of], request.faults)
    request.check_wrt(wrt)
    plain = request.view()
    chosen = request.chosen(plain, wrt)
    smooth = request.smooth(plain, names, "of", of is not None)
    rows = sum(plain.aval(i).size for i in smooth.values())
    columns = sum(plain.aval(i).size for i in chosen.values())
    forward = mode == "forward" or (mode == "auto" and columns < rows)
    with _suggesting("vjp gives its products from the left, jvp those from the right"):
        request.check_matrices(plain, smooth.values(), chosen.values())
        found = _forward(request, smooth, chosen, plain) if forward else _reverse(request, smooth, chosen, plain)
        return request.derivative({"values": request.outputs(plain, names), "jacobian": found})


def hessian(
    graph: Graph,
    inputs: Mapping[str, Value],
    *,
    of: str | None = None,
    wrt: Sequence[str] | None = None,
    **options: Any,
) -> Derivative:
    """All second derivatives of one element: {"values", "hessian": {name: {name: value}}, "grads"}."""
    request = Request(graph, inputs, options)
    root = only_output(request.application, of, (), request.faults)
    request.check_wrt(wrt)
    plain = request.view()
    chosen = request.chosen(plain, wrt)
    root = request.check_one(plain, root)
    blocks: dict[str, dict[str, Symbol]] = {name: {} for name in chosen}
    with _suggesting("hvp gives its products with vectors"):
        request.check_matrices(plain, chosen.values(), chosen.values())
        avals = {i: plain.aval(i) for i in chosen.values()}
        total = sum(known.size for known in avals.values())
        view = request.view(directions=total, tangents=request.basis(avals, "tangents"))
        for name, g in zip(chosen, view.gradients([(root, view.ones(root))], list(chosen.values())), strict=True):
            blocks[name] = request.by_name(view.tangent(g), avals, chosen)
        [*grads] = plain.gradients([(root, plain.ones(root))], list(chosen.values()))
        document = {
            "values": request.outputs(plain),
            "hessian": blocks,
            "grads": dict(zip(chosen, map(plain.primal, grads), strict=True)),
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
    **options: Any,
) -> Derivative:
    """Products of the Hessian with vectors, without the matrix: {"values", "hvp", "grads"}. Arguments as of `vjp`."""
    request = Request(graph, inputs, options)
    root = only_output(request.application, of, (), request.faults)
    request.check_wrt(wrt)
    request.check_names("vectors", vectors, request.application.known)
    m = request.directions("vectors", vectors, many)
    plain = request.view()
    chosen = request.chosen(plain, wrt)
    steps = request.directed("vectors", vectors, plain, many)
    root = request.check_one(plain, root)
    view = request.view(directions=m, tangents=steps)
    found = view.gradients([(root, view.ones(root))], list(chosen.values()))
    document = {
        "values": request.outputs(view),
        "hvp": dict(zip(chosen, map(view.tangent, found), strict=True)),
        "grads": dict(zip(chosen, map(view.primal, found), strict=True)),
    }
    return request.derivative(document)


def _reverse(
    request: Request, names: Mapping[str, str], wrt: Mapping[str, str], plain: View
) -> dict[str, dict[str, Symbol]]:
    """One pass back along all elements of the outputs at once."""
    avals = {i: plain.aval(i) for i in names.values()}
    total = sum(known.size for known in avals.values())
    view = request.view(directions=total)
    roots = [(i, view.directed(step)) for i, step in request.basis(avals, "cotangents").items()]
    grads = [view.directions(g) for g in view.gradients(roots, list(wrt.values()))]
    found: dict[str, dict[str, Symbol]] = {}
    places: dict[str, slice] = {}
    start = 0
    for i, known in avals.items():
        places[i] = slice(start, start + known.size)
        start += known.size
    for name, i in names.items():
        parts = [g if len(avals) == 1 else g[places[i]] for g in grads]
        found[name] = {x: _first(g, avals[i], request.application.rows) for x, g in zip(wrt, parts, strict=True)}
    return found


def _first(step: Symbol, known: Aval, rows: int | None) -> Symbol:
    """A result with its axis of directions in the shape of what they are directions of, after that of rows."""
    if rows is not None:
        step = CALLS["transpose"](step, (1, 0, *range(2, step.ndim)))
    lead = () if rows is None else (rows,)
    found: Symbol = CALLS["reshape"](step, (*lead, *known.shape, *step.shape[len(lead) + 1 :]))
    return found


def _forward(
    request: Request, names: Mapping[str, str], wrt: Mapping[str, str], plain: View
) -> dict[str, dict[str, Symbol]]:
    """One pass along all elements of the inputs at once."""
    avals = {i: plain.aval(i) for i in wrt.values()}
    total = sum(known.size for known in avals.values())
    view = request.view(directions=total, tangents=request.basis(avals, "tangents"))
    return {name: request.by_name(view.tangent(view.values[i]), avals, wrt) for name, i in names.items()}


@contextmanager
def _suggesting(what: str) -> Iterator[None]:
    """Adds to a refusal for cost what costs less."""
    try:
        yield
    except LimitExceededError as error:
        detail = f"{error.detail}; {what}, which costs far less"
        raise LimitExceededError(detail, faults=[Fault(f.loc, detail) for f in error.faults]) from error
