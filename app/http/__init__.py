"""The exchange: one way of a request through the server, from its bytes to those of its answer."""
