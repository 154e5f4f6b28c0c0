"""The backward pass over a tape: iterative, linear, on raw values at first order and on variables with create_graph.

One loop serves both: at first order a cotangent is a raw value and a row's vjp sees the raw values that the forward
pass saved; with create_graph it is a Variable and the vjp sees the variables themselves, so that what it computes is on
the tape as well.
"""

from operator import attrgetter
from threading import Lock
from typing import Any

import numpy as np

from engine.core.config import is_recording
from engine.core.errors import NoGradError, NotDifferentiableError, ShapeMismatchError, StaleDataError
from engine.core.masking import are_finite, everywhere, nonzero, selects, settled, unmasked
from engine.core.powers import POWERS, is_differentiated, smooth_power
from engine.core.table import CALLS, OPERATIONS
from engine.core.values import Value, as_raw, canonical, dtype_of, shape_of

_generation = attrgetter("generation")
#: Threads may go backward into one leaf; adding to its gradient must not lose any.
_STORING = Lock()


def run_backward(root: Any, create_graph: bool, retain_grad: bool, cotangent: Any) -> None:
    """See `Variable.backward`. Gradients are stored at the end: a pass that fails has changed nothing."""
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
                # An infinity, or a NaN that may come from a branch that was not taken.
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
    roots: list[tuple[Any, Any]],
    wanted: list[Any],
    *,
    create_graph: bool = False,
    is_basis: bool = False,
    supports: bool = True,
    through_powers: bool = False,
) -> list[Any]:
    """The gradient of several roots together with respect to any variables, None where there is no way to one.

    Nothing is stored. The same pass serves variables and the values of a tape of any level.

    Args:
        roots: variables with the cotangents to start from: of their shapes and dtypes; on the tape with create_graph.
        wanted: leaves or variables in between.
        create_graph: gradients are on the tape themselves.
        is_basis: zeros of the cotangents are structural ones, see `masking`.
        supports: False where the cotangents bring theirs along, or need none.
        through_powers: they are differentiated again in a way that the values do not show, see `powers`.
    """
    seeds: dict[Any, Any] = {}
    for root, g in roots:
        seeds[root] = seeds[root] + g if root in seeds else g
    nodes, _ = _reachable(*seeds)
    through_powers = through_powers or create_graph or any(is_differentiated(root._data) for root in seeds)

    def run(is_masked: bool) -> list[Any]:
        wrapped = nonzero if is_basis else everywhere
        starts = {root: wrapped(g) for root, g in seeds.items()} if is_masked else dict(seeds)
        found = dict(_recorded_pass(nodes, starts, wanted, create_graph, True, through_powers))
        return [unmasked(found.get(x)) if is_masked else found.get(x) for x in wanted]

    with np.errstate(all="ignore"):
        if not supports or not (is_basis or _has_choices(nodes)):
            return run(False)
        return run(True) if create_graph else settled([*seeds.values(), *(x._data for x in wanted)], run)


def _settled_pass(
    nodes: list[Any], seeds: dict[Any, Any], create_graph: bool, retain_grad: bool
) -> list[tuple[Any, Any]]:
    """The pass over a tape of variables, with supports where the tape has choices and they make a difference."""
    if not _has_choices(nodes):
        return _recorded_pass(nodes, seeds, nodes, create_graph, retain_grad, create_graph)
    if not create_graph:
        found = _pass(nodes, seeds.copy(), create_graph, retain_grad)
        if are_finite([g for _, g in found]):
            return found
    starts = {v: everywhere(g) for v, g in seeds.items()}
    found = _recorded_pass(nodes, starts, nodes, create_graph, retain_grad, create_graph)
    return [(v, unmasked(g)) for v, g in found]


def _recorded_pass(
    nodes: list[Any],
    seeds: dict[Any, Any],
    wanted: list[Any],
    create_graph: bool,
    retain_grad: bool,
    through_powers: bool,
) -> list[tuple[Any, Any]]:
    """The pass, and where it goes through powers the gradients of lengths that are wanted as well."""
    found = _pass(nodes, seeds.copy(), create_graph, retain_grad, through_powers)
    return _with_lengths(found, nodes, seeds, wanted, create_graph) if through_powers and retain_grad else found


def _has_choices(nodes: list[Any]) -> bool:
    return any(v._op is not None and v._op.selects is not False and selects(v._op) for v in nodes)


def _finish(root: Any, found: list[tuple[Any, Any]], create_graph: bool) -> None:
    """Stores all gradients, or none."""
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
            # No two variables share one gradient variable.
            _store(v, g * 1.0 if id(g) in stored else g)
            stored.add(id(g))


def _seed(root: Any, create_graph: bool, cotangent: Any) -> Value:
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
        # Not the caller's own variable, whose data may be replaced, but one on the tape with the same bits.
        given = given * 1.0
    if given.shape != root.shape:
        raise ShapeMismatchError(f"backward: cotangent of shape {given.shape} for a variable of shape {root.shape}")
    if given.dtype != root.dtype:
        given = CALLS["astype"](given, str(root.dtype))
    return given if create_graph else given._data


def _chain(v: Any, g: Value) -> tuple[Any, Value]:
    """Goes back through scalar operations of one operand, which need no bookkeeping; returns where it had to stop."""
    while type(v._data) is float and len(v._parents) == 1 and not v._attrs:
        x = v._saved[0]
        if type(x) is not float:
            break
        g = v._op.vjps[0](g, v._data, x)
        v = v._parents[0]
    return v, g


def _reachable(*roots: Any) -> tuple[list[Any], bool]:
    """Every computed variable that the roots depend on, later generations first; and whether all are scalars."""
    kind = type(roots[0])
    nodes = list(roots)
    seen = set(roots)
    are_scalars = True
    for v in nodes:  # grows while it is read
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
    found: list[tuple[Any, Any]], nodes: list[Any], seeds: dict[Any, Any], wanted: list[Any], create_graph: bool
) -> list[tuple[Any, Any]]:
    """Gradients with those of the wanted lengths and powers, which a pass through powers leaves out.

    They take a pass of their own. What is behind a length gets its gradient from the first one.
    """
    inside = {v for v in wanted if v._op is not None and (v._op.power_vjps or v._op.name in POWERS)}
    if not inside or not any(map(smooth_power, (v for v in nodes if v._op is not None and v._op.name in POWERS))):
        return found
    own = [pair for pair in _pass(nodes, seeds.copy(), create_graph, retain_grad=True) if pair[0] in inside]
    return [pair for pair in found if pair[0] not in inside] + own


def _back_through_power(
    lengths: list[tuple[Any, Any]], y: Any, g: Any, create_graph: bool, grads: dict[Any, Any], leaves: list[Any]
) -> None:
    """Adds what comes back to the operands of the lengths that a node is a power of."""
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
                gx = fitted(gx, raw)
            if p in grads:
                grads[p] = grads[p] + gx
            else:
                grads[p] = gx
                if p._op is None:
                    leaves.append(p)


def _pass(
    nodes: list[Any], grads: dict[Any, Any], create_graph: bool, retain_grad: bool, through_powers: bool = False
) -> list[tuple[Any, Any]]:
    """Goes down from what has a gradient; returns leaves with theirs, and all variables where they are retained.

    through_powers: from smooth powers of lengths on to what the lengths were computed from, see `powers`.
    """
    kind = type(nodes[0])
    get, pop = grads.get, grads.pop
    leaves: list[Any] = []
    retained: list[tuple[Any, Any]] = []
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
        vjps = v._op.vjps or _computed(v._op.cotangents(g, y, xs, attrs or {}))
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
                gx = fitted(gx, raw)
            before = get(p)
            if before is not None:
                grads[p] = before + gx
            else:
                grads[p] = gx
                if p._op is None:
                    leaves.append(p)
    return retained + [(leaf, grads[leaf]) for leaf in leaves]


def _strong(v: Any, xs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Operands as the forward pass had them: among arrays a scalar variable has a dtype of its own, a number none."""
    kind = type(v)
    return tuple(
        np.float64(x) if type(x) is float and type(p) is kind else x for x, p in zip(xs, v._parents, strict=True)
    )


def _computed(cotangents: Any) -> list[Any]:
    """Vjps that give what is there already: a variadic row gives all its cotangents at once."""
    return [lambda *_, gx=gx, **__: gx for gx in cotangents]


def _on_tape(v: Any) -> tuple[Any, tuple[Any, ...]]:
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


def fitted(gx: Any, raw: Any) -> Any:
    """Undoes broadcasting and promotion: a cotangent in the shape and dtype of its operand."""
    if isinstance(gx, (np.generic, int)):
        gx = canonical(gx)
    if shape_of(gx) != shape_of(raw):
        gx = OPERATIONS["sum_to"].run((gx,), {"shape": shape_of(raw)})
    if dtype_of(gx) != dtype_of(raw):
        gx = OPERATIONS["astype"].run((gx,), {"dtype": str(dtype_of(raw))})
    return gx


def _store(v: Any, g: Any, accumulate: bool = True) -> None:
    kind = type(v)
    if v._grad is None or not accumulate:
        v._grad = g if isinstance(g, kind) else kind._constant(canonical(g))
    elif isinstance(g, kind):
        v._grad = v._grad + g
    else:
        v._grad = kind._constant(canonical(v._grad._data + g))
