"""Backward pass over a tape: iterative, in time linear in the tape, on raw values or (create_graph) on variables.

One loop serves both. At first order a cotangent is a raw value, and a row's vjp gets the raw values that the forward
pass saved. With create_graph a cotangent is a Variable, and the vjp gets the variables themselves, so that its own
operations are recorded too.
"""

from collections.abc import Sequence
from operator import attrgetter
from threading import Lock
from typing import Any, Protocol

import numpy as np

from engine.core.attributes import Given
from engine.core.config import is_recording
from engine.core.errors import NoGradError, NotDifferentiableError, ShapeMismatchError, StaleDataError
from engine.core.masking import are_finite, full_support, nonzero, run_settled, selects, unmask
from engine.core.operation import Vjp
from engine.core.operators import Result
from engine.core.powers import POWERS, Node, Power, may_be_differentiated, smooth_power
from engine.core.table import OPERATIONS, ROW_CALLS
from engine.core.values import Operand, Shaped, Value, as_raw, canonical, dtype_of, shape_of


class TapeValue(Node, Shaped, Protocol):
    """A value on a tape: a `Variable`, or a traced value with its fields."""

    _data: Value
    generation: int


#: Values on a tape with their gradients.
Gradients = list[tuple[TapeValue, Operand]]

_generation = attrgetter("generation")
#: Several threads may add to the gradient of one leaf; no contribution may be lost.
_STORING = Lock()


def run_backward(root: Any, create_graph: bool, retain_grad: bool, cotangent: Given) -> None:
    """Run `Variable.backward` of `root`, a variable; a pass that fails changes nothing: gradients are stored last."""
    if create_graph and not is_recording():
        raise NoGradError("backward: create_graph=True inside no_grad would record nothing")
    seed = _seed(root, create_graph, cotangent)
    if root._op is None:
        with _STORING:
            _store(root, seed, accumulate=cotangent is not None)
        return
    if not (create_graph or retain_grad):
        v, g = _chain(root, seed)
        if v._op is None:
            if type(g) is float and g - g != 0.0:
                # Infinite, or a NaN that may come from a branch that was not taken.
                found = _settled_pass(_reachable(root)[0], {root: seed}, create_graph, retain_grad)
            else:
                found = [(v, g)]
            _finish(root, found, create_graph)
            return
    else:
        v, g = root, seed
    nodes, are_scalars = _reachable(v)
    if are_scalars and not create_graph:
        found = _pass(nodes, {v: g}, create_graph, retain_grad)
        for _, gx in found:
            if gx - gx != 0.0:
                found = _settled_pass(nodes, {v: g}, create_graph, retain_grad)
                break
    else:
        with np.errstate(all="ignore"):
            found = _settled_pass(nodes, {v: g}, create_graph, retain_grad)
    _finish(root, found, create_graph)


def gradients(
    roots: Sequence[tuple[TapeValue, Operand]],
    wanted: Sequence[TapeValue],
    *,
    create_graph: bool = False,
    is_basis: bool = False,
    supports: bool = True,
    through_powers: bool = False,
) -> list[Result]:
    """Return the gradients of several roots together with respect to `wanted`; None where no path leads to one.

    Nothing is stored. The same pass serves variables and the values of a tape of any level.

    Args:
        roots: pairs of a variable and its initial cotangent, of the same shape and dtype; with create_graph, the
            cotangents are variables.
        wanted: leaves or intermediate variables.
        create_graph: record the pass, so that the gradients can be differentiated.
        is_basis: zeros of the cotangents are structural zeros, see `masking`.
        supports: False if the cotangents already carry their supports, or need none.
        through_powers: the gradients will be differentiated again although the values do not show it, see `powers`.
    """
    seeds: dict[TapeValue, Operand] = {}
    for root, g in roots:
        seeds[root] = seeds[root] + g if root in seeds else g
    nodes, _ = _reachable(*seeds)
    through_powers = through_powers or create_graph or any(may_be_differentiated(root._data) for root in seeds)

    def run(is_masked: bool) -> list[Result]:
        wrapped = nonzero if is_basis else full_support
        starts = {root: wrapped(g) if is_masked else g for root, g in seeds.items()}
        found = dict(_recorded_pass(nodes, starts, wanted, create_graph, True, through_powers))
        return [unmask(found.get(x)) if is_masked else found.get(x) for x in wanted]

    with np.errstate(all="ignore"):
        if not supports or not (is_basis or _has_choices(nodes)):
            return run(False)
        return run(True) if create_graph else run_settled([*seeds.values(), *(x._data for x in wanted)], run)


def _settled_pass(
    nodes: list[TapeValue], seeds: dict[TapeValue, Operand], create_graph: bool, retain_grad: bool
) -> Gradients:
    """Run the pass over a tape of variables; track supports if the tape has choices and the result needs them."""
    if not _has_choices(nodes):
        return _recorded_pass(nodes, seeds, nodes, create_graph, retain_grad, create_graph)
    if not create_graph:
        found = _pass(nodes, seeds.copy(), create_graph, retain_grad)
        if are_finite([g for _, g in found]):
            return found
    starts: dict[TapeValue, Operand] = {v: full_support(g) for v, g in seeds.items()}
    found = _recorded_pass(nodes, starts, nodes, create_graph, retain_grad, create_graph)
    return [(v, unmask(g)) for v, g in found]


def _recorded_pass(
    nodes: list[TapeValue],
    seeds: dict[TapeValue, Operand],
    wanted: Sequence[TapeValue],
    create_graph: bool,
    retain_grad: bool,
    through_powers: bool,
) -> Gradients:
    """Run the pass; if it goes through powers, add the gradients of the wanted lengths, which it skips."""
    found = _pass(nodes, seeds.copy(), create_graph, retain_grad, through_powers)
    return _with_lengths(found, nodes, seeds, wanted, create_graph) if through_powers and retain_grad else found


def _has_choices(nodes: list[TapeValue]) -> bool:
    return any(v._op is not None and v._op.selects is not False and selects(v._op) for v in nodes)


def _finish(root: Any, found: Gradients, create_graph: bool) -> None:
    """Store all gradients, or none if one does not fit its variable."""
    for v, g in found:
        if (type(g) is not float or type(v._data) is not float) and v.shape != shape_of(g):
            raise StaleDataError(
                f"backward: the data of a variable of shape {shape_of(g)} was replaced by one of shape {v.shape} "
                "since the forward pass. Run the forward pass again"
            )
    with _STORING:
        root._grad = None
        if not create_graph:
            for v, g in found:
                _store(v, g)
            return
        stored = set()
        for v, g in found:
            # Two variables must not share one gradient variable.
            _store(v, g * 1.0 if id(g) in stored else g)
            stored.add(id(g))


def _seed(root: Any, create_graph: bool, cotangent: Given) -> Value:
    if type(root._data) is float and root._grad is None and cotangent is None and not create_graph:
        return 1.0
    if root.dtype.kind != "f":
        raise NotDifferentiableError(f"backward: expected a floating variable, this one is {root.dtype}")
    kind = type(root)
    given = root._grad if cotangent is None else cotangent
    if given is None:
        ones = 1.0 if type(root._data) is float else np.ones_like(root._data)
        return kind._leaf(ones) if create_graph else ones
    if not isinstance(given, kind):
        given = kind._leaf(as_raw(given))
    elif create_graph:
        # The caller's own variable may get other data later; use a recorded copy with the same bits.
        given = given * 1.0
    if given.shape != root.shape:
        raise ShapeMismatchError(f"backward: cotangent of shape {given.shape} for a variable of shape {root.shape}")
    if given.dtype != root.dtype:
        given = ROW_CALLS["astype"](given, str(root.dtype))
    return given if create_graph else given._data


def _chain(v: TapeValue, g: Value) -> tuple[TapeValue, Value]:
    """Go back through a chain of scalar unary operations without bookkeeping; return its start and the cotangent."""
    while type(v._data) is float and len(v._parents) == 1 and not v._attrs:
        x = v._saved[0]
        if type(x) is not float:
            break
        g = v._op.vjps[0](g, v._data, x)
        v = v._parents[0]
    return v, g


def _reachable(*roots: TapeValue) -> tuple[list[TapeValue], bool]:
    """Return the computed variables that the roots depend on, later generations first, and whether all are scalars."""
    kind = type(roots[0])
    nodes = list(roots)
    seen = set(roots)
    are_scalars = True
    for v in nodes:  # grows during the loop
        if type(v._data) is not float:
            are_scalars = False
        for p in v._parents:
            if type(p) is not kind:
                if type(p) is not float:
                    are_scalars = False
            elif p._op is None:
                if type(p._data) is not float:
                    are_scalars = False
            elif p not in seen:
                seen.add(p)
                nodes.append(p)
    nodes.sort(key=_generation, reverse=True)
    return nodes, are_scalars


def _with_lengths(
    found: Gradients,
    nodes: list[TapeValue],
    seeds: dict[TapeValue, Operand],
    wanted: Sequence[TapeValue],
    create_graph: bool,
) -> Gradients:
    """Add the gradients of wanted lengths and powers, which a pass through powers skips.

    They take a second, plain pass; all other gradients stay those of the first pass.
    """
    inside = {v for v in wanted if v._op is not None and (v._op.power_vjps or v._op.name in POWERS)}
    if not inside or not any(map(smooth_power, (v for v in nodes if v._op is not None and v._op.name in POWERS))):
        return found
    own = [pair for pair in _pass(nodes, seeds.copy(), create_graph, retain_grad=True) if pair[0] in inside]
    return [pair for pair in found if pair[0] not in inside] + own


def _back_through_power(
    lengths: list[tuple[TapeValue, Power]],
    y: Operand,
    g: Operand,
    create_graph: bool,
    grads: dict[TapeValue, Operand],
    leaves: list[TapeValue],
) -> None:
    """Add the cotangents of the operands of those lengths of which node `y` is a smooth power."""
    for v, power in lengths:
        xs = _on_tape(v)[1] if create_graph else v._saved
        if float in map(type, v._saved) and any(type(raw) is not float for raw in (*v._saved, g)):
            xs = _strong(v, xs)
            g = np.float64(g) if type(g) is float else g
        for i, (p, raw) in enumerate(zip(v._parents, v._saved, strict=True)):
            if type(p) is not type(v) or (type(raw) is not float and raw.dtype.kind != "f"):
                continue
            gx = power.cotangent(i, g, y, xs, v._attrs or {})
            if type(gx) is not float or type(raw) is not float:
                gx = fit(gx, raw)
            if p in grads:
                grads[p] = grads[p] + gx
            else:
                grads[p] = gx
                if p._op is None:
                    leaves.append(p)


def _pass(
    nodes: list[TapeValue],
    grads: dict[TapeValue, Operand],
    create_graph: bool,
    retain_grad: bool,
    through_powers: bool = False,
) -> Gradients:
    """Propagate cotangents from later to earlier nodes; return the leaves (or all variables) with their gradients.

    retain_grad: return the gradients of intermediate variables too.
    through_powers: differentiate smooth powers of lengths with respect to the operands of the lengths, see `powers`.
    """
    kind = type(nodes[0])
    get, pop = grads.get, grads.pop
    leaves: list[TapeValue] = []
    retained: Gradients = []
    for v in nodes:
        g = pop(v, None)
        if g is None:
            continue
        if retain_grad:
            retained.append((v, g))
            if v._op is None:
                continue
        if through_powers and v._op.name in POWERS:
            lengths = smooth_power(v)
            if lengths is not None:
                _back_through_power(lengths, v if create_graph else v._data, g, create_graph, grads, leaves)
                continue
        raws = v._saved
        y, xs = _on_tape(v) if create_graph else (v._data, raws)
        if (type(y) is not float or (len(raws) > 1 and type(raws[0]) is not type(raws[1]))) and float in map(
            type, raws
        ):
            xs = _strong(v, xs)
            g = np.float64(g) if type(g) is float else g
        attrs = v._attrs
        vjps = v._op.vjps
        if not vjps:
            # Thousands of operands, passed for each of them, would take quadratic time.
            vjps, xs, attrs = _computed(v._op.cotangents(g, y, xs, attrs or {})), (), None
        i = -1
        for p in v._parents:
            i += 1
            if type(p) is not kind or vjps[i] is None:
                continue
            raw = raws[i]
            if type(raw) is not float and raw.dtype.kind != "f":
                continue
            gx = vjps[i](g, y, *xs, **attrs) if attrs else vjps[i](g, y, *xs)
            if type(gx) is not float or type(raw) is not float:
                gx = fit(gx, raw)
            before = get(p)
            if before is not None:
                grads[p] = before + gx
            else:
                grads[p] = gx
                if p._op is None:
                    leaves.append(p)
    return retained + [(leaf, grads[leaf]) for leaf in leaves]


def _strong(v: Node, xs: tuple[Operand, ...]) -> tuple[Operand, ...]:
    """Return the operands as in the forward pass: a scalar variable is a strong float64, a Python number is weak."""
    kind = type(v)
    return tuple(
        np.float64(x) if type(x) is float and type(p) is kind else x for x, p in zip(xs, v._parents, strict=True)
    )


def _computed(cotangents: Sequence[Operand]) -> list[Vjp]:
    """Wrap cotangents that are already computed as vjps: the `vjp` of a variadic row returns all of them at once."""
    return [lambda *_, gx=gx, **__: gx for gx in cotangents]


def _on_tape(v: TapeValue) -> tuple[Any, tuple[Operand, ...]]:
    kind = type(v)
    xs = []
    for p, raw in zip(v._parents, v._saved, strict=True):
        if type(p) is not kind:
            xs.append(raw)
        elif p._data is raw:
            xs.append(p)
        else:
            raise StaleDataError(
                f"{v._op.name}: the data of an operand was replaced after the forward pass; "
                "create_graph needs the variable as it was. Run the forward pass again"
            )
    return v, tuple(xs)


def fit(gx: Value, raw: Operand) -> Value:
    """Undo broadcasting and promotion: return a cotangent in the shape and dtype of its operand."""
    if isinstance(gx, (np.generic, int)):
        gx = canonical(gx)
    if shape_of(gx) != shape_of(raw):
        gx = OPERATIONS["sum_to"].run((gx,), {"shape": shape_of(raw)})
    if dtype_of(gx) != dtype_of(raw):
        gx = OPERATIONS["astype"].run((gx,), {"dtype": str(dtype_of(raw))})
    return gx


def _store(v: Any, g: Value, accumulate: bool = True) -> None:
    kind = type(v)
    if v._grad is None or not accumulate:
        v._grad = g if isinstance(g, kind) else kind._constant(canonical(g))
    elif isinstance(g, kind):
        v._grad = v._grad + g
    else:
        v._grad = kind._constant(canonical(v._grad._data + g))
