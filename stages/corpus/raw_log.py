"""What a source hands to `prepare`, whatever its files look like."""

from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True)
class RawLog:
    """What every source reads into. Ids are strings, unique in `items` and `users`, and the log knows no others."""

    items: pd.DataFrame  # item_id, title, text: str ("" where unknown); categories: list of str, root first
    users: pd.DataFrame  # user_id and one string column per profile field
    interactions: pd.DataFrame  # file order: user_id, item_id, timestamp (Int64), feedback columns; optional position
