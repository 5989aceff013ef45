"""Examples, folders and curves of `medgemma tune`. What computes is in `engines/tuning`."""
