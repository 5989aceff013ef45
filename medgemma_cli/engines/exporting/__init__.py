"""An adapter merged into its base, and the result compared with both."""
