"""Newton's method on a quartic: x - f'(x) / f''(x), with second derivatives found in two ways.

Shows `create_graph`, after which a gradient can be differentiated like anything else, and transforms, which nest.
A step is two requests with variables, as two gradients are looked at one after the other; with transforms it is one.
"""

from pullback import Variable, connect
from pullback.transforms import grad, value_and_grad

STEPS = 8


def f(x):
    """Has its minima at -1 and 1, where its second derivative is 8."""
    return x**4 - 2 * x**2


with connect():
    x = Variable(2.0)
    for step in range(STEPS):
        print(f"step {step}: {x.data:.15f}")
        x.cleargrad()
        f(x).backward(create_graph=True)
        slope = x.grad
        x.cleargrad()
        slope.backward()
        x.data = x.data - slope.data / x.grad.data
    print(f"variables: {x.data:.15f}")

    z = 2.0
    for _ in range(STEPS):
        slope, curvature = value_and_grad(grad(f))(z)
        z = z - slope / curvature
    print(f"transforms: {z:.15f}, curvature {curvature:.12f}")
