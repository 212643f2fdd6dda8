"""The service in many replicas, on Ray Serve: the same app, routed by query."""
