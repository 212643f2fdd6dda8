"""Contract tests with other people's clients: `make test-clients`. They speak HTTP and import nothing of ours.

Where a client is not installed its tests are skipped: `make test-clients` runs them in two environments, the extras
`clients` and `clients-apart`.
"""
