"""Samplers: which examples the next epoch shows, and with what weight."""
