"""Settings of pytest for this folder."""

#: Imports what only the environment of tools has.
collect_ignore = ["hooks.py"]
