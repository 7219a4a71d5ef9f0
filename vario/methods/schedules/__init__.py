"""Rules of change and schedules: how learning rate, batch and averages move together, and over time."""
