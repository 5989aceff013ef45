"""What builds parts of the project that are not code."""
