"""Sessions: variables, layers and optimizers that live from request to request."""
