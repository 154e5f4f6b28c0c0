"""Values that are seldom seen, and names: as locally, bit for bit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import engine
import engine.core.errors
from pullback import (
    Connection,
    Variable,
    connect,
    dot,
    errors,
    layers,
)
from pullback import functions as F

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.app.conftest import Server


RAGGED = "a ragged list"
STRANGE: dict[str, Any] = {
    "huge int": 10**400,
    "negative huge int": -(10**400),
    "big int": 2**70,
    "int past 2**53": 2**53 + 1,
    "list of huge ints": [1, 10**400],
    "huge int array": np.array([2**63 - 1, -(2**63)]),
    "uint64": np.array([2**63], dtype="uint64"),
    "uint8": np.arange(3, dtype="uint8"),
    RAGGED: [[1, 2], [3]],
    "deep ragged": [[[1], [2]], [[3], 4]],
    "none": None,
    "none in a list": [1.0, None],
    "text": "1.0",
    "bytes": b"1",
    "complex": 1j,
    "complex array": np.array([1 + 0j]),
    "dict": {"a": 1},
    "set": {1},
    "object array": np.array([object()]),
    "object array of numbers": np.array([1, 2.5], dtype=object),
    "text array": np.array(["a"]),
    "date": np.datetime64("2020-01-01"),
    "nan": float("nan"),
    "infinity": float("inf"),
    "nan in a list": [float("nan"), float("inf"), -float("inf"), -0.0],
    "negative nan": np.array([np.uint64(0xFFF8000000000001)]).view("float64"),
    "negative zero": -0.0,
    "denormal": 5e-324,
    "largest": 1.7976931348623157e308,
    "empty list": [],
    "empty rows": [[], []],
    "empty array": np.zeros((0, 3)),
    "empty in the middle": np.zeros((2, 0, 3), dtype="float32"),
    "0-d": np.array(2.5),
    "0-d float32": np.array(2.5, dtype="float32"),
    "0-d int64": np.array(3),
    "0-d bool": np.array(True),
    "float32 scalar": np.float32(0.1),
    "float64 scalar": np.float64(0.1),
    "float16": np.array([0.1], dtype="float16"),
    "longdouble": np.array([0.1], dtype="longdouble"),
    "int8": np.int8(-3),
    "bool": True,
    "list of bools": [True, False],
    "bools and numbers": [True, 2.0],
    "float32": np.array([0.1, 1e-45, 3e38], dtype="float32"),
    "int64": np.arange(5),
    "bool array": np.array([[True], [False]]),
    "transposed": np.arange(6.0).reshape(2, 3).T,
    "every other": np.arange(10.0)[::2],
    "backwards": np.arange(5.0)[::-1],
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "broadcast": np.broadcast_to(np.arange(3.0), (4, 3)),
    "big-endian": np.arange(5.0).astype(">f8"),
    "big-endian float32": np.arange(5.0).astype(">f4"),
    "big-endian int64": np.arange(5).astype(">i8"),
    "big-endian, every other": np.arange(10.0).astype(">f8")[::2],
    "read-only": np.frombuffer(np.arange(4.0).tobytes()),
    "unaligned": np.frombuffer(b"x" + np.arange(4.0).tobytes(), dtype="uint8")[1:].view("float64"),
    "tuple": (1.0, 2.0),
    "tuples and lists": [(1, 2), [3, 4]],
    "list of arrays": [np.ones(2), np.zeros(2)],
    "list of numpy scalars": [np.float64(1.0), np.float32(2.0)],
    "range": range(3),
    "matrix": np.ma.masked_array([1.0, 2.0], mask=[False, True]),
    "8 dimensions": np.arange(2.0**8).reshape((2,) * 8),
    "large": np.random.default_rng(0).standard_normal(50_000),
}


def outcome(make: Any, value: Any) -> Any:
    """What becomes of a value: the name of its error, or dtype, shape and bytes."""
    try:
        made = make(value)
        if made is None:
            return None
        found = np.asarray(made.data)
    except (engine.errors.AutogradError, errors.PullbackError) as error:
        return type(error).__name__
    return str(found.dtype), found.shape, found.tobytes(), type(made.data).__name__, str(made.dtype), made.shape


@pytest.mark.parametrize("name", STRANGE)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_value_is_what_it_is_locally(connection: Connection, name: str) -> None:
    value = STRANGE[name]
    assert outcome(Variable, value) == outcome(engine.Variable, value)
    assert (Variable(2.0) * 2.0).item() == 4.0


@pytest.mark.sampled(one_in=3)
@pytest.mark.parametrize("speaks_json", [True, False], ids=["json", "msgpack"])
@pytest.mark.filterwarnings("ignore:.*:RuntimeWarning", "ignore::DeprecationWarning")
def test_values_of_operations_are_the_local_ones(server: Server, speaks_json: bool) -> None:
    """Each value as the operand of a few operations: as a variable and as it is; values and gradients, bit for bit."""

    def operations(make: Any, functions: Any, value: Any) -> Iterator[Any]:
        x = make(value)
        for operation in (
            lambda: x + x,
            lambda: x * 2.0,
            lambda: functions.sum(x),
            lambda: functions.abs(x),
            lambda: functions.where(x > 1.0, x, 0.0),
            lambda: functions.add(make(1.5), value),
            lambda: make(1.5) * value,
            lambda: functions.astype(x, "float32"),
        ):
            yield outcome(lambda _, operation=operation: operation(), None)
        y = functions.sum(x * make(3.0))
        try:
            y.backward()
            yield outcome(lambda _: x.grad, None)
        except (engine.errors.AutogradError, errors.PullbackError) as error:
            yield type(error).__name__

    def all_of(make: Any, functions: Any, value: Any) -> list[Any] | str:
        try:
            return list(operations(make, functions, value))
        except (engine.errors.AutogradError, errors.PullbackError) as error:
            return type(error).__name__
        except TypeError:
            return "TypeError"

    different = {}
    with connect(server.base_url, json=speaks_json):
        for name, value in STRANGE.items():
            expected = all_of(engine.Variable, engine.functions, value)
            found = all_of(Variable, F, value)
            if found != expected and "negative nan" not in name:
                different[name] = [
                    (i, a, b) for i, (a, b) in enumerate(zip(found, expected, strict=False)) if a != b
                ] or (found, expected)
    assert different == {}


def test_a_ragged_list_names_the_place(connection: Connection) -> None:
    with pytest.raises(errors.InvalidValueError, match=r"rectangular|ragged"):
        Variable([[1, 2], [3]])


@pytest.mark.parametrize("held_as", ["leaf", "constant", "data", "cotangent", "model input"])
def test_an_array_that_is_changed_after_use(connection: Connection, held_as: str) -> None:
    """It counts as it was when it was used, whenever the operation is sent."""
    array = np.array([[1.0, 2.0]])
    one = Variable([[1.0, 1.0]])
    for factor in (1.0, 10.0, 100.0):
        array[:] = np.array([[1.0, 2.0]]) * factor
        expected = array.copy()
        match held_as:
            case "leaf":
                y = Variable(array) * 1.0
            case "constant":
                y = one * array
            case "data":
                x = Variable([[0.0, 0.0]])
                x.data = array
                y = x * 1.0
            case "cotangent":
                x = Variable([[0.0, 0.0]])
                (x * 1.0).backward(cotangent=array)
                y = x.grad
            case _:
                y = layers.Linear(2, 2, bias=False, rng=0)(array)
                expected = expected @ engine.layers.Linear(2, 2, rng=0).w.data
        array[:] = -1.0
        np.testing.assert_array_equal(y.data, expected)


def test_an_array_that_is_changed_between_two_uses_in_one_run(connection: Connection) -> None:
    array = np.ones(1000)
    x = Variable(2.0)
    first = x * array
    array[7] = 5.0
    second = x * array
    array[7] = 1.0
    third = x * array
    assert (first.data[7], second.data[7], third.data[7]) == (2.0, 10.0, 2.0)


def test_what_is_read_cannot_be_written(connection: Connection) -> None:
    x = Variable([1.0, 2.0])
    with pytest.raises(ValueError, match="read-only"):
        x.data[0] = 5.0
    with pytest.raises(ValueError, match="read-only"):
        x.data += 1.0
    y = x * 2.0
    y.backward()
    with pytest.raises(ValueError, match="read-only"):
        x.grad.data[0] = 5.0
    assert x.data.tolist() == [1.0, 2.0]


NAMES = [
    "lambda",
    "class",
    "None",
    "True",
    "pi",
    "e",
    "nan",
    "sin",
    "v1",
    "_1",
    "x y",
    "",
    " ",
    "a.b",
    "linear[0].w",
    "λ",
    "длина",
    "重み",
    "ﬁ",
    "é",
    "e\u0301",
    "🙂",
    "a\nb",
    'quo"te',
    "back\\slash",
    "a/b",
    "../x",
    "%2e",
    "?q=1",
    "#x",
    "x" * 300,
    "\x00",
    "-1",
    "1",
    "do",
    "__class__",
]


@pytest.mark.parametrize("speaks_json", [True, False], ids=["json", "msgpack"])
def test_names(server: Server, speaks_json: bool) -> None:
    """A name is for people: any text will do, it is shown as it was given, and it changes nothing."""
    with connect(server.base_url, json=speaks_json):
        variables = [Variable(float(i), name=name) for i, name in enumerate(NAMES)]
        total: Any = 0.0
        for x in variables:
            total = total + x * 1.0
        total.backward()
        assert total.item() == sum(range(len(NAMES)))
        for i, (x, name) in enumerate(zip(variables, NAMES, strict=True)):
            assert x.name == name
            assert str(x) == str(engine.Variable(float(i), name=name))
            assert x.grad.data == 1.0
        assert dot(total)


@pytest.mark.parametrize("name", ["w", "v1", "_1", "lambda", "pi", "λ", "x y", "linear[0].w", "a/b"], ids=ascii)
def test_a_variable_is_found_by_its_name(server: Server, name: str) -> None:
    """As the docstring of `Variable` says: or else a name that cannot be found has to be refused where it is given."""
    with connect(server.base_url, keep=True) as made:
        others = [Variable(float(i)) for i in range(3)]
        x = Variable(7.0, name=name)
        assert (x + sum(others, Variable(0.0))).item() == 10.0
    with connect(server.base_url, session=made.id) as again:
        found = again.variable(name)
        assert (found.item(), found.name) == (7.0, name)


@pytest.mark.parametrize("name", ["v1", "v2", "v3", "_1", "k1", "lambda_"])
def test_a_name_never_finds_another_variable(server: Server, name: str) -> None:
    with connect(server.base_url, keep=True) as made:
        held = [Variable(float(i)) for i in range(3)]
        held.append(Variable(7.0, name="lambda"))
        held.append(Variable(8.0, name=name))
        made.flush()
    with connect(server.base_url, session=made.id) as again:
        try:
            found = again.variable(name).item()
        except errors.UnknownVariableError:
            found = 8.0
        assert found == 8.0
    del held


def test_one_name_for_two_variables(connection: Connection) -> None:
    x, y = Variable(1.0, name="x"), Variable(2.0, name="x")
    assert ((x + 10.0 * y).item(), str(x), str(y)) == (21.0, "x(1.0)", "x(2.0)")
    x = x * 3.0
    x.name = "x"
    y.backward()
    assert (str(x), y.grad.item()) == ("x(3.0)", 1.0)


def test_a_name_given_later(server: Server) -> None:
    with connect(server.base_url):
        x = Variable(1.0)
        y = x * 4.0
        assert y.item() == 4.0
        y.name = "later"
        assert str(y) == "later(4.0)"
