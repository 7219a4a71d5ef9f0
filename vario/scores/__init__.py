"""Scores: one number per example; selection, sampling and audits are built on them."""
