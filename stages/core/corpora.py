"""The sections of params.yaml about data sets: where the files come from, and how their log is cut.

The only keys that may be absent are those that some feedback rules do not have.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from stages.core.section import Count, Name, Section, Share


class Feedback(Section):
    """Which interactions carry an objective."""

    rule: Literal["any", "at_least", "flag", "tail"]
    """any: all | at_least: `column` is at least `threshold` | flag: the column of the objective's own name is true, or
    not 0 | tail: the item is in the lower half by train_count."""
    column: str | None = None
    """A column of the source's interactions (rule at_least)."""
    threshold: float | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.rule == "at_least" and (self.column is None or self.threshold is None):
            raise ValueError("rule at_least needs column and threshold")
        if self.rule != "at_least" and (self.column, self.threshold) != (None, None):
            raise ValueError(f"column and threshold have no effect with rule {self.rule}; leave them out")
        return self

    def reads(self, name: str) -> str | None:
        """The column of the log that the rule of the objective `name` looks at, if any."""
        return name if self.rule == "flag" else self.column


class Amazon(Section):
    """Amazon Product Reviews 2014 (source amazon): which category, and where its two files are."""

    category: Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$")]
    """As the files' names have it, such as Sports_and_Outdoors."""
    hosts: list[Annotated[str, Field(pattern=r"^https?://")]]
    """Folders that hold the files, asked in this order: the public host, then mirrors."""
    sha256: dict[str, Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]] | None
    """Pinned hashes by file name; null: whatever a host has, held to what this user had before."""
    text: list[Literal["title", "brand", "categories", "price", "description"]] = Field(min_length=1)
    """What makes an item's text, in this order."""


class Recif(Section):
    """RecIF-Bench (source recif), or a set drawn in its form (recif_fixture)."""

    repository: str
    """Owner and name of the data set on the hub, for a set that is neither drawn nor in a folder."""
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")] | None
    """Its commit; null: the newest, which may change under you."""
    drawn_users: Annotated[int, Field(ge=20)] | None
    """Source recif_fixture: how many users are drawn; one in four is tested on."""
    task_rows: Count | None
    """Rows of a task's test file that are read, the first of it (the official sample_size); null: all."""
    title_length: Count
    """Characters of a caption, its first, that make an item's title."""


class Corpus(Section):
    """One data set: where it comes from and how it is cut."""

    source: str
    """A module of stages/corpus."""
    path: str | None
    """Folder, zip or tar archive of the user's own files (source local); folder with the published ones (amazon,
    recif)."""
    amazon: Amazon | None
    """Source amazon."""
    recif: Recif | None
    """Sources recif and recif_fixture."""
    columns: dict[Literal["user_id", "item_id", "position", "timestamp", "title", "brand", "categories"], str] | None
    """Source local: the file's name of each column that has another one there; null: of none."""
    repeats: Literal["keep", "first"]
    """Interactions with an item that the user had before: all are kept, or the first alone."""
    max_history: Annotated[int, Field(ge=3)] | None
    """The latest interactions of a user that are kept, the rest is dropped before k-core; null: all."""
    k_core: Count
    """Users and items with fewer interactions are dropped until none is left; 1 keeps all."""
    tie_order: Literal["file", "shuffle"]
    """Order of a user's interactions that share a timestamp: as in the file, or drawn by a fixed seed."""
    shuffle_ties: bool
    """Whether that order is no information, so that SFT draws it anew in each epoch (sft.label: history)."""
    category_level: Annotated[int, Field(ge=1)] | None
    """null: every entry of an item's categories is one | n: the n-th entry of each path, root = 1."""
    cold_share: Share
    """Cold items: this share of the catalogue, least frequent in training (Sec. 4.1.3)."""
    cold_ties: Literal["include", "exclude", "exact"]
    """Where the cut falls inside a tie: all of the tie is cold, none of it, or by item number up to the share."""
    feedback: dict[Name, Feedback]
    objectives: dict[Name, float]
    """Weight w_m of each objective in Eq. 7; negative feedback has a negative weight."""
    exclude_seen: bool
    """Whether items of the history are left out of rollouts and recommendations."""

    @field_validator("objectives")
    @classmethod
    def _objectives_exist(cls, objectives: dict[str, float], info: ValidationInfo) -> dict[str, float]:
        feedback = info.data.get("feedback", objectives)  # absent where feedback itself is at fault
        unknown = [name for name in objectives if name not in feedback]
        if unknown or not any(objectives.values()):
            what = f"'{unknown[0]}' is no key of feedback" if unknown else "nothing has a weight; weigh a feedback"
            raise ValueError(f"{what} ({', '.join(feedback)})")
        return objectives

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.source == "amazon" and self.amazon is None:
            raise ValueError("source amazon needs the keys of `amazon`: category, hosts, sha256, text")
        if self.source.startswith("recif"):
            if self.recif is None:
                raise ValueError("source recif needs the keys of `recif`: repository, revision, ..")
            if self.repeats != "keep" or self.k_core != 1 or self.max_history or self.tie_order != "file":
                raise ValueError(
                    "RecIF is measured as it is published, its logs have no times, and its tasks say which part of a "
                    "log is known: repeats keep, k_core 1, max_history null, tie_order file"
                )
        return self
