"""A physics-informed network: a small network becomes the solution of u' = -u, u(0) = 1, which is exp(-t).

Shows `grad(...)` in the text of a program: the loss is made of a derivative, and is differentiated itself.
A step of L-BFGS is one request for each point that it tries, mostly one.
Source: Raissi, Perdikaris and Karniadakis, Physics-informed neural networks (2019).
"""

import numpy as np
from scipy.optimize import minimize

from pullback import Client

UNITS = 10
# All weights are one vector, as SciPy has them; u is 1 at 0 whatever they are.
LOSS = f"""
w = theta[0:{UNITS}]; b = theta[{UNITS}:{2 * UNITS}]; v = theta[{2 * UNITS}:{3 * UNITS}]
u = 1 + t * (tanh(outer(t, w) + b) @ v)
slope = grad(sum(u), t)
loss = mean((slope + u)**2)
"""

t = np.linspace(0, 3, 31)
begin = np.random.default_rng(0).normal(size=3 * UNITS)

with Client() as client:

    def loss_and_gradient(theta):
        """What `jac=True` asks for."""
        found = client.evaluate(LOSS, {"theta": theta, "t": t}, backward={"wrt": ["theta"]})
        return found.values["loss"], found.grads["theta"]

    found = minimize(loss_and_gradient, begin, jac=True, method="L-BFGS-B", options={"maxiter": 1000, "ftol": 1e-15})
    between = np.linspace(0, 3, 200)
    u = client.evaluate(LOSS, {"theta": found.x, "t": between}, outputs=["u"]).values["u"]

print(f"loss {found.fun:.2e} after {found.nfev} evaluations")
print(f"error against exp(-t): at most {np.abs(u - np.exp(-between)).max():.1e}")
