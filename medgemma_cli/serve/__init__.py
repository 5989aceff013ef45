"""One warm engine behind HTTP: the stages of `run` for one request at a time, nothing on disk."""
