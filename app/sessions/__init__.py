"""Sessions: variables, layers and optimizers that stay from request to request."""
