"""Gradients of single examples, and of the parts of a step, heard in the script's own backward."""
