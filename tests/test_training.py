"""Model folders and the training loop of SFT."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from stages.core.checkpoints import Checkpoint, model_state
from stages.core.curves import Curve
from stages.core.errors import InputError
from stages.policy import backbone, device, training
from stages.policy.history_label import HistoryLessons, Window
from stages.policy.rollout import sample_slates
from stages.policy.sharing import Reading
from tests import small_backbone
from tests.small_policy import ITEMS, catalogue, scratch, settings


def test_a_policy_folder_round_trip(space, model, asked, tmp_path):
    card = backbone.Card("slate", space.fingerprint, "sft@test 0")
    backbone.save(model, card, tmp_path / "policy")
    loaded, found = backbone.load(tmp_path / "policy", space.fingerprint, tmp_path, settings())
    assert found == card
    assert not loaded.training
    before, after = model_state("x", model), model_state("x", loaded)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    greedy = [sample_slates(Reading(each, asked), space, [0.0] * 1, 5, None).items for each in (model, loaded)]
    assert torch.equal(*greedy)


def test_another_action_space_is_refused(space, model, tmp_path):
    backbone.save(model, backbone.Card("slate", "0123456789abcdef", "sft@test 0"), tmp_path / "policy")
    with pytest.raises(InputError, match=rf"0123456789abcdef, but the ids at hand are {space.fingerprint}; rerun sft"):
        backbone.load(tmp_path / "policy", space.fingerprint, tmp_path, settings())


@pytest.mark.parametrize("file", ["policy.json", "config.json", "model.safetensors"])
@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_a_damaged_policy_folder_is_refused(space, model, tmp_path, monkeypatch, file, damage):
    """Never by building the library's default model in its place, whose weights take 30 GB."""
    build = backbone.Qwen3ForCausalLM.__init__

    def only_small(self, config, *rest, **named):
        assert config.hidden_size == 16, "a model of the default size was about to be built"
        build(self, config, *rest, **named)

    monkeypatch.setattr(backbone.Qwen3ForCausalLM, "__init__", only_small)
    backbone.save(model, backbone.Card("slate", space.fingerprint, "sft@test 0"), tmp_path / "policy")
    path = tmp_path / "policy" / file
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match="not a policy that can be loaded"):
        backbone.load(tmp_path / "policy", space.fingerprint, tmp_path, settings())


def test_the_seed_draws_the_weights(space):
    first, again, other = (model_state("x", scratch(space.new_tokens, seed)) for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


# -------------------------------------------------------------------------------------------------- training


class InterruptionError(Exception):
    """Stands for a machine that is taken away."""


def tiny_recipe(epochs: int = 4, patience: int = 9) -> training.Recipe:
    return training.Recipe(
        epochs=epochs,
        max_examples=None,
        batch_items=16,
        lr=1e-2,
        lr_warmup=0.3,
        weight_decay=0.01,
        max_grad_norm=1.0,
        patience=patience,
        seed=7,
    )


class Judged:
    """Validation by the loss of three windows."""

    def __init__(self, lessons: HistoryLessons) -> None:
        self.lessons = lessons

    @torch.no_grad()
    def loss(self, model, accelerator) -> float:
        model.eval()
        return float(self.lessons.loss(model, [Window(items[:5], None) for items in self.lessons.sequences[:3]])[0])


class Given:
    """Validation whose losses are given, and which keeps the weights that it saw."""

    def __init__(self, *losses: float) -> None:
        self.losses, self.seen = list(losses), []

    def loss(self, model, accelerator) -> float:
        self.seen.append({name: weight.detach().clone() for name, weight in model_state("x", model).items()})
        return self.losses[len(self.seen) - 1]


def fit(
    space,
    checkpoint: Checkpoint,
    folder,
    stop_at: tuple[int, int] | None = None,
    epochs: int = 4,
    patience=9,
    validation=None,
    model=None,
):
    """A tiny run with dropout, warm-up and changing examples; `stop_at` (epoch, step) raises in the middle of one."""
    model = model or scratch(space.new_tokens, 5, settings(dropout=0.2))
    sequences = [np.random.default_rng(user).permutation(ITEMS)[:8] for user in range(9)]

    lessons = HistoryLessons(space, sequences, None, 20, 0.0, True, 7)

    def progress(batches, what: str):
        epoch = int(what.removeprefix("epoch ").split("/")[0])
        for step, batch in enumerate(batches):
            if (epoch, step) == stop_at:
                raise InterruptionError
            yield batch

    curve, recipe = Curve(folder / "curve.csv"), tiny_recipe(epochs, patience)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "progress", progress)
        best = training.fit(
            model, lessons, validation or Judged(lessons), recipe, Accelerator(cpu=True), checkpoint, curve
        )
    return model_state("x", model), best, (folder / "curve.csv").read_bytes()


@pytest.mark.parametrize(("pace", "at"), [("99", (2, 0)), ("1", (2, 1))])
def test_a_resumed_run_ends_with_the_same_weights(space, tmp_path, monkeypatch, pace, at):
    """Stopped in epoch 3 after its first batch, taken up again at its beginning, or between the two batches: weights,
    best epoch and curve are those of an undisturbed run, dropout included."""
    monkeypatch.setenv("SAGE_CHECKPOINTS", str(tmp_path / "checkpoints"))
    monkeypatch.setenv("SAGE_CHECKPOINT_STEPS", pace)
    weights, best, curve = fit(space, Checkpoint("whole", "0"), tmp_path / "whole")
    broken = Checkpoint("broken", "0")
    with pytest.raises(InterruptionError):
        fit(space, broken, tmp_path / "broken", stop_at=(3, 1))
    _, values = broken.load()
    assert (values["epoch"], values["step"]) == at  # whole epochs, and batches of the next one
    again, best_again, curve_again = fit(space, broken, tmp_path / "broken")
    assert (best_again, curve_again) == (best, curve)
    assert all(again[name].detach().numpy().tobytes() == weights[name].detach().numpy().tobytes() for name in weights)
    start = model_state("x", scratch(space.new_tokens, 5))
    assert not all(torch.equal(start[name], weights[name]) for name in weights)


@pytest.mark.parametrize("patience", [9, 1])
def test_a_run_resumed_after_its_last_epoch_writes_its_curve_again(space, checkpoint, tmp_path, monkeypatch, patience):
    """Stopped between its last epoch and its model, with DVC having deleted the curve: nothing is trained again. Losses
    1, 2, 3, 4: with patience 1 the last epoch is the second."""
    validation = Given(1.0, 2.0, 3.0, 4.0)
    weights, best, curve = fit(space, checkpoint, tmp_path, patience=patience, validation=validation)
    assert len(curve.splitlines()) == 1 + (4 if patience == 9 else 2)
    (tmp_path / "curve.csv").unlink()
    monkeypatch.setattr(training, "_one_step", lambda *_: pytest.fail("a batch was trained again"))
    again, best_again, curve_again = fit(space, checkpoint, tmp_path, patience=patience)
    assert (best_again, curve_again) == (best, curve) == (1, curve)
    assert all(torch.equal(again[name], weights[name]) for name in weights)


def test_a_curve_goes_on_from_its_rows(tmp_path):
    """Columns may come later; a restored curve is written at once, and its rows are its own."""
    curve = Curve(tmp_path / "curves" / "curve.csv")
    curve.add(step=1, loss=1 / 3)
    curve.add(step=2, loss=0.25, kl=0.0)
    text = curve.path.read_text()
    assert text == "step,loss,kl\n1,0.333333,\n2,0.25,0.0\n"
    curve.path.unlink()
    again = Curve(curve.path)
    again.restore(curve.rows)
    assert again.path.read_text() == text
    again.add(step=3, loss=0.125)
    assert again.path.read_text() == text + "3,0.125,\n"
    assert len(curve.rows) == 2


def test_epoch_batches():
    """Lengths 9, 7, 4, 4, 3, 1 at 16 items a batch: 9 (2 x 9 > 16), then 7 and 4 (2 x 7), then 4, 3, 1 (3 x 4)."""
    windows = [Window(np.arange(length), None) for length in (4, 9, 1, 7, 3, 4)]
    lessons = SimpleNamespace(epoch=lambda epoch: windows, size=lambda window: len(window.items))

    def drawn(epoch: int) -> list[list[int]]:
        return [[len(row.items) for row in batch] for batch in training.epoch_batches(lessons, tiny_recipe(), epoch)]

    assert sorted(drawn(0)) == [[4, 3, 1], [7, 4], [9]]
    some = replace(tiny_recipe(), max_examples=2)
    few = [
        sorted(len(row.items) for batch in training.epoch_batches(lessons, some, e) for row in batch) for e in range(9)
    ]
    assert all(len(drawn_) == 2 for drawn_ in few)
    assert len(set(map(tuple, few))) > 1  # others in each epoch
    assert drawn(0) == drawn(0)
    assert any(drawn(0) != drawn(epoch) for epoch in range(1, 6))


def test_a_batch_of_seen_items_changes_nothing_to_nan(space, checkpoint, tmp_path):
    """Every target was seen before: no weight, no gradient, and no NaN."""
    lessons = HistoryLessons(space, [np.array([4])], None, 20, 0.0, True, 7)
    windows, model, curve = (
        [Window(np.array([4]), np.array([4]))],
        scratch(space.new_tokens, 5),
        Curve(tmp_path / "curve.csv"),
    )
    recipe, machine = tiny_recipe(epochs=2), Accelerator(cpu=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HistoryLessons, "epoch", lambda self, number: windows)
        training.fit(model, lessons, Given(2.0, 1.0), recipe, machine, checkpoint, curve)
    assert all(torch.isfinite(weight).all() for weight in model.parameters())
    assert [row["train_loss"] for row in curve.rows] == [0, 0]


def test_no_example_at_all(space, model, checkpoint, tmp_path):
    lessons, curve = HistoryLessons(space, [], None, 20, 0.0, True, 7), Curve(tmp_path / "curve.csv")
    with pytest.raises(InputError, match=r"no training sequence.*sft\.holdback"):
        training.fit(model, lessons, Given(1.0), tiny_recipe(), Accelerator(cpu=True), checkpoint, curve)


@pytest.mark.parametrize(
    ("gpu", "precision", "mixed"), [(False, "fp32", "no"), (True, "fp32", "no"), (True, "bf16", "bf16")]
)
def test_accelerator(monkeypatch, gpu, precision, mixed):
    """A GPU where there is one; in single precision one that repeats itself."""
    asked, told = [], []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(device, "Accelerator", lambda **options: asked.append(options))
    monkeypatch.setattr(device, "repeatable", lambda: told.append(True))
    device.accelerator(precision)
    assert asked == [{"cpu": not gpu, "mixed_precision": mixed}]
    assert told == [True] * (gpu and precision == "fp32")


def test_the_best_epoch_is_kept_and_patience_ends_the_run(space, checkpoint, tmp_path):
    """Validation losses 3, 1, 2, 4 and patience 2: two epochs without gain after the second end the run, and the
    weights are the second's."""
    validation = Given(3.0, 1.0, 2.0, 4.0, 5.0, 6.0)
    weights, best, _ = fit(space, checkpoint, tmp_path, epochs=9, patience=2, validation=validation)
    assert best == 2
    assert len(validation.seen) == 4
    assert all(torch.equal(weights[name], validation.seen[1][name]) for name in weights)


def test_a_resumed_run_with_adapters_ends_with_the_same_weights(tmp_path, monkeypatch):
    """What is kept between are the adapters and the rows of new tokens alone."""
    monkeypatch.setenv("SAGE_CHECKPOINTS", str(tmp_path / "checkpoints"))
    body, source = small_backbone.settings(), small_backbone.pretrained_folder(tmp_path)
    space = catalogue(tmp_path, backbone.tokenizer(source))

    def model():
        return backbone.create(body, source, space.new_tokens, 1)

    weights, best, curve = fit(space, Checkpoint("whole", "0"), tmp_path / "whole", model=model())
    broken = Checkpoint("broken", "0")
    with pytest.raises(InterruptionError):
        fit(space, broken, tmp_path / "broken", stop_at=(3, 1), model=model())
    kept = {name.split(".", 1)[1] for name in broken.load()[0] if name.startswith("model.")}
    assert kept
    assert all("lora" in name or "trainable_tokens" in name for name in kept)
    again, best_again, curve_again = fit(space, broken, tmp_path / "broken", model=model())
    assert (best_again, curve_again) == (best, curve)
    assert all(torch.equal(again[name], weights[name]) for name in weights)


def test_the_first_epochs_align_the_new_tokens_alone(checkpoint, tmp_path):
    """A pretrained model with adapters: after one aligning epoch only the rows of new tokens have moved, after a second
    epoch the adapters have as well. A model without such rows refuses."""
    body, source = small_backbone.settings(), small_backbone.pretrained_folder(tmp_path)
    space = catalogue(tmp_path, backbone.tokenizer(source))
    assert space.tokens.min() == small_backbone.WORDS + 3
    lessons = HistoryLessons(space, [np.arange(8), np.arange(4, 12)], None, 20, 0.0, True, 7)
    moved = []
    for epochs in (1, 2):
        model = backbone.create(body, source, space.new_tokens, 1)
        start = {name: weight.clone() for name, weight in model_state("x", model).items()}
        recipe = replace(tiny_recipe(epochs=epochs), align_epochs=1, lr_warmup=0.0)
        own = Checkpoint(f"align-{epochs}", "0")
        curve = Curve(tmp_path / f"{epochs}.csv")
        training.fit(model, lessons, Given(3.0, 2.0), recipe, Accelerator(cpu=True), own, curve)
        moved.append({name for name, weight in model_state("x", model).items() if not torch.equal(weight, start[name])})
    assert moved[0]
    assert all("trainable_tokens" in name for name in moved[0])
    assert any("lora" in name for name in moved[1])
    with pytest.raises(InputError, match=r"align_epochs: the backbone has no rows of new tokens"):
        training.fit(
            scratch(space.new_tokens, 5), lessons, Given(1.0), recipe, Accelerator(cpu=True), checkpoint, curve
        )
