"""The server: Pullback's engine over HTTP, and its command line."""

__version__ = "0.1.0"
