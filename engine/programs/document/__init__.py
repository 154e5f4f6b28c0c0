"""JSON documents: read them as programs."""
