"""Pure functions that frame and check. Each says what it covers and what it does not."""
