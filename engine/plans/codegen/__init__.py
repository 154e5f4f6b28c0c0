"""Code generation, from the steps of a trace to a kernel: representation of values, buffers, fusion and tiling."""
