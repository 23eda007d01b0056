"""User profiles in words: whatever the users' table holds beside their ids, which are never shown."""

import pyarrow as pa

from stages.core.schema import USERS
from stages.rendering import templates as words
from stages.rendering.items import shortened

CODES = {"gender": {"M": "male", "F": "female"}}  # field -> code -> word


def user_profiles(users: pa.Table) -> list[str]:
    """A profile such as `age 24, gender male, occupation writer` for each user; "" where nothing is known."""
    known: list[list[str]] = [[] for _ in range(users.num_rows)]
    for field in users.column_names:
        if field not in USERS.names:
            name, words_of = shortened(field.replace("_", " ")), CODES.get(field, {})
            for told, value in zip(known, users[field].to_pylist(), strict=True):
                if said := shortened(words_of.get(value, value or "")):
                    told.append(words.PROFILE.format(name=name, value=said))
    return [words.PROFILE_SEPARATOR.join(told) for told in known]
