"""Training scripts as users write them; each is started as a process of its own."""
