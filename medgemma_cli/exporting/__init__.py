"""What `medgemma export` writes and sends. What computes is in `engines/exporting`."""
