"""An LSTM learns from a noisy sine what comes next, and is then asked about a cosine.

Shows recurrent models and truncated backpropagation through time: the state goes on from stretch to stretch of a curve
(`reset_state` forgets it), while `unchain_backward` forgets how it was computed, so that gradients end where a stretch
begins. A stretch of 10 time steps is one request: forward, backward, Adam, and the loss that is looked at.
"""

import numpy as np

from pullback import Variable, connect, no_grad
from pullback import functions as F
from pullback.models import LSTM
from pullback.optimizers import Adam

PERIOD, CURVES, STRETCH, EPOCHS, NOISE = 40, 8, 10, 13, 0.05

# Time, curve, one: each curve begins elsewhere in the period.
rng = np.random.default_rng(0)
time = np.arange(2 * PERIOD + 1)[:, None, None]
phase = rng.uniform(0, PERIOD, (1, CURVES, 1))
curves = np.sin(2 * np.pi * (time + phase) / PERIOD) + rng.uniform(-NOISE, NOISE, (len(time), CURVES, 1))

with connect():
    model = LSTM(hidden_size=16, out_size=1, rng=0)
    optimizer = Adam(model, alpha=0.02)
    for epoch in range(EPOCHS):
        model.reset_state()
        losses = []
        for start in range(0, len(curves) - 1, STRETCH):
            loss = Variable(0.0)
            for t in range(start, start + STRETCH):
                loss = loss + F.mean_squared_error(model(curves[t]), curves[t + 1]) / STRETCH
            model.cleargrads()
            loss.backward()
            loss.unchain_backward()
            optimizer.step()
            losses.append(loss.item())
        if epoch % 4 == 0:
            print(f"epoch {epoch}: loss {np.mean(losses):.6f}")

    cosine = np.cos(2 * np.pi * np.arange(2 * PERIOD + 1) / PERIOD)
    model.reset_state()
    with no_grad():
        predicted = F.concat([model([[now]]) for now in cosine[:-1]]).data[:, 0]


def rms(error):
    """Root of the mean square, after a quarter of a period in which the state finds its way."""
    return np.sqrt(np.mean(error[PERIOD // 4 :] ** 2))


print(f"error on a cosine {rms(predicted - cosine[1:]):.4f}")
print(f"error of saying that it stays as it is {rms(np.diff(cosine)):.4f}")
