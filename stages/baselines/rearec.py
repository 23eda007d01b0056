"""ReaRec: SASRec's encoder that thinks on before it answers, in latent steps (arXiv 2503.22675).

    r_0 = the state at the last item;  r_k = encoder(items, .., r_(k-1) + P_k)   k = 1..K, P the reasoning positions
    p_k = softmax(E r_k / tau_k)                                                 E the item embeddings

erl, ensemble reasoning: every step is supervised, and rewarded for being unlike the others; lists are by the mean step
    loss = mean_k -log p_k[target] - lambda mean over i != j of KL(p_i || p_j),   tau_k = tau
prl, progressive reasoning: steps sharpen one by one, and keep to their way when disturbed; lists are by the last step
    loss = -log p_K[target] + mean over k < K of -log p_k[target] + mean over k > 0 of -log softmax_u(r_k . r'_k / tau)
    tau_k = tau alpha^(K-k);  r'_k from the input r_(k-1) + P_k + gamma noise;  u the other windows of the batch

Where we differ. From the paper: means over steps in the place of sums, as the authors' code has them, so that lambda
weighs the same for any K. From that code: erl supervises each step, not the mean state (p_j stands still in the
divergence, as there); one dropout for inputs and blocks. From both: every position of a window thinks and learns in one
pass (a position's thoughts see its items and each other, no other position's), where theirs has one example per prefix;
the contrast is taken at one position of each window, drawn anew, from the first epoch on, against the batch's other
windows, and the two of a pair share the keys and values of the items, where theirs reads the items again.
"""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from stages.baselines.attention import STD, ItemEncoder, Memory, Size, causal, up_to
from stages.baselines.base import Given, Outcome
from stages.baselines.item_losses import cross_entropy
from stages.baselines.loop import Schedule
from stages.baselines.self_attention import ItemLearner, outcome
from stages.baselines.windows import Rows, Window, rows
from stages.core.section import Count, NotNegative
from stages.core.seeding import derived_seed

AXIS = "sequential_baselines"


class Params(Size, Schedule):
    """Section `rearec` of params.yaml."""

    variant: Literal["erl", "prl"]
    steps: Count
    """K."""
    temperature: Annotated[float, Field(gt=0)]
    """tau."""
    kl: NotNegative
    """lambda (erl)."""
    annealing: Annotated[float, Field(ge=1)]
    """alpha (prl)."""
    noise: NotNegative
    """gamma, standard deviation (prl)."""
    early: NotNegative
    """Weight of the steps before the last (prl)."""
    contrast: NotNegative
    """Weight of the contrast (prl)."""


class Reasoner(ItemEncoder):
    """SASRec's encoder with K reasoning positions."""

    def __init__(self, items: int, size: Size, steps: int) -> None:
        super().__init__(items, size)
        self.thoughts = nn.Parameter(torch.randn(steps, self.items.embedding_dim) * STD)

    def think(self, state: Tensor, mask: Tensor, memories: list[Memory]) -> Tensor:
        """States r_0..r_K [B, Q, K + 1, h] of queries [B, Q, h] that see the items of the mask [.., Q, L]."""
        found = [state]
        for thought in self.thoughts:
            state, memories = self.through(state + thought, mask, memories)
            found.append(state)
        return torch.stack(found, 2)

    def disturbed(self, states: Tensor, mask: Tensor, memories: list[Memory], noise: float) -> Tensor:
        """States r'_1..r'_K [B, Q, K, h] of the same queries: a step starts at `think`'s [B, Q, K + 1, h], noised."""
        found = []
        for step, thought in enumerate(self.thoughts):
            start = states[:, :, step] + thought
            state, memories = self.through(start + noise * torch.randn_like(start), mask, memories)
            found.append(state)
        return torch.stack(found, 2)


class Rearec(ItemLearner[Reasoner]):
    """ReaRec under the variant of its section."""

    def __init__(self, given: Given, params: Params) -> None:
        torch.manual_seed(derived_seed(given.seed, "rearec", "weights"))
        super().__init__(given, params, params.length, Reasoner(given.histories.item_count, params, params.steps))
        self.params, self.progressive = params, params.variant == "prl"
        ones = torch.ones(params.steps + 1, device=given.device)
        if self.progressive:
            left = torch.arange(params.steps, -1, -1, device=given.device)
            self.temperature = params.temperature * params.annealing**left
            self.share = torch.cat([ones[1:] * params.early / params.steps, ones[:1]])
        else:
            self.temperature, self.share = ones * params.temperature, ones / len(ones)

    def loss(self, batch: list[Window]) -> tuple[Tensor, Tensor]:
        """Sum over the real targets of the windows, and their number; a contrast counts as often as these."""
        states, target, pairs = [], [], []
        for group in rows(batch, self.given.device):
            first, memories = self.model.read(group.read)
            thought = self.model.think(first, causal(group.read), memories)
            states.append(thought[group.real])
            target.append(group.target[group.real])
            if self.progressive and self.params.contrast:
                pairs.append(self._pair(thought, group, memories))
        found, targets = torch.cat(states), torch.cat(target)
        kl = 0.0 if self.progressive else self.params.kl
        scaled = found / self.temperature[:, None]
        total = cross_entropy(scaled, self.model.items.weight, targets, self.share, kl)
        if pairs:
            total = total + self.params.contrast * len(targets) * self._contrast(
                *map(torch.cat, zip(*pairs, strict=True))
            )
        return total, targets.new_tensor(len(targets))

    def represent(self, items: Tensor, last: Tensor) -> Tensor:
        """The mean state, or the last, of the thoughts behind place `last` [n] of the items [n, L]: [n, h]."""
        states, memories = self.model.read(items)
        row = torch.arange(len(items), device=items.device)
        thought = self.model.think(states[row, last][:, None], up_to(items, last), memories)[:, 0]
        return thought[:, -1] if self.progressive else thought.mean(1)

    def _pair(self, thought: Tensor, group: Rows, memories: list[Memory]) -> tuple[Tensor, Tensor]:
        """At one real position of each row, the states r_1..r_K and the same from noised inputs: [n, K, h] each."""
        row = torch.arange(len(thought), device=thought.device)
        place = (torch.rand(len(row), device=thought.device) * group.real.sum(1)).long()
        chosen = thought[row, place][:, None]  # [n, 1, K + 1, h]
        noised = self.model.disturbed(chosen, up_to(group.read, place), memories, self.params.noise)
        return chosen[:, 0, 1:], noised[:, 0]

    def _contrast(self, states: Tensor, noised: Tensor) -> Tensor:
        """Mean over rows and steps of how badly a noised state tells its own row's from the others': [n, K, h] each."""
        alike = torch.einsum("nkh,mkh->knm", noised, states) / self.params.temperature
        return -alike.log_softmax(-1).diagonal(dim1=1, dim2=2).mean()


def recommend(given: Given, params: Params) -> Outcome:
    """Train on the histories and rank the catalogue for each user."""
    return outcome(Rearec(given, params), given, "rearec")
