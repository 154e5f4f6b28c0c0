"""From the steps of a trace to the code of a plan: how each value stands, where it is kept, what is run together."""
