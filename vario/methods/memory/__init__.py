"""Memory: the same training in fewer bytes."""
