"""Load over HTTP against any URL: a black box that knows the service by its answers, headers and /metrics alone."""
