"""Infix text: read as programs, and written from them."""
