"""Infix text: parse it to programs, and write programs as text."""
