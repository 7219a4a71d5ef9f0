"""A running training loop, seen from outside: attach, launch, and what one step offers."""
