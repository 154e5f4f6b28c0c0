"""What both libraries are given: the same numbers, drawn from a seed."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

QUICKSTART_X = 0.5
MATYAS_X, MATYAS_Y = 1.0, 1.0
MATYAS_ROWS = 100_000

ROSENBROCK_LENGTH = 100
SINE_X, SINE_ORDER = 1.0, 6
PRODUCT_LENGTH = 1_000_000

BATCH, FEATURES, HIDDEN, CLASSES = 64, 64, 128, 10
RATE = 0.01

ELEMENTS = 1_000_000

# Multiplications and additions in turn; the factor keeps the gradient, FACTOR**50_000, far from underflow.
CHAIN_OPERATIONS = 100_000
CHAIN_X, CHAIN_FACTOR, CHAIN_TERM = 0.5, 0.9999, 0.0001


def mlp_batch() -> tuple[Floats, npt.NDArray[np.int64]]:
    """Draw inputs (BATCH, FEATURES) and labels (BATCH,)."""
    generator = np.random.default_rng(1)
    return generator.standard_normal((BATCH, FEATURES)), generator.integers(0, CLASSES, BATCH)


def mlp_parameters() -> list[Floats]:
    """Draw w1, b1, w2, b2."""
    generator = np.random.default_rng(2)
    w1 = generator.standard_normal((FEATURES, HIDDEN)) / np.sqrt(FEATURES)
    w2 = generator.standard_normal((HIDDEN, CLASSES)) / np.sqrt(HIDDEN)
    return [w1, np.zeros(HIDDEN), w2, np.zeros(CLASSES)]


def elementwise_x() -> Floats:
    """Draw ELEMENTS numbers."""
    return np.random.default_rng(3).standard_normal(ELEMENTS)


def matyas_rows() -> tuple[Floats, Floats]:
    """Draw MATYAS_ROWS pairs."""
    x, y = np.random.default_rng(4).standard_normal((2, MATYAS_ROWS))
    return x, y


def rosenbrock_x() -> Floats:
    """Draw a point of ROSENBROCK_LENGTH coordinates."""
    return np.random.default_rng(5).standard_normal(ROSENBROCK_LENGTH)


def product_operands() -> tuple[Floats, Floats]:
    """Draw a point and a direction of PRODUCT_LENGTH coordinates."""
    x, v = np.random.default_rng(6).standard_normal((2, PRODUCT_LENGTH))
    return x, v
