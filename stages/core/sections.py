"""The sections of params.yaml that stages share, as frozen models: symbol, equation, range of every value.

An optimizer's or a baseline's own section is the class `Params` of its module; those of data sets are in corpora.py,
those on how items are spelled in spelling_sections.py.
Values stand in params.yaml alone.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from stages.core.section import BeamSection, Count, NotNegative, Rate, Section, Share
from stages.core.spelling_sections import Fill


class Sft(Section):
    """Supervised fine-tuning, and what it leaves to RL."""

    label: Literal["history", "slate"] | None
    """null: what suits the action space: `history` for Semantic IDs, `slate` for text, which has no other."""
    epochs: Count
    max_examples: Count | None
    """Examples of an epoch, drawn anew in each; null: all."""
    valid_users: Count | None
    """Users whose validation items judge an epoch, drawn by seed; null: all."""
    batch_items: Count
    item_dropout: Annotated[float, Field(ge=0, lt=1)]
    history_items: Annotated[int, Field(ge=2)]
    lr_warmup: Share
    """Share of the steps over which the learning rate rises to its value."""
    weight_decay: NotNegative
    max_grad_norm: Annotated[float, Field(gt=0)]
    patience: Count
    holdback: Annotated[int, Field(ge=2)]
    reserve: Annotated[float, Field(gt=0, lt=1)]
    min_items: Count
    label_horizon: Count
    fill_weight: Share
    fill: Fill


class ClickModel(Fill):
    """The model of source `model`; see stages/rewards/click_model.py."""

    smoothing: Annotated[float, Field(gt=0, le=1)]
    """Share of popularity in a probability: above 0, or most items would have none."""


class Harvest(Section):
    """Second round (Sec. 3.3): what SFT is taught of the slates that RL came upon."""

    min_reward: Annotated[float, Field(gt=0)]
    """Of a context's best slate."""
    weight: Annotated[float, Field(gt=0)]
    """Of its tokens in the loss."""
    label: Literal["found", "logged"]
    """What is taught there: the slate's items that the user went on to, or as a control all of those."""


class Rewards(Section):
    """Where the rewards of RL come from; the held-out reward is always the log's."""

    source: Literal["logged", "model", "both", "belief"]
    beam_width: Count
    """Items that the SFT policy holds likeliest, with source belief; others earn nothing."""
    click_model: ClickModel


class Rl(Section):
    """Algorithm 1: what all optimizers share."""

    slate_length: Count
    group_size: Annotated[int, Field(ge=2)]
    learns_from: Literal["held_back", "visible"]
    """Whose contexts: held_back: the learners' last items, which SFT does not see | visible: all that SFT sees."""
    contexts: Count
    rollouts: Count
    updates_per_rollout: Count
    """Passes over a rollout."""
    minibatches: Count
    """Parts of a pass, with one optimizer step each."""
    users_per_pass: Count | None
    """Users whose slates are in memory at once, null: a minibatch. A matter of memory and speed alone."""
    lr_warmup: Annotated[int, Field(ge=0)]
    """Rollouts over which the learning rate rises to its value."""
    lr_decay: Literal["none", "cosine"]
    """What it does then: stay, or fall to 0 behind the last rollout."""
    free: bool
    """Native text: sample any tokens, as lines. One that names no candidate, or one again, earns nothing."""
    temperature: Annotated[float, Field(gt=0)]
    horizon: Count
    kl: NotNegative
    divide_by_std: bool
    entropy_rate: Rate
    max_grad_norm: Annotated[float, Field(gt=0)]
    weight_decay: NotNegative
    evaluate_every: Count
    reserve_users: Count | None
    """Users of each half of the reserve that are looked at; null: all."""
    reserve_positions: Count
    cold_contexts: Count
    heldout_temperatures: list[Annotated[float, Field(gt=0)]] = Field(min_length=1)
    """Of which each policy's best, by the reserve's selecting half, is the one that it is at last sampled at."""
    heldout_samples: Count
    """Slates per context there."""


class Figure3(Section):
    """The paper's Figure 3: gradient coefficients against the ratio."""

    eps_boost: NotNegative
    beta: Share
    pi_old: Annotated[float, Field(gt=0, lt=1)]
    """Probability that the slate's one token was sampled with."""
    ratio_max: Annotated[float, Field(gt=1)]
    points: Count

    @model_validator(mode="after")
    def _probabilities(self) -> Self:
        if self.ratio_max * self.pi_old > 1:
            raise ValueError(f"ratio_max {self.ratio_max} times pi_old {self.pi_old} is more than 1, no probability")
        return self


class Sampling(Section):
    """Slates that are sampled for RecIF's tasks and merged by likelihood (Sec. 4.1.4)."""

    slates: Count
    temperature: Annotated[float, Field(gt=0)]
    nucleus: Rate
    """Probability of the likeliest choices that are drawn from; 1: all."""


class Recommend(BeamSection):
    """Decoding."""

    batch_size: Count
    list_length: Annotated[int, Field(ge=10)]
    free: bool
    """Whether slates of native text are written a second time, with the whole vocabulary open."""
    sample: Sampling


class Evaluate(Section):
    """Which users, and the bootstrap over them."""

    max_users: Count | None
    """Users of each split that are recommended to and measured, drawn by `seed`; null: all."""
    resamples: Annotated[int, Field(ge=100)]
    confidence: Annotated[float, Field(gt=0, lt=1)]
    seed: int


class Tabulate(Section):
    """The tests between rows."""

    rounds: Annotated[int, Field(ge=100)]
    """Draws of a randomisation test."""
    level: Annotated[float, Field(gt=0, lt=1)]
    """Two rows are told apart where the p-value, corrected for the number of pairs, is below it."""
