"""The live dashboard: one server on 127.0.0.1 and a page without a build. Its charts are those of the report."""
