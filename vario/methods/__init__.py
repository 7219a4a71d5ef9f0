"""Published methods as ordinary torch objects; every file can be lifted out and used alone."""
