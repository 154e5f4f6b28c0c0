"""Layers, models, optimizers and their state; files without server calls are links to those of the engine."""
