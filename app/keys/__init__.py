"""API keys: who may do what, how often, and the record of what administrators did."""
