"""A multilayer perceptron learns which of two moons a point belongs to; its weights go to a file and back.

Shows models, Adam, a hook, the progress bar (where tqdm is installed), safetensors.
Fifty steps are one request, sent when the bar looks at the loss; without a bar, as many as 1000 commands make.
"""

import importlib.util
import tempfile
from pathlib import Path

import numpy as np

from pullback import connect, load, load_state_dict, no_grad, progress, save
from pullback import functions as F
from pullback.hooks import ClipGrad
from pullback.models import MLP
from pullback.optimizers import Adam

STEPS, POINTS = 300, 200
HAS_BAR = importlib.util.find_spec("tqdm") is not None


def moons(rng):
    """Points on two half circles that reach into each other, with noise, and which of them each is on."""
    label = np.arange(POINTS) % 2
    angle = rng.uniform(0, np.pi, POINTS)
    x = np.where(label, 1 - np.cos(angle), np.cos(angle))
    y = np.where(label, 0.5 - np.sin(angle), np.sin(angle))
    return np.stack([x, y], axis=1) + rng.normal(0, 0.1, (POINTS, 2)), label


rng = np.random.default_rng(0)
points, labels = moons(rng)
new_points, new_labels = moons(rng)

with connect():
    model = MLP([16, 2], activation="tanh", rng=0)
    optimizer = Adam(model, alpha=0.05, hooks=[ClipGrad(1.0)])
    steps = progress(STEPS, every=50) if HAS_BAR else range(STEPS)
    for _ in steps:
        loss = F.cross_entropy(model(points), labels)
        model.cleargrads()
        loss.backward()
        optimizer.step()
        if HAS_BAR:
            steps.show(loss)
    print(f"loss {loss:.6f}")

    with tempfile.TemporaryDirectory() as folder, no_grad():
        path = Path(folder) / "moons.safetensors"
        save(path, model)
        loaded = MLP([16, 2], activation="tanh", rng=1)
        load_state_dict(loaded, load(path))
        before, after = model(new_points), loaded(new_points)
        print(f"accuracy on new points {F.accuracy(after, new_labels):.3f}")
        print(f"the loaded model gives the same scores: {np.array_equal(before.data, after.data)}")
