"""Reverse-mode automatic differentiation on NumPy: variables on a tape, and programs as graphs."""

from engine import functions
from engine.config import no_grad, test_mode
from engine.variable import Variable

__all__ = ["Variable", "functions", "no_grad", "test_mode"]
