"""Core of the SDK: values, variables and their operators; most of its files are links to those of the engine."""
