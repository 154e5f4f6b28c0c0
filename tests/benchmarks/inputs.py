"""What all sides are given: the same numbers, drawn from a seed."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

QUICKSTART_X = 0.5
MATYAS_X, MATYAS_Y = 1.0, 1.0
MATYAS_ROWS = 100_000

# The descent goes from the classic start along the valley; so many steps take it most of the way to (1, 1).
DESCENT_START = (0.0, 2.0)
DESCENT_RATE, DESCENT_STEPS = 0.001, 10_000

ROSENBROCK_LENGTH = 100
SINE_X, SINE_ORDER = 1.0, 6
PRODUCT_LENGTH = 1_000_000

BATCH, SMALL_BATCH, FEATURES, HIDDEN, CLASSES = 64, 32, 64, 128, 10
RATE = 0.01

# A curve's next value from the 30 before it: one number a step goes in, one comes out at the end.
LSTM_STEPS, LSTM_BATCH, LSTM_HIDDEN = 30, 30, 100

ELEMENTS = 1_000_000
MATRIX_SIDE = 512

# Multiplications and additions in turn; the factor keeps the gradient, FACTOR**50_000, far from underflow.
CHAIN_OPERATIONS = 100_000
CHAIN_X, CHAIN_FACTOR, CHAIN_TERM = 0.5, 0.9999, 0.0001


def mlp_batch(rows: int = BATCH) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Draw inputs (rows, FEATURES) and labels (rows,)."""
    generator = np.random.default_rng(1)
    return generator.standard_normal((rows, FEATURES)), generator.integers(0, CLASSES, rows)


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


def matrices() -> tuple[Floats, Floats]:
    """Draw two square matrices whose product has elements of size 1."""
    a, b = np.random.default_rng(7).standard_normal((2, MATRIX_SIDE, MATRIX_SIDE)) / MATRIX_SIDE**0.25
    return a, b


def lstm_batch() -> tuple[Floats, Floats]:
    """Pieces of sine curves (LSTM_STEPS, LSTM_BATCH, 1) and the value that follows each (LSTM_BATCH, 1)."""
    starts = np.random.default_rng(8).uniform(0, 2 * np.pi, (LSTM_BATCH, 1))
    curves = np.sin(starts + 0.1 * np.arange(LSTM_STEPS + 1)[:, None, None])
    return curves[:-1], curves[-1]


def lstm_parameters() -> dict[str, Floats]:
    """Draw x2z (1, 4 * hidden), h2z (hidden, 4 * hidden), b (4 * hidden), w (hidden, 1) and c (1).

    The columns of the first three are those of the input gate, the forget gate, the candidate and the output gate.
    """
    generator = np.random.default_rng(9)
    shapes = {"x2z": (1, 4 * LSTM_HIDDEN), "h2z": (LSTM_HIDDEN, 4 * LSTM_HIDDEN), "b": (4 * LSTM_HIDDEN,)}
    shapes |= {"w": (LSTM_HIDDEN, 1), "c": (1,)}
    bound = LSTM_HIDDEN**-0.5
    return {name: generator.uniform(-bound, bound, shape) for name, shape in shapes.items()}
