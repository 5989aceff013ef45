"""What `engines.server` is made of: addresses, requests, answers, and how many go at once."""
