"""The workloads in JAX on the CPU: compiled by `jax.jit` in a first call, then called; float64, as all the others.

Each function prepares one workload and returns a step. What a step is given is on JAX's device already, and it returns
when the results are there, before they are converted to anything.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from tests.benchmarks import inputs

PACKAGE = "jax"

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_enable_x64", True)


def compiled(function: Callable[..., object], *operands: object) -> Callable[[], object]:
    """A step that calls a compiled function."""
    call = jax.jit(function)
    given = [jnp.asarray(operand) for operand in operands]
    call(*given)
    return lambda: jax.block_until_ready(call(*given))


def rosenbrock_function(x):
    return jnp.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


def rosenbrock() -> Callable[[], object]:
    return compiled(jax.hessian(rosenbrock_function), inputs.rosenbrock_x())


def rosenbrock_whole_prepared() -> Callable[[], object]:
    value_and_gradient, hessian = jax.value_and_grad(rosenbrock_function), jax.hessian(rosenbrock_function)
    return compiled(lambda x: (value_and_gradient(x), hessian(x)), inputs.rosenbrock_x())


def sine() -> Callable[[], object]:
    functions = [jnp.sin]
    for _ in range(inputs.SINE_ORDER):
        functions.append(jax.grad(functions[-1]))
    return compiled(lambda x: [function(x) for function in functions], inputs.SINE_X)


def product() -> Callable[[], object]:
    gradient = jax.grad(rosenbrock_function)
    return compiled(lambda x, v: jax.jvp(gradient, (x,), (v,))[1], *inputs.product_operands())


rosenbrock_prepared = rosenbrock
sine_prepared = sine
product_prepared = product
