"""Keeps pytest from importing the rivals that live in an environment of their own."""

collect_ignore = ["hips.py", "pytorch.py", "xla.py"]
