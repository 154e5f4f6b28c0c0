"""Tracers: reverse mode, forward mode and the rows of a batch, over values of any kind."""
