"""One module a command: parse, wire, map to an exit code. Heavy imports stay inside functions."""
