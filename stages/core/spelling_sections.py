"""The sections of params.yaml on how items are spelled: encoders, semantic_id, text. The others are in sections.py."""

from string import Formatter
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from stages.core.language_models import pinned
from stages.core.section import Count, Name, NotNegative, Rate, Section, Share


class Encoder(Section):
    """A sentence encoder: any model that transformers' AutoModel loads, its token states averaged."""

    source: Literal["wheel", "folder", "hub"]
    name: str
    """wheel: a package in stages/semantic_ids/encoders.py | folder: its path | hub: owner/model."""
    revision: str | None
    """hub: the commit, so that the same name is the same model."""

    @model_validator(mode="after")
    def _pinned(self) -> Self:
        pinned(self.source, self.revision)
        return self


class RqVae(Section):
    """RQ-VAE (tokenizer: rqvae)."""

    hidden: list[Count]
    """Widths of the encoder's hidden layers; the decoder has them the other way round."""
    latent: Count
    commitment: NotNegative
    """Weight of the term that pulls the encoder to its codewords."""
    epochs: Count
    batch_size: Count
    lr: Rate
    weight_decay: NotNegative


class SemanticIdPolicy(Section):
    """What SFT, RL and decoding read of it."""

    align_epochs: Annotated[int, Field(ge=0)]
    """Of SFT's first epochs, in which a pretrained model learns the new tokens alone."""
    title_to_id: NotNegative
    """Weight in SFT of writing an item's id behind its title, for a pretrained model; next items weigh 1."""
    id_to_title: NotNegative
    """Weight of writing its title behind its id."""
    marks: bool
    """Of ids that a corpus brings: whether `<|sid_begin|>` and `<|sid_end|>` stand around each, as published. Between
    the items of a slate they are written without a choice, and count as tokens of probability 1.
    """
    prompts: Literal["own", "official"]
    """Of the test rows of RecIF's tasks: as SFT teaches them, or the messages of the official files as they are, in the
    chat template of a pretrained model; that takes marks, and reads yes and no as the files write them.
    """

    @model_validator(mode="after")
    def _marked(self) -> Self:
        if self.prompts == "official" and not self.marks:
            raise ValueError("official prompts have marks around ids; set marks to true as well")
        return self


class Ids(Section):
    """Item text to codes, and one id per item: what RQ-VAE and the rules of collision read."""

    collisions: Literal["suffix", "reassign", "sinkhorn"]
    """What becomes of items with the same codes: see stages/semantic_ids/collisions.py."""
    levels: Annotated[int, Field(ge=1, le=5)] | None
    """Codes per item, to which `suffix` adds one; null: the fewest that leave two ids for each item."""
    codebook_size: Annotated[int, Field(ge=2)]
    seed: int | None
    """null, for a baseline: the cell's."""
    rqvae: RqVae


class SemanticId(Ids):
    """Item text to the ids that policies write."""

    tokenizer: Name
    """A module of stages/semantic_ids: what an item's codes are."""
    seed: int
    policy: SemanticIdPolicy


class Fill(Section):
    """Transition counts that fill up slate labels and candidate pools; see stages/baselines/transitions.py."""

    window: Count
    last_items: Count
    decay: Rate


class TaskPrompts(Section):
    """Prompts of RecIF's tasks in words. Each has {history}, one item a line, and {pool}, the candidates, on lines of
    their own; {domain} may stand anywhere.
    """

    video: str
    ad: str
    product: str
    label_cond: str
    """Also {condition}: what is asked for, in words."""
    interactive: str
    """Also {keyword}."""
    label_pred: str
    """{candidate}, one item, in the place of {pool}."""

    @field_validator("*")
    @classmethod
    def _complete(cls, prompt: str, info: ValidationInfo) -> str:
        task = str(info.field_name)
        needed = {"history", "candidate" if task == "label_pred" else "pool"}
        needed |= {"label_cond": {"condition"}, "interactive": {"keyword"}}.get(task, set())
        found = {name for _, name, _, _ in Formatter().parse(prompt) if name is not None}
        if not needed <= found <= {*needed, "domain"} or f"\n{prompt}".count("\n{history}\n") != 1:
            names = ", ".join(f"{{{name}}}" for name in sorted(needed))
            raise ValueError(f"a prompt has {names} and at most {{domain}} beside; {{history}} once, on its own line")
        return prompt


class TextTasks(Section):
    """Of a corpus with RecIF's tasks: what `render` draws for them."""

    pool_size: Annotated[int, Field(ge=2)]
    """Candidates of a task's prompt; a beam's list holds 32 at most."""
    draws: Count
    """Times that samples are drawn from each log; epochs of SFT take them in turn."""


class TextPolicy(Section):
    """What SFT, RL and decoding read of it."""

    window_days: Count
    """Days before a context's last interaction whose behaviour is told apart from what was before."""
    max_tokens: Annotated[int, Field(ge=32)]
    """Of a prompt; the history's oldest items are left out to keep to it."""
    candidates: Literal["lines", "names"]
    """How a prompt shows its pool: with what text.tags and text.statistics tell of items, or by name alone."""
    put_target: bool
    """Whether SFT puts logged items that the retrievers missed into the pool, in the place of its last others."""
    loss: Literal["full", "constrained"]
    """SFT's softmax: over the whole vocabulary, which teaches to write names unaided, or over the pool's."""
    tasks: TaskPrompts


class Text(Section):
    """Native text: candidate pools, and what a prompt tells (Sec. 3.2)."""

    pool_size: Annotated[int, Field(ge=2)]
    """N, candidates per context."""
    retrievers: dict[Name, Share] = Field(min_length=1)
    """Modules of stages/retrievers and their shares of the pool, 1 in all. The largest chooses first, then by name."""
    transitions: Fill
    """Of the retriever of that name."""
    tags: bool
    """Whether candidates are shown with their categories."""
    statistics: bool
    """Whether candidates are shown with how popular they are in training."""
    vocabulary: Annotated[int, Field(ge=300)]
    """Tokens of the tokenizer that is trained on the corpus, for backbones from scratch."""
    tasks: TextTasks
    policy: TextPolicy

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if abs(sum(self.retrievers.values()) - 1) > 1e-6:
            raise ValueError(f"retrievers: the shares have to be 1 in all, they are {sum(self.retrievers.values()):g}")
        return self
