"""The one exception that a user is meant to read."""

import difflib


class InputError(Exception):
    """Bad input: what was wrong, where, and what to do. A stage prints it and ends with exit code 1."""


def one_of(key: str, value: str, allowed: list[str], what: str) -> None:
    """Refuse a value that is not among those allowed, with the nearest of them.

    key: where it stands, a key of params.yaml or an argument such as --dataset.
    """
    if value in allowed:
        return
    near = difflib.get_close_matches(str(value), allowed, 1)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    where = key if key.startswith("--") else f"params.yaml: {key}"
    raise InputError(f"{where}: '{value}' is none of the {what}: {', '.join(allowed)}{hint}")
