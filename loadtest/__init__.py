"""Load over HTTP against any URL."""
