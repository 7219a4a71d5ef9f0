"""Small seeded tasks that know their own right answers."""
