"""One self-contained HTML page per training run: curves, collapse, calibration, confusion, rules, slices."""
