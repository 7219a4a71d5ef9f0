"""The live dashboard: one server on 127.0.0.1 and a page without a build; its charts are the report's."""
