"""The online service: POST /score over one engine. `python -m service --help`."""
