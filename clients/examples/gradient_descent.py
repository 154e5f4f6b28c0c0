"""Gradient descent in Rosenbrock's valley, each step written out by hand.

Shows variables: compute with them, `backward()`, look at `grad`, replace `data`.
A step is one request: what was recorded is sent when the first gradient is looked at, and the other comes with it.
The loss is one more where it is printed.
"""

from pullback import Variable, connect

RATE, STEPS = 0.01, 1000

with connect():
    x, y = Variable(0.0, name="x"), Variable(2.0, name="y")
    for step in range(STEPS):
        loss = 10 * (y - x**2) ** 2 + (1 - x) ** 2
        for w in (x, y):
            w.cleargrad()
        loss.backward()
        for w in (x, y):
            w.data = w.data - RATE * w.grad.data
        if step % 200 == 0:
            print(f"step {step}: loss {loss:.6f}")
    print(f"after {STEPS} steps: {x} {y}, and the minimum is at 1, 1")
