"""The one exception that a user is meant to read."""

import difflib


class InputError(Exception):
    """Bad input: what was wrong, where, and what to do. A stage prints it and ends with exit code 1."""


def one_of(key: str, value: str, allowed: list[str], what: str) -> None:
    """Refuse a value that is not among those allowed, with the nearest of them. `key` is where it stands."""
    if value in allowed:
        return
    near = difflib.get_close_matches(str(value), allowed, 1)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    raise InputError(f"params.yaml: {key}: '{value}' is none of the {what}: {', '.join(allowed)}{hint}")
