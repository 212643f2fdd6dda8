"""From a checkpoint to a verified artifact: graph, precision, parity gate, manifest. Offline; needs torch."""
