"""Training: layers, models, optimizers and their state."""

from engine.nn import checkpoint, hooks, layers, models, optimizers, state
from engine.nn.checkpoint import memories, resume, steps
from engine.nn.hooks import HOOKS
from engine.nn.layers import LAYERS, Layer, Linear, Unmade
from engine.nn.models import MODELS
from engine.nn.optimizers import OPTIMIZERS, Optimizer
from engine.nn.state import dumps, load, load_state_dict, loads, save, state_dict

__all__ = [
    "HOOKS",
    "LAYERS",
    "MODELS",
    "OPTIMIZERS",
    "Layer",
    "Linear",
    "Optimizer",
    "Unmade",
    "checkpoint",
    "dumps",
    "hooks",
    "layers",
    "load",
    "load_state_dict",
    "loads",
    "memories",
    "models",
    "optimizers",
    "resume",
    "save",
    "state",
    "state_dict",
    "steps",
]
