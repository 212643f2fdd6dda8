"""What stops a capacity plan."""


class CapacityError(ValueError):
    """A profile that cannot be read, or that no number of machines can serve; the message names the field at fault."""
