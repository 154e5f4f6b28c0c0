"""SciPy's L-BFGS finds the mode of a logistic regression, and the Hessian there says how sure it is.

Shows a registered program: its data is sent once, then it is called by its name with what changes.
A step of L-BFGS is one request for each point that it tries, mostly one: value and gradient come together.
"""

import numpy as np
from scipy.optimize import minimize

from pullback import Client

POINTS, TRUTH = 500, np.array([1.5, -1.0, 0.5])
NAME = "example-logistic"
# Minus the logarithm of the posterior, whose prior is a standard normal.
LOSS = "z = X @ theta; sum(softplus(z) - t * z) + sum(theta**2) / 2"

rng = np.random.default_rng(0)
X = rng.normal(size=(POINTS, len(TRUTH)))
t = (rng.uniform(size=POINTS) < 1 / (1 + np.exp(-X @ TRUTH))).astype(float)

with Client() as client:
    client.programs.register(LOSS, name=NAME, bind={"X": X, "t": t}, replace=True)

    def loss_and_gradient(theta):
        """What `jac=True` asks for."""
        found = client.evaluate(program=NAME, inputs={"theta": theta}, backward=True)
        return found.values["out"], found.grads["theta"]

    begin, until = np.zeros(len(TRUTH)), {"ftol": 0, "gtol": 1e-8}
    found = minimize(loss_and_gradient, begin, jac=True, method="L-BFGS-B", options=until)
    theta = found.x
    curvature = client.hessian(program=NAME, inputs={"theta": theta}).hessian["theta"]["theta"]

print(f"loss {found.fun:.6f} after {found.nfev} evaluations")
for value, std, true in zip(theta, np.sqrt(np.diag(np.linalg.inv(curvature))), TRUTH, strict=True):
    print(f"theta {value:.4f} +- {std:.4f}, true {true}")
by_hand = X.T @ (1 / (1 + np.exp(-X @ theta)) - t) + theta
print(f"gradient by hand there: at most {np.abs(by_hand).max():.1e}")
