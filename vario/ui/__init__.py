"""The live dashboard; not built yet. Its chart modules are those of the report."""
