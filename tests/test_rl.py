"""The stage rl: what a learner takes from the optimizer's own section, and what from the shared one."""

from types import SimpleNamespace

import pytest
import torch

from stages import rl
from stages.core import params


@pytest.fixture
def start(monkeypatch):
    """Start a learner without files: own values of GSPO's section in, its recipe and learning rate out."""
    modules = {"objectives": params.load_module, "action_spaces": lambda *_: SimpleNamespace(Actions=lambda _: space)}
    space = SimpleNamespace(fingerprint="", trie=SimpleNamespace(to=lambda _: None))
    monkeypatch.setattr(rl, "accelerator", lambda _: SimpleNamespace(device="cpu"))
    monkeypatch.setattr(rl, "load", lambda _: SimpleNamespace(category_shares=lambda: None))
    monkeypatch.setattr(rl, "LoggedFeedback", lambda *_: None)
    monkeypatch.setattr(rl.backbone, "load", lambda *_: (torch.nn.Linear(1, 1), None))
    monkeypatch.setattr(rl.backbone, "read_card", lambda _: SimpleNamespace(label="history"))

    def with_values(shared: dict[str, object], own: dict[str, object]):
        settings = params.load()
        section = settings.own["gspo"].model_copy(update=own)
        changed = settings.model_copy(
            update={"rl": settings.rl.model_copy(update=shared), "own": {**settings.own, "gspo": section}}
        )
        monkeypatch.setattr(rl.params, "load_module", lambda folder, *rest: modules[folder](folder, *rest))
        learner, _ = rl.start(changed, "ml-100k", "semantic_id", "gspo", 1)
        return learner.recipe, learner.optimizer.param_groups[0]["lr"], changed.backbone.rl_lr

    return with_values


def test_kl_is_the_optimizers_own_where_it_has_one(start):
    """0 is a value of its own, not the absence of one."""
    assert start({"kl": 0.02}, {"kl": None})[0].kl == 0.02
    assert start({"kl": 0.02}, {"kl": 0.0})[0].kl == 0.0
    assert start({"kl": 0.0}, {"kl": 0.5})[0].kl == 0.5


def test_lr_is_the_optimizers_own_where_it_has_one(start):
    _, lr, shared = start({}, {"lr": None})
    assert lr == shared
    assert start({}, {"lr": 0.25})[1] == 0.25


@pytest.mark.parametrize("divide", [True, False])
def test_division_by_the_groups_std_reaches_the_recipe(start, divide):
    assert start({"divide_by_std": divide}, {})[0].divide_by_std is divide
