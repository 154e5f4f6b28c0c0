"""Products with Jacobians and Hessians, and the matrices themselves, of a program: checked and costed before they run.

Each is one interpretation of the program, on a tape for cotangents, with tangents for directions, or both; several
directions at once are an axis more, never a loop.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from engine.errors import Fault, InvalidValueError, LimitExceededError
from engine.graph.application import View
from engine.graph.checks import chosen_outputs, only_output
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
    options: batched, train, seed and limits, as of `evaluate.prepare`.

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
    request.check_outputs(plain, names)
    view = request.view(directions=m, tangents=steps)
    jvps = {name: view.tangent(view.values[i]) for name, i in names.items()}
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
    request.check_outputs(plain, names)
    rows = sum(plain.aval(i).size for i in names.values())
    columns = sum(plain.aval(i).size for i in chosen.values())
    forward = mode == "forward" or (mode == "auto" and columns < rows)
    with _suggesting("vjp gives its products from the left, jvp those from the right"):
        request.check_matrices(plain, names.values(), chosen.values())
        found = _forward(request, names, chosen, plain) if forward else _reverse(request, names, chosen, plain)
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
        for name, i in chosen.items():
            known = plain.aval(i)
            view = request.view(
                directions=known.size, tangents={i: request.identity(known, request.rows(i, "tangents"))}
            )
            for other, g in zip(chosen, view.gradients([(root, view.ones(root))], list(chosen.values())), strict=True):
                blocks[other][name] = request.last(view.tangent(g), known)
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
    for name in vectors:
        if name not in chosen and request.application.known[name] not in chosen.values():
            msg = f"vectors: {quoted(name)} is not among wrt ({', '.join(chosen)})"
            request.faults.add(InvalidValueError, msg, ("vectors", name))
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
    """One pass back for each output, along all its elements at once."""
    found = {}
    for name, i in names.items():
        known = plain.aval(i)
        view = request.view(directions=known.size)
        root = view.directed(request.identity(known, request.rows(i, "cotangents")))
        grads = view.gradients([(i, root)], list(wrt.values()))
        found[name] = {
            x: _first(view.directions(g), known, request.application.rows) for x, g in zip(wrt, grads, strict=True)
        }
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
    """One pass for each input, along all its elements at once."""
    found: dict[str, dict[str, Symbol]] = {name: {} for name in names}
    for x, i in wrt.items():
        known = plain.aval(i)
        eye = request.identity(known, request.rows(i, "tangents"))
        view = request.view(directions=known.size, tangents={i: eye})
        for name, output in names.items():
            found[name][x] = request.last(view.tangent(view.values[output]), known)
    return found


class _suggesting:  # noqa: N801 - reads as a keyword
    """Adds to a refusal for cost what costs less."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: Any, tb: Any) -> None:
        if isinstance(error, LimitExceededError):
            detail = f"{error.detail}; {self._what}, which costs far less"
            raise LimitExceededError(detail, faults=[Fault(f.loc, detail) for f in error.faults]) from error
