"""Copies and pickles of variables with their tapes, of layers, models and optimizers."""

import copy
import pickle
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from engine import Variable, layers, models, optimizers
from engine import functions as F
from engine.core.copies import Tape, _copying
from engine.core.errors import StaleDataError, UnknownOperationError
from engine.core.operation import ex
from engine.core.table import CALLS, rows, unregister
from engine.core.values import FLOAT64, Aval
from engine.nn.state import state_dict
from engine.programs import parse
from engine.programs.identity import program_id
from engine.rows import primitive
from tests.engine.cases import CASES, attributes, extra, moved, operands, outputs, weights

Copy = Callable[[Any], Any]


COPIES: dict[str, Copy] = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda x: pickle.loads(pickle.dumps(x)),
    "pickle in Python": lambda x: pickle._loads(pickle._dumps(x, 2)),  # type: ignore[attr-defined]
}
EACH_COPY = pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)


@EACH_COPY
def test_every_row_on_a_tape(copied: Copy) -> None:
    """The same gradients to second order from the copy of a tape as from the tape, and apart from it."""
    failures = []
    for case in CASES:
        op, example = case.values
        xs = operands(op, example)
        places = moved(op, example)
        if op.name == "grad" or not places:
            continue
        leaves = [Variable(xs[i], name=f"x{i}") for i in places]
        given = list(xs)
        for i, leaf in zip(places, leaves, strict=True):
            given[i] = leaf
        with np.errstate(all="ignore"):
            ys = outputs(op.run(tuple(given), attributes(op, example), **extra(op)))
        total = F.sum(sum(F.sum(y * weights(y, k)) for k, y in enumerate(ys) if isinstance(y, Variable)))
        again, copies = copied((total, leaves))
        if [(v.name, v.generation) for v in copies] != [(v.name, v.generation) for v in leaves]:
            failures.append(f"{case.id}: names")
        if any(np.shares_memory(v.data, w.data) for v, w in zip(leaves, copies, strict=True)):
            failures.append(f"{case.id}: shared memory")
        for root in (total, again):
            root.backward(create_graph=True)
        firsts = [[v.grad for v in group] for group in (leaves, copies)]
        for group, grads in zip((leaves, copies), firsts, strict=True):
            second = [F.sum(g * g) for g in grads if g is not None and g.creator is not None]
            for v in group:
                v.cleargrad()
            if second:
                sum(second).backward()
        one, other = ([*firsts[k], *(v.grad for v in group)] for k, group in enumerate((leaves, copies)))
        if not all(np.array_equal(_data(a), _data(b), equal_nan=True) for a, b in zip(one, other, strict=True)):
            failures.append(f"{case.id}: other gradients")
    assert failures == []


def _data(v: Any) -> Any:
    return np.array(np.nan) if v is None else v.data


@pytest.mark.sampled(one_in=3)
@EACH_COPY
def test_deep_tapes(copied: Copy) -> None:
    """Of numbers and of arrays, deeper than Python may recurse, with its gradient recorded."""
    depth = 4 * sys.getrecursionlimit()
    for start in (0.5, [0.5, 0.25]):
        x = Variable(start, name="x")
        y = x
        for _ in range(depth):
            y = F.sin(y)
        total = F.sum(y)
        total.backward(create_graph=True)
        x_again, total_again = copied([x, total])
        assert (x_again.name, total_again.generation) == ("x", total.generation)
        for v in (x, x_again):
            first, v.grad = v.grad, None
            F.sum(first).backward()
        np.testing.assert_array_equal(x_again.grad.data, x.grad.data)


@EACH_COPY
def test_what_is_shared_stays_shared(copied: Copy) -> None:
    x, w = Variable([1.0, 2.0], name="x"), Variable(3.0)
    y, z = x * w, x + w
    z.backward(cotangent=[1.0, 1.0])
    for together in ([x, w, y, z], [z, y, w, x], [y, x, z, w], [[x], {"w": w}, [y, [z]], x]):
        same = copied(together)
        found = {str(v): v for v in _variables(same)}
        assert len(found) == len({id(v) for v in _variables(same)}) == 4
        again = {id(v) for v in _variables(same)}
        assert not again & {id(v) for v in (x, w, y, z)}
        products = [v for v in _variables(same) if v.creator is not None]
        assert all(id(p) in again for v in products for p in v._parents)
        grads = [v.grad for v in _variables(same) if v.name == "x"]
        assert all(g is grads[0] and g is not x.grad for g in grads)
    assert not _copying.tapes


def _variables(tree: Any) -> list[Variable]:
    if isinstance(tree, Variable):
        return [tree]
    items = tree.values() if isinstance(tree, dict) else tree
    return [v for item in items for v in _variables(item)]


def test_a_pickler_that_is_kept_sees_what_has_changed() -> None:
    """It holds what it wrote; a copy made meanwhile is of the variables as they are by then."""
    x = Variable(2.0)
    kept = pickle.Pickler(_Discarded())
    kept.dump(x)
    y = x * x * x
    y.backward(create_graph=True)
    again = copy.deepcopy(x)
    again.grad.backward()
    assert again.grad.item() == 12.0 + 12.0
    x_again, y_again = copy.deepcopy([x, y])
    y_again.unchain()
    assert y_again.creator is None and y.creator is not None and x_again.grad is not None


class _Discarded:
    def write(self, data: bytes) -> int:
        return len(data)


@EACH_COPY
def test_stale_data_is_still_found(copied: Copy) -> None:
    x = Variable(2.0)
    y = x * x
    x.data = 3.0
    again = copied(y)
    again.backward()
    assert again._parents[0].grad.item() == 4.0
    with pytest.raises(StaleDataError):
        again.backward(create_graph=True)


@EACH_COPY
def test_models_and_optimizers(copied: Copy) -> None:
    """The copy goes on as the original does, and leaves it alone; an optimizer's parameters are the model's still."""
    x = np.random.default_rng(1).normal(size=(5, 3))
    for make in (
        lambda: models.MLP([4, 1], activation="tanh", rng=0),
        lambda: models.MLP([4, 1], activation=F.sigmoid, rng=0),
        lambda: models.LSTM(3, 1, rng=0),
        lambda: layers.Linear(2, 3, rng=0),
    ):
        model = make()
        optimizer = optimizers.Adam(model)
        _train(model, optimizer, x)
        loss = F.mean(F.square(model(x)))
        again, steps, loss_again = copied([model, optimizer, loss])
        before = state_dict(model)
        for one, other in ((again, steps), (model, optimizer)):
            if one is model:
                assert all(np.array_equal(before[name], a) for name, a in state_dict(model).items())
            (loss if one is model else loss_again).backward()
            other.step()
            _train(one, other, x)
        found = state_dict(again)
        assert all(np.array_equal(found[name], a) for name, a in state_dict(model).items())


def _train(model: Any, optimizer: Any, x: Any) -> None:
    model.cleargrads()
    F.mean(F.square(model(x))).backward()
    optimizer.step()


def test_shallow_copies() -> None:
    """Another variable with the same operands, as of any object."""
    x = Variable(3.0, name="x")
    y = x * x
    z = copy.copy(y)
    z.backward()
    assert (x.grad.item(), z._parents[0] is x, copy.copy(x).name) == (6.0, True, "x")
    alone = copy.copy(x)
    alone.data = 5.0
    assert (x.item(), alone.item()) == (3.0, 5.0)


def test_operations_and_programs_are_copied_by_name() -> None:
    for op in rows():
        for same in (copy.copy(op), copy.deepcopy(op), pickle.loads(pickle.dumps(op))):
            assert same is op
        assert pickle.loads(pickle.dumps(CALLS[op.name])) is CALLS[op.name]
    graph = parse("y = sin(x); y * y[[0, 1]]")
    assert {program_id(pickle.loads(pickle.dumps(graph))), program_id(copy.deepcopy(graph))} == {program_id(graph)}


def test_an_operation_that_is_not_there_is_named() -> None:
    twice = primitive(
        "twice_for_a_while",
        ("x",),
        lambda x: 2.0 * x,
        vjps=(lambda g, y, x: 2.0 * g,),
        infer=lambda x: Aval(x.shape, FLOAT64),
        examples=(ex((2,)),),
        doc="2 x.",
    )
    v = twice(Variable([1.0, 2.0]))
    written = pickle.dumps(v)
    unregister(v.creator)
    with pytest.raises(UnknownOperationError, match="twice_for_a_while"):
        pickle.loads(written)
    again = copy.deepcopy(v)
    again.backward()
    assert again.creator is v.creator


def test_a_deep_tape_is_freed() -> None:
    y = Variable(0.5)
    for _ in range(200_000):
        y = F.sin(y)
    del y


def test_dtypes_are_numpys_own_afterwards() -> None:
    """Fast paths look at their identity."""
    for dtype in ("float64", "float32", "int64", "bool"):
        v = pickle.loads(pickle.dumps(Variable([1.0, 0.0], dtype=dtype)))
        assert v.data.dtype is np.dtype(dtype)
    assert Tape([]).positions == {}
