"""Second derivatives of a running loss. Nothing here is loaded before somebody asks for them."""
