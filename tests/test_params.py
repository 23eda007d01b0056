"""params.yaml: each malformed value is an InputError that names section.key, the value and what is allowed."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from stages.core import params
from stages.core.errors import InputError
from stages.core.params import Params
from stages.core.section import OptimizerSection

ROOT = Path(__file__).parents[1]
DELETE = object()
VERBS = sorted(file.stem for file in ROOT.glob("stages/*.py") if file.stem != "__init__")


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Params]:
    """Load params.yaml with changes: dotted keys and their values."""

    def changed(changes: dict[str, Any]) -> Params:
        values = yaml.safe_load((ROOT / "params.yaml").read_text())
        for key, value in changes.items():
            *sections, last = key.split(".")
            section = values
            for name in sections:
                section = section[name]
            if value is DELETE:
                del section[last]
            else:
                section[last] = value
        path = tmp_path / "params.yaml"
        path.write_text(yaml.safe_dump(values))
        return params.load(path)

    return changed


def test_the_file_as_shipped(load):
    settings = load({})
    assert settings.own["sage"].eps_boost == 0.3
    assert settings.own["sft"] is None  # its section is the shared one
    assert settings.backbone is settings.backbones[settings.axes.backbone]


@pytest.mark.parametrize("name", params.modules("objectives"))
def test_an_optimizers_section_has_its_keys_in_order(load, name):
    own = load({}).own[name]
    if own is not None:
        shared = list(OptimizerSection.model_fields)
        constants = [key for key in type(own).model_fields if key not in shared]
        assert list(yaml.safe_load((ROOT / "params.yaml").read_text())[name]) == constants + shared


def test_optimizers_without_a_divergence(load):
    """DAPO has no KL term and GSPO's equations leave it out; the others take rl.kl."""
    own = load({}).own
    kl = {name: own[name].kl for name in params.modules("objectives") if own[name] is not None}
    assert {name: weight for name, weight in kl.items() if weight is not None} == {"dapo": 0.0, "gspo": 0.0}


def test_an_ablation_is_sage_less_one_part(load):
    """Its section is SAGE's but for one key, with SAGE's as they are set."""
    found = load({"sage.eps_clip": 0.25, "ablation_datasets": ["ml-100k"]})
    whole = found.own["sage"].model_dump()
    changed = {"sage_no_boost": {"eps_boost": 0.0}, "sage_no_penalty": {"beta": 0.0}}
    changed |= {"sage_no_decoupling": {"decouple": False}, "sage_scaled": {"eps_boost": 0.08}}
    assert set(found.ablations) == set(changed)
    for name, keys in changed.items():
        assert found.own[name].model_dump() == {**whole, **keys}
        assert found.module_of(name) == "sage"
    assert sorted(found.policies("ml-100k")[-4:]) == sorted(("semantic_id", name) for name in changed)
    assert load({}).policies("ml-100k")[-1] == ("semantic_id", "sage")


def test_a_second_round_runs_the_same_optimizer_from_another_sft(load):
    found = load({"second_round": ["grpo"]})
    assert ("semantic_id", "grpo_round2") in found.policies("ml-100k")
    assert found.own["grpo_round2"] == found.own["grpo"]
    assert (found.module_of("grpo_round2"), found.harvest_of("grpo_round2")) == ("grpo", "grpo")
    assert (found.module_of("grpo"), found.harvest_of("grpo")) == ("grpo", "")


FAULTS = {
    "section unknown": ({"sag": {}}, "sag: 'sag' is none of the sections: .*did you mean 'sage'"),
    "section missing": ({"rl": DELETE}, "rl: missing"),
    "section no mapping": ({"rl": 3}, r"rl: has to be a mapping of keys \(found 3\)"),
    "own section no mapping": ({"sage": [1]}, r"sage: has to be a mapping of keys \(found \[1\]\)"),
    "own section empty": ({"sage": None}, "sage.lr: missing.*sage.eps_boost: missing"),
    "kl of an optimizer below range": ({"dapo.kl": -0.1}, "dapo.kl: .*greater than or equal to 0"),
    "form": ({"sage.form": "surogate"}, "sage.form: .*'surrogate', 'gradient' or 'literal'"),
    "dual clip without effect": (
        {"sage.form": "gradient", "sage.dual_clip": 3},
        "sage: dual_clip has no effect in form gradient",
    ),
    "range upside down": ({"bapo.c_low_min": 0.95}, "bapo: c_high_min and c_low_min may not be above"),
    "own section missing": ({"gbpo": DELETE}, "optimizers: 'gbpo' has no section; add 'gbpo:'"),
    "corpora no mapping": ({"corpora": None}, "corpora: .*valid dictionary"),
    "corpus no mapping": ({"corpora.ml-100k": "x"}, r"corpora.ml-100k: has to be a mapping of keys \(found 'x'\)"),
    "own key unknown": (
        {"sage.eps_bost": 0.3},
        "sage.eps_bost: unknown key; did you mean 'eps_boost'.*allowed: lr, kl, form, eps_b",
    ),
    "shared key unknown": (
        {"rl.rolouts": 4},
        "rl.rolouts: unknown key; did you mean 'rollouts'.*allowed: slate_length",
    ),
    "inner key unknown": (
        {"corpora.ml-100k.feedback.like.colum": "rating"},
        "corpora.ml-100k.feedback.like.colum: unknown key; did you mean 'column'.*allowed: rule, column, threshold",
    ),
    "key of an optional section unknown": (
        {"corpora.sports.amazon.host": "x"},
        "corpora.sports.amazon.host: unknown key; did you mean 'hosts'.*allowed: category, hosts, sha256, text",
    ),
    "column of no table": ({"corpora.beauty.columns": {"user": "uid"}}, "corpora.beauty.columns.user.*: .*'user_id'"),
    "host that is none": (
        {"corpora.sports.amazon.hosts": ["ftp://x"]},
        "corpora.sports.amazon.hosts.0: .*pattern.*'ftp://x'",
    ),
    "hash that is none": (
        {"corpora.sports.amazon.sha256": {"meta_x.json.gz": "f00d"}},
        "corpora.sports.amazon.sha256.meta_x.json.gz: .*pattern",
    ),
    "source without its keys": ({"corpora.sports.amazon": None}, "corpora.sports: source amazon needs the keys"),
    "history that leaves nothing to learn": (
        {"corpora.beauty.max_history": 2},
        "corpora.beauty.max_history: .*than or",
    ),
    "key missing": ({"sage.beta": DELETE}, "sage.beta: missing"),
    "axis missing": ({"seeds": DELETE}, "seeds: missing"),
    "text for number": ({"sage.eps_boost": "high"}, "sage.eps_boost: .*valid number.*'high'"),
    "fraction for count": ({"rl.group_size": 4.5}, "rl.group_size: .*valid integer.*4.5"),
    "list for number": ({"sft.lr_warmup": [0.1]}, "sft.lr_warmup: .*valid number"),
    "null for number": ({"sft.epochs": None}, "sft.epochs: .*valid integer.*None"),
    "bool for number": ({"sage.eps_boost": True}, r"sage.eps_boost: true and false are no values .*\(found True\)"),
    "bool for optional number": ({"sage.lr": False}, "sage.lr: true and false are no values"),
    "bool for weight": ({"corpora.ml-100k.objectives.like": True}, "corpora.ml-100k.objectives: true and false"),
    "bool for seed": ({"seeds": [True]}, "seeds: true and false"),
    "bool for number beside one that is a bool": (
        {"rl.kl": True},
        r"rl.kl: true and false are no values .*\(found True\)",
    ),
    "number for bool": ({"sage.decouple": 2}, "sage.decouple: .*valid boolean.* 2"),
    "below range": ({"sage.beta": -0.1}, "sage.beta: .*greater than or equal to 0.*-0.1"),
    "above range": ({"rl.entropy_rate": 1.5}, "rl.entropy_rate: .*less than or equal to 1.*1.5"),
    "not finite": ({"rl.kl": float("nan")}, "rl.kl: .*finite number"),
    "choice": ({"sage.ratio_norm": "itme"}, "sage.ratio_norm: .*'item' or 'token'.*'itme'"),
    "key of an ablation unknown": (
        {"ablations.sage_no_boost.eps_bost": 0.0},
        "ablations.sage_no_boost.eps_bost: unknown key; did you mean 'eps_boost'",
    ),
    "value of an ablation": (
        {"ablations.sage_no_penalty.beta": -1.0},
        "ablations.sage_no_penalty.beta: .*greater than",
    ),
    "ablation with the name of an optimizer": ({"ablations.grpo": {}}, "ablations: 'grpo' is the name of an optimizer"),
    "ablations of nothing": (
        {"sage": DELETE, "optimizers": ["sft"]},
        "'sage' has no section, and ablations change its",
    ),
    "ablations with nothing beside them": (
        {"ablation_datasets": ["ml-100k"], "optimizers": ["sft"]},
        "optimizers: 'sage' is none of the optimizers, and ablations are measured by it",
    ),
    "ablation on no data set": (
        {"ablation_datasets": ["ml-10k"]},
        "ablation_datasets: 'ml-10k' is none of the datasets",
    ),
    "second round without a first": ({"second_round": ["ppo"]}, "second_round: 'ppo' is none of the optimizers"),
    "second round without a step": ({"second_round": ["sft"]}, "second_round: 'sft' is none of the optimizers that"),
    "ablation named as a round": ({"ablations.sage_round2": {"beta": 0.0}}, "ablations: 'sage_round2' is the name of"),
    "ablation named as an SFT": ({"ablations.warmup_sage": {"beta": 0.0}}, "ablations: 'warmup_sage' is the name of"),
    "optimizer": ({"optimizers": ["sft", "sgae"]}, "optimizers: 'sgae' is none of .*grpo, gspo.*did you mean 'sage'"),
    "baseline": ({"baselines": ["populraity"]}, "baselines: 'populraity' .*did you mean 'popularity'"),
    "baseline that learns": (
        {"sequential_baselines": ["sasrek"]},
        "sequential_baselines: 'sasrek' .*did you mean 'sasrec'",
    ),
    "baseline without its section": (
        {"sasrec": DELETE},
        "sequential_baselines: 'sasrec' has no section; add 'sasrec:'",
    ),
    "baseline on another's axis": (
        {"generative_baselines": ["rearec"]},
        "generative_baselines: 'rearec' is none of generative_baselines; it stands on sequential_baselines, and "
        "stages/sequential.py runs it",
    ),
    "baseline that learns among those that count": (
        {"baselines": ["sasrec"]},
        "baselines: 'sasrec' is none of baselines; it stands on sequential_baselines",
    ),
    "heads that do not divide": ({"sasrec.heads": 3}, "sasrec: hidden 64 is no multiple of heads 3"),
    "loss": ({"sasrec.loss": "cee"}, "sasrec.loss: .*'ce', 'bce' or 'sampled'"),
    "samples missing": ({"sasrec.loss": "sampled"}, r"sasrec: samples: loss sampled needs a number"),
    "samples idle": ({"sasrec_bce.samples": 10}, r"sasrec_bce: samples: .*the others have none \(null\)"),
    "variant": ({"rearec.variant": "elr"}, "rearec.variant: .*'erl' or 'prl'"),
    "annealing that sharpens backwards": ({"rearec.annealing": 0.5}, "rearec.annealing: .*greater than or equal to 1"),
    "action space": ({"action_spaces": ["semantic-id"]}, "action_spaces: 'semantic-id' .*did you mean 'semantic_id'"),
    "data set": ({"datasets": ["ml-10k"]}, "datasets: 'ml-10k' is none of the keys of corpora.*did you mean 'ml-100k'"),
    "backbone": ({"backbone": "tony"}, "backbone: 'tony' is none of the keys of backbones: .*did you mean 'tiny'"),
    "source": (
        {"corpora.ml-100k.source": "movielense"},
        "corpora.ml-100k.source: 'movielense' .*amazon, local, movielens",
    ),
    "no model from scratch": (
        {"backbones.tiny.architecture": None},
        "backbones.tiny: architecture: source scratch needs",
    ),
    "a model from scratch with a name": ({"backbones.tiny.name": "x"}, "backbones.tiny: name: source scratch has none"),
    "adapters on nothing": (
        {"backbones.tiny.lora": {"r": 4, "alpha": 8.0, "targets": ["q_proj"]}},
        "backbones.tiny: lora: adapters to weights drawn at random",
    ),
    "weights that are trained": ({"backbones.tiny.weights": "bf16"}, "backbones.tiny: weights: bf16 is for frozen"),
    "hub without revision": ({"backbones.qwen3-8b.revision": None}, "backbones.qwen3-8b: revision: source hub needs"),
    "hub with a branch": ({"backbones.qwen3-8b.revision": "main"}, "backbones.qwen3-8b: revision: 'main' is no commit"),
    "what backbones share": (
        {"backbones.tiny.spaces.text.rl.slate_length": 5},
        "backbones.tiny.spaces.text.rl: slate_length is the same for all backbones.*set rl.slate_length",
    ),
    "retriever": (
        {"text.retrievers": {"sasrec": 1.0}},
        "text.retrievers: 'sasrec' is none of .*knn, popularity, trans",
    ),
    "shares of retrievers": ({"text.retrievers.transitions": 0.5}, "text: retrievers: the shares have to be 1 .* 0.5"),
    "pool smaller than a slate": ({"text.pool_size": 9}, "text.pool_size 9 is less than rl.slate_length 10"),
    "pool of a task, likewise": ({"text.tasks.pool_size": 9}, "text.tasks.pool_size 9 is less than rl.slate_length 10"),
    "prompt of a task": (
        {"text.policy.tasks.label_cond": "{history}\n{pool}\n"},
        r"text.policy.tasks.label_cond: a prompt has {condition}, {history}, {pool} and at most {domain}",
    ),
    "official prompts without marks": (
        {"semantic_id.policy.prompts": "official"},
        "semantic_id.policy: .*set marks to",
    ),
    "axis empty": ({"optimizers": []}, "optimizers: .*at least 1 item"),
    "axis no list": ({"datasets": "ml-100k"}, "datasets: .*valid list.*'ml-100k'"),
    "axis twice": ({"optimizers": ["sage", "sage"]}, "optimizers: .*names one value twice"),
    "seed negative": ({"seeds": [-1]}, "seeds.0: .*greater than or equal to 0"),
    "name as path": ({"datasets": ["../x"]}, "datasets.0: .*pattern"),
    "objective": (
        {"corpora.ml-100k.objectives.liek": 1.0},
        r"corpora.ml-100k.objectives: 'liek' is no key of feedback \(click, like\)",
    ),
    "objectives without a weight": (
        {"corpora.ml-100k.objectives": {"click": 0.0}},
        "corpora.ml-100k.objectives: nothing has a weight",
    ),
    "threshold without its rule": (
        {"corpora.ml-100k.feedback.click.threshold": 4.0},
        "corpora.ml-100k.feedback.click: column and threshold have no effect with rule any",
    ),
    "no objective": (
        {"corpora.ml-100k.objectives": {}},
        "corpora.ml-100k.objectives: nothing has a weight.*click",
    ),
    "rule incomplete": (
        {"corpora.ml-100k.feedback.like.threshold": DELETE},
        "corpora.ml-100k.feedback.like: rule at_least needs column and threshold",
    ),
    "beam too narrow": ({"recommend.beam_width": 5}, "recommend: beam_width 5 is less than list_length 10"),
    "belief in fewer items than a slate has": (
        {"rewards.source": "belief", "rewards.beam_width": 9},
        "rewards.beam_width 9 is less than rl.slate_length 10",
    ),
    "horizon beyond what is held back": (
        {"rl.horizon": 11},
        "rl.horizon 11 is more than sft.holdback 10",
    ),
    "heads": (
        {"backbones.tiny.architecture.heads": 3},
        "backbones.tiny.architecture: hidden_size 128 is no multiple of heads 3",
    ),
}


@pytest.mark.parametrize(("changes", "message"), FAULTS.values(), ids=FAULTS)
def test_fault(load, changes, message):
    with pytest.raises(InputError) as raised:
        load(changes)
    assert re.search(f"^params.yaml: .*{message}", str(raised.value)), raised.value
    assert ": :" not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_horizon_of_all_that_is_held_back(load):
    assert load({"rl.horizon": 10}).rl.horizon == 10


def test_all_faults_of_a_section_at_once(load):
    with pytest.raises(InputError, match=r"rl\.kl: .*; rl\.horizon: |rl\.horizon: .*; rl\.kl: "):
        load({"rl.kl": -1, "rl.horizon": 0})


def test_numbers_that_yaml_reads_as_text(load):
    assert yaml.safe_load("5e-6") == "5e-6"
    settings = load({"sage.lr": "5e-6", "backbones.tiny.sft_lr": "1e-3", "sage.eps_boost": 1})
    assert settings.own["sage"].lr == 5e-6
    assert settings.backbone.sft_lr == 1e-3
    assert isinstance(settings.own["sage"].eps_boost, float)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file; run stages from the repository's root"),
        (b"sage: [1,\nrl: {", "not valid YAML"),
        (b"\xff\xfe\x00s", "not valid YAML"),
        (b"", "has to be a mapping of sections"),
        (b"- sage", "has to be a mapping of sections"),
    ],
)
def test_unreadable_file(tmp_path, content, message):
    path = tmp_path / "params.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message) as raised:
        params.load(path)
    assert "\n" not in str(raised.value)


def test_data_set_of_the_command_line(load):
    with pytest.raises(
        InputError, match=r"--dataset: 'ml-10k' is none of the keys of corpora: .*did you mean 'ml-100k'"
    ):
        load({}).corpus("ml-10k")


def test_settings_are_frozen(load):
    with pytest.raises(ValueError, match="frozen"):
        load({}).rl.kl = 0.0


def test_modules_that_can_be_chosen():
    known = {"bapo", "dapo", "gbpo", "gdpo", "grpo", "gspo", "ppo", "sage", "sft"}
    assert known <= set(params.modules("objectives"))
    assert "terms" not in params.modules("objectives")
    assert "semantic_id" in params.modules("action_spaces")
    assert not {"base", "trie"} & set(params.modules("action_spaces"))
    assert params.modules("corpus") == ["amazon", "local", "movielens", "recif", "recif_fixture"]


def test_a_stage_stops_before_its_work(project, python):
    text = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(text.replace("eps_boost: 0.3", "eps_boost: lots", 1))
    before = sorted(project.iterdir())
    done = python("-B", "-m", "stages.download", "--dataset", "ml-100k")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert re.search("error: params.yaml: sage.eps_boost: .*'lots'", done.stderr)
    assert done.stdout == ""
    assert sorted(project.iterdir()) == before


SHOW_HELP = """
import runpy, sys
sys.argv = [sys.argv[1], "--help"]
for verb in {verbs}:
    try:
        runpy.run_module("stages." + verb, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        assert end.code == 0, verb
"""


def test_help_of_every_stage(python):
    done = python("-c", SHOW_HELP.format(verbs=VERBS), "stage")
    assert done.returncode == 0, done.stderr
    usages = re.findall(r"usage: python -m stages\.(\w+) \[-h\]", done.stdout)
    assert usages == VERBS


def test_a_backbone_has_its_own_values_on_an_action_space(load):
    """Keys of `sft`, `rl` and `policy` that differ there; the others and the other space stay."""
    own = {"sft": {"epochs": 3, "label": "slate"}, "rl": {"contexts": 9}, "policy": {"max_tokens": 99}}
    settings = load({"backbones.tiny.spaces.text": own})
    text, ids = settings.on("text"), settings.on("semantic_id")
    assert (text.sft.epochs, text.sft.label, text.rl.contexts, text.policy.max_tokens) == (3, "slate", 9, 99)
    assert text.sft.model_copy(update={"epochs": settings.sft.epochs, "label": settings.sft.label}) == settings.sft
    assert text.policy.window_days == settings.text.policy.window_days
    assert (ids.sft, ids.rl, ids.policy) == (settings.sft, settings.rl, settings.semantic_id.policy)


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"sft": {"epochz": 3}}, r"backbones\.tiny\.spaces\.text\.sft\.epochz: unknown key; did you mean 'epochs'"),
        ({"rl": {"contexts": 0}}, r"backbones\.tiny\.spaces\.text\.rl\.contexts: .*greater than or equal to 1"),
        ({"policy": {"loss": "ful"}}, r"backbones\.tiny\.spaces\.text\.policy\.loss: .*'full' or 'constrained'"),
        ({"rl": {"horizon": 50}}, r"with backbones\.tiny\.spaces\.text, rl\.horizon 50 is more than sft\.holdback 10"),
    ],
)
def test_a_backbones_own_values_are_checked(load, own, message):
    with pytest.raises(InputError, match=message):
        load({"backbones.tiny.spaces.text": {"sft": {}, "rl": {}, "policy": {}, **own}})
