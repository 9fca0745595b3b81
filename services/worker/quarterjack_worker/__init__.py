"""One of the three services."""
