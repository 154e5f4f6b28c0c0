"""JSON documents of graphs, read as programs."""
