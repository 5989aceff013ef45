"""Engines: `local` (transformers on this machine) and `echo` (no model)."""
