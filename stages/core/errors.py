"""The one exception that a user is meant to read."""


class InputError(Exception):
    """Bad input: what was wrong, where, and what to do. A stage prints it and ends with exit code 1."""
