"""The exceptions that end a stage with one line instead of a traceback."""


class UserError(Exception):
    """Something the user can mend; the command line prints it as one line, without a traceback."""


class CheckFailed(Exception):
    """The project's own check failed: what comes after it must not be believed."""
