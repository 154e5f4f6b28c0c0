"""Recording of operations on variables, which are sent in one run when a value is read; and tracing of functions."""
