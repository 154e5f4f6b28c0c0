"""Variables of given shapes: zeros, ones and random numbers, which take an explicit seed or generator.

Layers and models may leave theirs out: they draw a seed and remember it.
"""

import secrets
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .core.attributes import NATURAL, NUMBER, Attribute, Given
from .core.errors import BadAttributeError
from .core.values import DType, Shape, as_dtype, as_raw, canonical, dtype_of, shape_of
from .core.variable import Variable

Rng = int | np.integer[Any] | np.random.Generator

#: Bits of a seed that is drawn: JSON and JavaScript hold every such integer exactly.
_SEED_BITS = 53


def generator(rng: Given, name: str) -> np.random.Generator:
    """Return the generator itself, or PCG64 seeded with an integer; there is no hidden global state.

    name: prefix of the message.

    Raises:
        BadAttributeError: `rng` is neither a generator nor a seed.
    """
    if isinstance(rng, np.random.Generator):
        return rng
    if isinstance(rng, bool) or not isinstance(rng, int | np.integer) or rng < 0:
        raise BadAttributeError(
            f"{name}: rng is {rng!r}; expected a seed (a non-negative integer) or a numpy Generator"
        )
    return np.random.default_rng(int(rng))


def seeded(rng: Given, name: str) -> tuple[int | None, np.random.Generator]:
    """Return a layer's seed and its generator; without `rng` the seed is drawn from the system's entropy.

    The seed is below 2**53. It is None where `rng` is a generator.

    >>> seed, drawn = seeded(None, "linear")
    >>> drawn.random() == np.random.default_rng(seed).random()
    True

    Raises:
        BadAttributeError: `rng` is no seed, generator or None.
    """
    if rng is None:
        rng = secrets.randbits(_SEED_BITS)
    made = generator(rng, name)
    return None if made is rng else int(rng), made


def zeros(shape: int | Sequence[int], *, dtype: npt.DTypeLike = "float64") -> Variable:
    """Return a variable of zeros.

    >>> print(zeros((2, 2)).shape, zeros(()))
    (2, 2) variable(0.0)

    Raises:
        BadAttributeError: a length is not a non-negative integer.
        InvalidValueError: the dtype is not supported.
    """
    return Variable._leaf(canonical(np.zeros(_shape(shape, "zeros"), as_dtype(dtype))))


def ones(shape: int | Sequence[int], *, dtype: npt.DTypeLike = "float64") -> Variable:
    """Return a variable of ones; errors as for `zeros`.

    >>> print(ones(3))
    variable([1. 1. 1.])
    """
    return Variable._leaf(canonical(np.ones(_shape(shape, "ones"), as_dtype(dtype))))


def zeros_like(x: Given) -> Variable:
    """Return zeros of the shape and dtype of x: a variable, an array, a number or a list."""
    x = as_raw(x) if isinstance(x, list | tuple) else x
    return zeros(shape_of(x), dtype=dtype_of(x))


def ones_like(x: Given) -> Variable:
    """Return ones of the shape and dtype of x: a variable, an array, a number or a list."""
    x = as_raw(x) if isinstance(x, list | tuple) else x
    return ones(shape_of(x), dtype=dtype_of(x))


def rand(shape: int | Sequence[int], *, rng: Rng, dtype: npt.DTypeLike = "float64") -> Variable:
    """Draw from the uniform distribution on [0, 1).

    rng: a seed, which gives the same numbers in each call, or a generator, whose state advances.

    >>> bool(rand((), rng=7) == rand((), rng=7))
    True

    Raises:
        BadAttributeError: a length is not a non-negative integer, `rng` is neither a seed nor a generator, or the dtype
            is not floating.
    """
    drawn = generator(rng, "rand").random(_shape(shape, "rand"))
    return Variable._leaf(canonical(drawn.astype(_floating(dtype, "rand"), copy=False)))


def randn(shape: int | Sequence[int], *, rng: Rng, dtype: npt.DTypeLike = "float64") -> Variable:
    """Draw from the normal distribution with mean 0 and standard deviation 1; arguments and errors as for `rand`.

    >>> randn((2, 3), rng=0, dtype="float32").dtype
    dtype('float32')
    """
    return _normal("randn", shape, 0.0, 1.0, rng, dtype)


def normal(
    shape: int | Sequence[int], mean: float = 0.0, std: float = 1.0, *, rng: Rng, dtype: npt.DTypeLike = "float64"
) -> Variable:
    """Draw from the normal distribution with mean `mean` and standard deviation `std`; otherwise as `rand`.

    >>> print(normal(2, mean=3.0, std=0.0, rng=0))
    variable([3. 3.])
    """
    return _normal("normal", shape, _number("mean", mean), _number("std", std), rng, dtype)


def _normal(name: str, shape: Given, mean: float, std: float, rng: Given, dtype: npt.DTypeLike) -> Variable:
    drawn = generator(rng, name).standard_normal(_shape(shape, name))
    return Variable._leaf(canonical((mean + std * drawn).astype(_floating(dtype, name), copy=False)))


def _number(attribute: str, value: Given) -> float:
    number: float = Attribute(attribute, NUMBER).parse(value, "normal")
    return number


def _shape(shape: Given, name: str) -> Shape:
    lengths = shape if isinstance(shape, list | tuple) else (shape,)
    return tuple(Attribute("shape", NATURAL).parse(length, name) for length in lengths)


def _floating(dtype: npt.DTypeLike, name: str) -> DType:
    found = as_dtype(dtype)
    if found.kind != "f":
        raise BadAttributeError(f"{name}: dtype is {found}; expected float64 or float32")
    return found
