"""The exceptions that end a stage with one line instead of a traceback."""


class UserError(Exception):
    """Something the user can mend; the command line prints it as one line, without a traceback.

    A message may repeat what is in a file: what would end the line, or steer a terminal, is written
    as Python writes it in a string.
    """

    def __init__(self, message: object) -> None:
        super().__init__("".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(message)))


class CheckFailed(Exception):
    """The project's own check failed: what comes after it must not be believed."""
