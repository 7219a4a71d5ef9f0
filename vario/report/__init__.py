"""Findings in words, as JSON for machines and as one HTML page for people."""
