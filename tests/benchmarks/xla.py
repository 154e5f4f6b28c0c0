"""The workloads in JAX on the CPU: compiled by `jax.jit` in a first call, then called; float64, as all the others.

Each function prepares one workload and returns a step. What a step is given is on JAX's device already, and it returns
when the results are there, before they are converted to anything. Loops over a step wait for its last result alone, as
its documentation does. Its asynchronous dispatch is off: it only hands the work to another thread, for which the step
then waits, which takes small work up to three times as long.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from tests.benchmarks import inputs

PACKAGE = "jax"

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_cpu_enable_async_dispatch", False)


def compiled(function: Callable[..., object], *operands: object) -> Callable[[], object]:
    """A step that calls a compiled function."""
    call = jax.jit(function)
    given = [jnp.asarray(operand) for operand in operands]
    call(*given)
    return lambda: jax.block_until_ready(call(*given))


def quickstart() -> Callable[[], object]:
    return compiled(jax.value_and_grad(lambda x: jnp.square(jnp.exp(jnp.square(x)))), inputs.QUICKSTART_X)


def descent_step(x, y):
    gx, gy = jax.grad(lambda x, y: 100.0 * (y - x * x) ** 2 + (x - 1.0) ** 2, argnums=(0, 1))(x, y)
    return x - inputs.DESCENT_RATE * gx, y - inputs.DESCENT_RATE * gy


def descent_by_steps() -> Callable[[], object]:
    update = jax.jit(descent_step)

    def step():
        point = tuple(jnp.asarray(start) for start in inputs.DESCENT_START)
        for _ in range(inputs.DESCENT_STEPS):
            point = update(*point)
        return jax.block_until_ready(point)

    step()
    return step


def descent() -> Callable[[], object]:
    return compiled(
        lambda *start: jax.lax.fori_loop(0, inputs.DESCENT_STEPS, lambda _, point: descent_step(*point), start),
        *inputs.DESCENT_START,
    )


def mlp_small() -> Callable[[], object]:
    x, labels = inputs.mlp_batch(inputs.SMALL_BATCH)
    given = jnp.asarray(x), jnp.asarray(np.eye(inputs.CLASSES)[labels])
    params = [jnp.asarray(param) for param in inputs.mlp_parameters()]

    def loss(params, x, targets):
        w1, b1, w2, b2 = params
        logits = jnp.tanh(x @ w1 + b1) @ w2 + b2
        return -jnp.mean(jnp.sum(jax.nn.log_softmax(logits) * targets, axis=1))

    @jax.jit
    def update(params, x, targets):
        value, grads = jax.value_and_grad(loss)(params, x, targets)
        return value, [param - inputs.RATE * grad for param, grad in zip(params, grads, strict=True)]

    update(params, *given)

    def step():
        nonlocal params
        value, params = jax.block_until_ready(update(params, *given))
        return value, params

    return step


def waves() -> Callable[[], object]:
    return compiled(jax.value_and_grad(lambda x: jnp.sum(jnp.sin(jnp.exp(jnp.tanh(x))))), inputs.elementwise_x())


def rosenbrock_function(x):
    return jnp.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


def rosenbrock() -> Callable[[], object]:
    """The Hessian alone."""
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


rosenbrock_prepared = rosenbrock_compiled = rosenbrock
sine_prepared = sine
product_prepared = product
