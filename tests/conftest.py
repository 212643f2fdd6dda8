"""What holds for all tests."""

from hypothesis import settings

# A deadline would be a timed assertion: machines are shared and slow at times.
settings.register_profile("answer-first", deadline=None, print_blob=True)
settings.load_profile("answer-first")
