"""What stops an export.

ExportError      a checkpoint or option that cannot become an artifact; said before the slow work
└── GateError    the exported graph does not agree with the checkpoint; nothing is published
"""


class ExportError(Exception):
    """The checkpoint or the options are unfit; the message names what was found and what is needed."""


class GateError(ExportError):
    """A parity figure is past its threshold."""
