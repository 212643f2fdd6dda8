"""What stops a bulk job: asked for wrongly, an input that cannot be read, or another job where its output goes."""


class BulkError(ValueError):
    """A job that cannot begin or go on; the message says why, and what to do."""
