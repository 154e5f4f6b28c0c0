"""Hamiltonian Monte Carlo: 100 chains at once draw from a correlated normal distribution.

Shows `batched`: a program of one point is run for all rows of an array, and answers with a value and a gradient a row.
A leapfrog step is one request for all chains; a draw takes 8 of them.
Source: Neal, MCMC using Hamiltonian dynamics (2011), section 3.
"""

import numpy as np

from pullback import Client

CHAINS, DRAWS, LEAPFROGS, STEP = 100, 100, 8, 0.3
MEAN = np.array([1.0, -2.0])
COVARIANCE = np.array([[1.0, 0.6], [0.6, 0.5]])
NAME = "example-normal"

rng = np.random.default_rng(0)

with Client() as client:
    bound = {"mean": MEAN, "precision": np.linalg.inv(COVARIANCE)}
    client.programs.register("d = q - mean; -(d @ precision @ d) / 2", name=NAME, bind=bound, replace=True)

    def log_density(q):
        """Value and gradient for each chain."""
        found = client.evaluate(program=NAME, inputs={"q": q}, batched=["q"], backward=True)
        return found.values["out"], found.grads["q"]

    q = np.zeros((CHAINS, 2))
    value, slope = log_density(q)
    draws, accepted = [], []
    for _ in range(DRAWS):
        p = rng.normal(size=q.shape)
        energy = np.sum(p**2, axis=1) / 2 - value
        there, slope_there = q, slope
        for _ in range(LEAPFROGS):
            p = p + STEP / 2 * slope_there
            there = there + STEP * p
            value_there, slope_there = log_density(there)
            p = p + STEP / 2 * slope_there
        energy_there = np.sum(p**2, axis=1) / 2 - value_there
        moves = np.log(rng.uniform(size=CHAINS)) < energy - energy_there
        value = np.where(moves, value_there, value)
        q = np.where(moves[:, None], there, q)
        slope = np.where(moves[:, None], slope_there, slope)
        draws.append(q)
        accepted.append(moves.mean())

# The first tenth is on its way from zero to where the distribution is. Draw, chain, axis.
drawn = np.array(draws[DRAWS // 10 :])
off = drawn - MEAN
print(f"accepted {np.mean(accepted):.3f}")
for name, each, truth in (
    ("mean", drawn, MEAN),
    ("covariance", off[:, :, :, None] * off[:, :, None, :], COVARIANCE),
):
    # Chains are independent of each other, draws of one chain are not.
    by_chain = each.mean(axis=0)
    error = by_chain.std(axis=0, ddof=1) / np.sqrt(CHAINS)
    found = by_chain.mean(axis=0)
    print(f"{name} {found.round(3).tolist()}, at most {np.max(np.abs(found - truth) / error):.1f} standard errors off")
