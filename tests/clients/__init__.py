"""Contract tests with other people's clients: `make test-clients`. They import nothing of ours: only HTTP is tested."""
