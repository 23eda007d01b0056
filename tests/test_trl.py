"""TRL's GRPOTrainer as an outside oracle of our advantages, losses and gradients: the same numbers from other code.

The trainer is the real one, on a tiny Qwen3; its log-probabilities are its own, fp32, ours a log-softmax of the logits.
TRL is no dependency of the project, and without it these tests are skipped. To run them in an environment of TRL's own:

    python -m venv .venv-trl && .venv-trl/bin/pip install -e '.[dev]' trl==1.16.0
    .venv-trl/bin/python -m pytest tests/test_trl.py

Shapes: B users, K slates, T tokens, M objectives; TRL has B x K rows, a user's K in a row.
"""

from types import ModuleType
from typing import Any

import pytest
import torch
from objective_cases import BAPO, DAPO, GDPO, GRPO, GSPO, LOW, PPO, SAGE, changed
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM, TrainerCallback

from stages.objectives import bapo, dapo, gdpo, grpo, gspo, ppo, sage, terms
from stages.objectives.terms import Loss, ScoredSlates

trl = pytest.importorskip("trl", minversion="1.16", reason="TRL is no dependency; see the head of tests/test_trl.py")
datasets = pytest.importorskip("datasets", reason="comes with TRL")

pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")
RAGGED = pytest.mark.parametrize("ragged", [False, True], ids=["equal lengths", "different lengths"])
USERS, GROUP, TOKENS, WORDS, TEMPERATURE = 4, 6, 6, 12, 0.7
SEQUENCE = {"loss_type": "grpo", "importance_sampling_level": "sequence"}
DECOUPLED = {"multi_objective_aggregation": "normalize_then_sum"}
SAGE_TOKEN = changed(SAGE, ratio_norm="token")
DAPO_PAPER = changed(DAPO, eps_low=0.2)
BAPO_FIXED = changed(BAPO, c_low_min=0.7, c_low_max=0.7, c_high_min=1.4, c_high_max=1.4)
WEIGHTS = [1.0, -0.5]


class Judge(trl.GRPOTrainer):
    """GRPOTrainer that keeps the rollout which it drew and scored, before it shuffles and splits it."""

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Tensor]:
        self.drawn = super()._generate_and_score_completions(inputs)
        return self.drawn


class Updates(TrainerCallback):
    """The gradients that TRL has accumulated before each optimizer step, beside those of a loss of the model."""

    def __init__(self, loss: Any) -> None:
        self.loss, self.found = loss, []

    def on_pre_optimizer_step(self, args, state, control, model=None, **_):
        theirs = torch.cat([weight.grad.flatten() for weight in model.parameters()])
        self.found.append((on_weights(self.loss(model, first=state.global_step == 0), model)[1], theirs))


@pytest.fixture
def judge(tmp_path):
    """Build the trainer from settings of GRPOConfig, and from rewards [B * K, M] for its reward functions to return."""

    def build(rewards: Tensor | None = None, **settings: Any) -> Judge:
        torch.manual_seed(0)
        size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "head_dim": 8}
        heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "eos_token_id": 1, "pad_token_id": 0}
        model = Qwen3ForCausalLM(Qwen3Config(vocab_size=WORDS, **size, **heads, initializer_range=0.5)).double().eval()
        tokenizer = Tokenizer(models.WordLevel({f"t{i}": i for i in range(WORDS)}, unk_token="t0"))
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        rewards = torch.zeros(USERS * GROUP, 1) if rewards is None else rewards

        def returned(objective: int):
            def reward(**_: Any) -> list[float]:
                return rewards[:, objective].tolist()

            return reward

        batch = {"per_device_train_batch_size": USERS * GROUP, "num_generations": GROUP, "max_steps": 1}
        shape = {"max_completion_length": TOKENS, "temperature": TEMPERATURE}
        plain = {"use_cpu": True, "bf16": False, "gradient_checkpointing": False, "beta": 0.0, "max_grad_norm": 0.0}
        quiet = {"logging_strategy": "no", "save_strategy": "no", "report_to": [], "disable_tqdm": True}
        return Judge(
            model=model,
            reward_funcs=[returned(objective) for objective in range(rewards.shape[1])],
            args=trl.GRPOConfig(**{"output_dir": str(tmp_path), **batch, **shape, **plain, **quiet, **settings}),
            train_dataset=datasets.Dataset.from_dict({"prompt": [f"t{i} t3" + " t4" * i for i in range(2, 2 + USERS)]}),
            processing_class=PreTrainedTokenizerFast(
                tokenizer_object=tokenizer, pad_token="t0", eos_token="t1", unk_token="t0"
            ),
        )

    return build


def own_log_probs(model: Any, batch: dict[str, Tensor]) -> Tensor:
    """Log-probabilities of the completions, without TRL: [B * K, T]."""
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
    seen = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
    logits = model(input_ids=ids, attention_mask=seen).logits[:, -batch["completion_ids"].shape[1] - 1 : -1]
    return (logits / TEMPERATURE).log_softmax(-1).gather(-1, batch["completion_ids"][..., None])[..., 0]


def rollout(model: Any, spread: float, ragged: bool = True) -> dict[str, Tensor]:
    """What TRL's loss takes, with log-ratios ~ N(0, spread) per token and advantages of both signs."""
    generator = torch.Generator().manual_seed(1)
    rows = torch.arange(USERS * GROUP)
    length = torch.randint(1, TOKENS + 1, rows.shape, generator=generator) if ragged else torch.tensor(TOKENS)
    batch = {
        "prompt_ids": torch.randint(2, WORDS, (len(rows), 3), generator=generator),
        "prompt_mask": (torch.arange(3) >= rows[:, None] // GROUP % 2).long(),  # padding on the left
        "completion_ids": torch.randint(2, WORDS, (len(rows), TOKENS), generator=generator),
        "completion_mask": (torch.arange(TOKENS).expand(len(rows), -1) < length[..., None]).long(),
        "advantages": torch.randn(len(rows), generator=generator, dtype=torch.float64),
    }
    batch["num_items_in_batch"] = batch["completion_mask"].sum()
    now = own_log_probs(model, batch).detach()
    batch["old_per_token_logps"] = now + spread * torch.randn(now.shape, generator=generator, dtype=torch.float64)
    return batch


def grouped(values: Tensor) -> Tensor:
    """[B * K, ..] -> [B, K, ..]."""
    return values.reshape(-1, GROUP, *values.shape[1:])


def ours(objective: ModuleType, params: Any, model: Any, batch: dict[str, Tensor], lower_entropy: float = 0.0) -> Loss:
    """Our loss on TRL's batch, H = Hbar - lower_entropy for all; no ratio here asks for items: each slate is one."""
    now = own_log_probs(model, batch)
    log_probs, old = grouped(now), grouped(batch.get("old_per_token_logps", now.detach()))
    mask, entropy = grouped(batch["completion_mask"].bool()), torch.full((USERS, GROUP), 2.0 - lower_entropy)
    slates = ScoredSlates(log_probs, old, mask, torch.zeros_like(mask).long(), 1, entropy, torch.tensor(2.0))
    return objective.loss(slates, grouped(batch["advantages"]).double(), params)


def on_weights(loss: Tensor, model: Any) -> tuple[float, Tensor]:
    """A loss, and its gradient on all weights as one vector."""
    gradient = torch.autograd.grad(loss, list(model.parameters()))
    return float(loss.detach()), torch.cat([part.flatten() for part in gradient])


def same_gradient(found: Tensor, want: Tensor) -> None:
    assert torch.linalg.vector_norm(found - want) < 2e-6 * torch.linalg.vector_norm(want)
    assert want.abs().max() > 1e-2


def same(judge: Judge, batch: dict[str, Tensor], loss: Tensor) -> None:
    """TRL's loss has this value and gradient."""
    want = on_weights(judge.compute_loss(judge.model, batch), judge.model)
    found = on_weights(loss, judge.model)
    assert found[0] == pytest.approx(want[0], rel=1e-6, abs=1e-6)
    same_gradient(found[1], want[1])


def both_sides(loss: Loss) -> Tensor:
    """The loss's value; some rewarded and some rejected cases, but not all, have lost their gradient to a bound."""
    assert 0 < loss.diagnostics["at_upper_bound"] < 1
    assert 0 < loss.diagnostics["at_lower_bound"] < 1
    return loss.value


# ------------------------------------------------------------------------------------------- losses and gradients


@RAGGED
@pytest.mark.parametrize(
    ("objective", "params", "low", "high"),
    [(ppo, PPO, 0.25, 0.25), (grpo, GRPO, 0.25, 0.25), (gdpo, GDPO, 0.25, 0.25), (bapo, BAPO_FIXED, 0.3, 0.4)],
    ids=["ppo", "grpo", "gdpo", "bapo"],
)
def test_token_surrogates_are_grpo(judge, objective, params, low, high, ragged):
    """loss_type grpo, level token: epsilon = epsilon_high = eps_clip; BAPO's bounds held: 1 - c_low and c_high - 1.

    At all lengths. They differ for a completion without tokens: TRL adds 0, ours has none. TRL means over a device's
    micro-batch, ours over a minibatch of users.
    """
    trainer = judge(loss_type="grpo", epsilon=low, epsilon_high=high)
    batch = rollout(trainer.model, 0.4, ragged)
    same(trainer, batch, both_sides(ours(objective, params, trainer.model, batch)))


@RAGGED
def test_gspo_is_the_sequence_level(judge, ragged):
    """Level sequence, loss_type grpo, epsilon 3e-4 and epsilon_high 4e-4 = eps_low and eps_high, at all lengths.

    With loss_type dapo or bnpo TRL weighs a sequence by its length; neither is GSPO, nor ours.
    """
    trainer = judge(**SEQUENCE, epsilon=3e-4, epsilon_high=4e-4)
    batch = rollout(trainer.model, 1e-3, ragged)
    same(trainer, batch, both_sides(ours(gspo, GSPO, trainer.model, batch)))


@RAGGED
def test_dapo_is_dapo(judge, ragged):
    """loss_type dapo, epsilon .2 and epsilon_high .28 = eps_low and eps_high: the sum over tokens by their number.

    TRL's number is num_items_in_batch, of the whole generation batch. Where each group has a signal it is ours.
    """
    trainer = judge(loss_type="dapo", epsilon=0.2, epsilon_high=0.28)
    batch = rollout(trainer.model, 0.4, ragged)
    same(trainer, batch, both_sides(ours(dapo, DAPO_PAPER, trainer.model, batch)))


def test_dapo_divides_by_the_tokens_with_signal(judge):
    """Two of four groups without signal: TRL divides by their tokens too, and is ours times the share of the others."""
    trainer = judge(loss_type="dapo", epsilon=0.2, epsilon_high=0.28)
    batch = rollout(trainer.model, 0.4)
    grouped(batch["advantages"])[[0, 2]] = 0.0
    tokens = grouped(batch["completion_mask"]).sum((1, 2))
    part = tokens[[1, 3]].sum() / tokens.sum()
    assert part < 0.7
    same(trainer, batch, part * ours(dapo, DAPO_PAPER, trainer.model, batch).value)


@RAGGED
@pytest.mark.parametrize(
    ("beta", "floor"), [(0.0, 0.0), (0.5, 0.25)], ids=["without a penalty", "with lambda 1.25 for all"]
)
def test_sage_over_tokens_is_the_sequence_level_with_lambda_for_its_floor(judge, beta, floor, ragged):
    """ratio_norm token: level sequence, loss_type grpo, epsilon = lambda - 1 (0 with beta 0), epsilon_high = eps_boost.

    They differ otherwise: TRL has one epsilon for all sequences, SAGE a lambda of each slate; and ratio_norm item is
    TRL's ratio to the power of tokens per item. eps_clip has no part in it.
    """
    trainer = judge(**SEQUENCE, epsilon=floor, epsilon_high=0.3)
    batch = rollout(trainer.model, 0.7, ragged)
    loss = ours(sage, changed(SAGE_TOKEN, beta=beta), trainer.model, batch, lower_entropy=LOW)
    same(trainer, batch, both_sides(loss))


def test_sage_dual_clip_is_delta(judge):
    """Delta = dual_clip = 1.5. TRL clamps rewarded ratios at it as well, where epsilon_high = .3 has stopped them."""
    trainer = judge(**SEQUENCE, epsilon=0.0, epsilon_high=0.3, delta=1.5)
    batch = rollout(trainer.model, 0.7)
    loss = ours(sage, changed(SAGE_TOKEN, beta=0.0, dual_clip=1.5), trainer.model, batch)
    assert 0 < loss.diagnostics["at_dual_clip"] < 1
    same(trainer, batch, both_sides(loss))


@pytest.mark.parametrize("boost", [0.0, 0.3])
def test_exactly_on_a_bound_both_keep_the_whole_gradient(judge, boost):
    """Without old log-probabilities TRL's ratio is 1 to the bit, on the floor, and with boost 0 on the ceiling as well.

    Both clip by clamp, whose gradient is 1 on its bounds, and share the tie of the minimum: REINFORCE for every slate.
    A clip by maximum and minimum of the ratio and its bounds would lose a part of it.
    """
    trainer = judge(**SEQUENCE, epsilon=0.0, epsilon_high=boost)
    batch = rollout(trainer.model, 0.0)
    del batch["old_per_token_logps"]
    same(trainer, batch, ours(sage, changed(SAGE_TOKEN, beta=0.0, eps_boost=boost), trainer.model, batch).value)
    mean = terms.token_mean(own_log_probs(trainer.model, batch), batch["completion_mask"])
    reinforce = on_weights(-(mean * batch["advantages"]).mean(), trainer.model)[1]
    same_gradient(on_weights(trainer.compute_loss(trainer.model, batch), trainer.model)[1], reinforce)


def test_beyond_a_ratio_of_exp_20_ours_stops(judge):
    """A rejected token with a log-ratio of 30: TRL's loss is exp(30) |A| / (B K T), ours exp(20) of it, no gradient."""
    trainer = judge(loss_type="grpo", epsilon=0.25)
    batch = rollout(trainer.model, 0.0, ragged=False)
    batch["old_per_token_logps"][0, 0] -= 30
    batch["advantages"][0] = -1.0
    theirs = on_weights(trainer.compute_loss(trainer.model, batch), trainer.model)
    found = on_weights(ours(grpo, GRPO, trainer.model, batch).value, trainer.model)
    slot = USERS * GROUP * TOKENS
    assert theirs[0] == pytest.approx(torch.tensor(30.0).exp().item() / slot, rel=1e-4)
    assert found[0] == pytest.approx(torch.tensor(20.0).exp().item() / slot, rel=1e-4)
    assert theirs[1].abs().max() > 1e9
    assert found[1].abs().max() < 10


@pytest.mark.parametrize("corrected", [False, True], ids=["k3", "k3 times the ratio"])
@pytest.mark.parametrize(
    ("objective", "params", "settings"),
    [(grpo, GRPO, {"loss_type": "grpo"}), (gspo, changed(GSPO, eps_low=0.25, eps_high=0.25), SEQUENCE)],
    ids=["token", "sequence"],
)
def test_divergence_from_the_reference_is_k3(judge, objective, params, settings, corrected):
    """TRL's beta is rl.kl, with loss_type grpo: k3 per token, mean over a slate's tokens, then over slates.

    They differ in use_bias_correction_kl, true by default in TRL, which multiplies k3 by the ratio, with its gradient
    (DeepSeek-V3.2); ours has DeepSeekMath's k3, which is TRL's with false. And loss_type dapo means over all tokens.
    """
    trainer = judge(**settings, epsilon=0.25, use_bias_correction_kl=corrected)
    trainer.beta = 0.1  # as a setting it would load a reference from disk
    batch = rollout(trainer.model, 0.4)
    mask, old, log_probs = batch["completion_mask"], batch["old_per_token_logps"], own_log_probs(trainer.model, batch)
    batch["ref_per_token_logps"] = log_probs.detach() + (old - log_probs.detach()).roll(1, 0)
    k3 = terms.k3_divergence(log_probs, batch["ref_per_token_logps"])
    if corrected:
        log_ratio = log_probs - old
        k3 = k3 * (log_ratio if objective is grpo else terms.token_mean(log_ratio, mask)[:, None]).exp()
    loss = ours(objective, params, trainer.model, batch).value
    same(trainer, batch, loss + 0.1 * terms.token_mean(k3, mask).mean())


# -------------------------------------------------------------------------------------------- from rewards onwards


def rewards_of_two() -> Tensor:
    """Two objectives of different scales, the second without signal for the first user: [B * K, M]."""
    rewards = torch.rand(USERS * GROUP, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 10.0])
    rewards[:GROUP, 1] = 2.0
    return rewards


def trained(trainer: Judge) -> Tensor:
    """Train a step, and return the advantages that it computed: [B * K]."""
    trainer.train()
    return trainer.drawn["advantages"]


@pytest.mark.parametrize(
    ("objective", "params", "divide", "settings"),
    [
        (grpo, GRPO, True, {"scale_rewards": "group"}),
        (grpo, GRPO, False, {"scale_rewards": "none"}),
        (sage, SAGE, True, DECOUPLED),
        (gdpo, GDPO, True, DECOUPLED),
        (gdpo, GDPO, True, DECOUPLED | {"scale_rewards": "none"}),
        (ppo, PPO, True, {"scale_rewards": "group", "num_generations": USERS * GROUP}),
    ],
    ids=["grpo", "grpo undivided", "sage", "gdpo", "gdpo whatever scale_rewards", "ppo"],
)
def test_advantages_of_a_real_step(judge, objective, params, divide, settings):
    """Two reward functions, reward_weights = w_m; std unbiased plus 1e-4 on both sides, fp32.

    GRPO: sum_then_normalize, scale_rewards group; none where divide_by_std is false. TRL's `batch` takes the mean of
    the group and the std of the batch, which none of ours does; PPO's means over the batch are TRL's with one group.
    SAGE and GDPO: normalize_then_sum, which does not look at scale_rewards: without division (ours with divide_by_std
    false) TRL has nothing.
    """
    rewards = rewards_of_two()
    found = objective.advantages(grouped(rewards), torch.tensor(WEIGHTS), params, divide).flatten()
    assert found.abs().max() > 1 or not divide
    theirs = trained(judge(rewards, reward_weights=WEIGHTS, **settings))
    assert torch.allclose(found, theirs, rtol=1e-5, atol=1e-5)


def test_sage_without_decoupling_is_one_reward_of_their_sum(judge):
    """decouple false: normalize_then_sum of a single reward function that returns the weighted sum."""
    rewards, weights = rewards_of_two(), torch.tensor(WEIGHTS)
    found = sage.advantages(grouped(rewards), weights, changed(SAGE, decouple=False), True).flatten()
    theirs = trained(judge((rewards @ weights)[:, None], **DECOUPLED))
    assert torch.allclose(found, theirs, rtol=1e-5, atol=1e-5)


def test_equal_rewards_are_no_signal_for_ours_alone(judge):
    """Every user's six rewards are equal: ours is 0, TRL's is what rounding left, with normalize_then_sum enlarged.

    The mean of six times .9 misses .9 by 6e-8 in fp32; over a std of 1e-4 that is 6e-4, GRPO's advantage, and a batch
    of nothing else has a std as small, so that Norm_batch makes 1 of it. Ours takes a group's first reward from all of
    them before it centres. Beside a real signal in the batch, TRL's rest stays of GRPO's size.
    """
    rewards = torch.tensor([0.9, 0.3, 0.4307, 0.1]).repeat_interleave(GROUP)[:, None]
    summed, decoupled = trained(judge(rewards)), trained(judge(rewards, **DECOUPLED))
    assert 1e-5 < summed.abs().max() < 1e-2
    assert decoupled.abs().max() > 0.5
    for objective, params in ((grpo, GRPO), (sage, SAGE)):
        assert not objective.advantages(grouped(rewards), torch.ones(1), params, True).any()


@pytest.mark.parametrize(
    ("objective", "params", "settings"),
    [
        (grpo, GRPO, {"loss_type": "grpo", "epsilon": 0.25}),
        (dapo, DAPO_PAPER, {"loss_type": "dapo", "epsilon": 0.2, "epsilon_high": 0.28}),
        (gspo, GSPO, SEQUENCE | {"epsilon": 3e-4, "epsilon_high": 4e-4}),
        (sage, changed(SAGE_TOKEN, beta=0.0), SEQUENCE | DECOUPLED | {"epsilon": 0.0, "epsilon_high": 0.3}),
    ],
    ids=["grpo", "dapo", "gspo", "sage"],
)
def test_updates_of_a_real_rollout(judge, objective, params, settings):
    """Sampled completions of different lengths, two updates on them, each accumulated over two shuffled micro-batches.

    TRL's gradient before either optimizer step is ours on the whole rollout from its rewards: at a ratio of 1 before
    the first (TRL's old log-probabilities are another forward pass, which here gives the same bits), far from it then.
    """
    rewards = rewards_of_two()
    halves = {"per_device_train_batch_size": USERS * GROUP // 2, "gradient_accumulation_steps": 2}
    twice = {"num_iterations": 2, "max_steps": 2}
    descent = {"optim": "sgd", "learning_rate": 0.05, "lr_scheduler_type": "constant"}
    trainer = judge(rewards, reward_weights=WEIGHTS, **settings, **halves, **twice, **descent)
    advantages = objective.advantages(grouped(rewards), torch.tensor(WEIGHTS), params, True).flatten()
    ratios = []

    def loss(model: Any, first: bool) -> Tensor:
        batch = trainer.drawn | {"advantages": advantages}
        if first:
            del batch["old_per_token_logps"]
        found = ours(objective, params, model, batch)
        ratios.append(float(found.diagnostics["ratio_max"] - found.diagnostics["ratio_min"]))
        return found.value

    updates = Updates(loss)
    trainer.add_callback(updates)
    trainer.train()
    assert len(set(trainer.drawn["completion_mask"].sum(1).tolist())) > 1
    assert ratios[0] == 0
    assert ratios[1] > 0.3
    for found, want in updates.found:
        same_gradient(found, want)
