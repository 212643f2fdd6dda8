"""Measurements that write `results/`; each ends with one line of JSON."""
