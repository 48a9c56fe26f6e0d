"""Configurations: the shipped ones, what a person may write, and what is refused."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

from flows.commands.plan import foresee
from flows.configuration.overrides import combine_languages, parse_overrides
from flows.configuration.reading import load_config, validate_config
from flows.places import shipped_configs
from mlc.errors import UserError
from mlc.methods import resolve_method
from mlc.models.sources import resolve_model

PAPER_LANGUAGES = {"zho_Hans", "rus_Cyrl", "jpn_Jpan", "arb_Arab", "ben_Beng", "swh_Latn", "urd_Arab", "pbt_Arab"}


def test_shipped_configurations_load() -> None:
    for_real = [
        "7b-full",
        "llama-3.2-1b",
        "nllb",
        "quickstart",
        "qwen-0.5b-cpu",
        "qwen2.5-1.5b",
        "qwen2.5-7b",
        "smoke",
        "study",
        "study-qwen",
    ]
    assert shipped_configs() == for_real
    for name in shipped_configs():
        config = load_config(name)
        assert config.name == name
        assert config.align.consistency.form == "cosine"
    assert load_config("quickstart").languages == ("deu_Latn", "fra_Latn", "spa_Latn", "swh_Latn")


def test_nllb_is_where_a_team_would_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = load_config("nllb")
    assert set(config.languages) >= PAPER_LANGUAGES
    assert len(config.languages) == 10
    assert config.translator.model == "facebook/nllb-200-distilled-600M"
    assert config.policy.model == "Qwen/Qwen2.5-7B-Instruct"
    # Without a hub, both are known by a pinned commit; without a pin, the error names the ways to provide a model.
    commit = "0123456789abcdef0123456789abcdef01234567"
    for model in (config.translator.model, config.policy.model):
        assert resolve_model(model, revision=commit).identity == f"hub:{model}@{commit}"


def test_openings_of_training_and_evaluation_are_apart() -> None:
    load_config("smoke", overrides={"models": ["english-only", "answer", "decision"]})
    mixed = {"models": ["english-only", "answer"], "align.answer.refusal_openings": ["I can't help"]}
    with pytest.raises(UserError, match="'answer' trains on the opening \"I can't help\", and the evaluation measures"):
        load_config("smoke", overrides=mixed)


def test_the_table_of_settings_tells_what_methods_read() -> None:
    told = load_config("smoke", overrides={"models": ["english-only", "answer", "translated-sft"]}).summary()
    assert told["answer weight"] == "1"
    assert told["answer openings"].startswith("'I cannot assist', ")
    assert told["translated examples"] == "a share of 0.5"
    assert "decision weight" not in told
    both = load_config(
        "smoke", overrides={"models": ["english-only", "decision"], "align.decision.weight": 0.5}
    ).summary()
    assert both["decision weight"] == "0.5"
    assert both["decision difference"] == "huber, 1"


def test_weights_of_languages_are_checked_in_every_term() -> None:
    given = {"align.answer.language_weights": {"Spanish": 2.0}}
    assert load_config("smoke", overrides=given).align.answer.language_weights == {"spa_Latn": 2.0}
    with pytest.raises(UserError, match=r"swh_Latn has a weight in align\.decision\.language_weights"):
        load_config("smoke", overrides={"align.decision.language_weights": {"sw": 2.0}})
    with pytest.raises(UserError, match=r"align\.answer\.language_weights of 0 for eng_Latn leave nothing to compare"):
        load_config("smoke", overrides={"align.answer.language_weights": {"en": 0}})


def test_one_line_gives_the_published_form() -> None:
    term = load_config("quickstart", overrides={"align.consistency.form": "released"}).align.consistency
    assert (term.form, term.anchor, term.center, term.layer, term.dim) == ("released", "none", "none", -1, 512)


def test_own_file_names_files_beside_it(tmp_path: Path) -> None:
    (tmp_path / "prompts.csv").write_text("prompt,chosen\nHello,Hi\n", encoding="utf-8")
    own = tmp_path / "own.yaml"
    own.write_text("name: own\nprompts: {path: prompts.csv}\nlanguages: [Swahili, yo]\n", encoding="utf-8")
    config = load_config(str(own))
    assert config.prompts.path == str(tmp_path / "prompts.csv")
    assert config.languages == ("swh_Latn", "yor_Latn")
    assert config.evaluation.test.startswith("shipped:")


@pytest.mark.parametrize(
    ("configured", "wanted", "expected"),
    [
        (["es", "fr"], ["sw"], ["sw"]),
        (["es", "fr"], ["sw,de"], ["sw", "de"]),
        (["es", "fr"], ["sw", "de"], ["sw", "de"]),
        (["es", "fr"], ["+sw"], ["spa_Latn", "fra_Latn", "swh_Latn"]),
        (["es", "fr"], ["+sw,-es"], ["fra_Latn", "swh_Latn"]),
        (["es", "fr"], ["+es"], ["spa_Latn", "fra_Latn"]),
    ],
)
def test_languages_are_replaced_or_changed(configured: list[str], wanted: list[str], expected: list[str]) -> None:
    assert combine_languages(configured, wanted) == expected


@pytest.mark.parametrize(
    ("configured", "wanted", "word"), [(["es"], ["sw,+fr"], "mix"), (["es"], ["-sw"], "sw"), (["es"], ["-es"], "left")]
)
def test_languages_that_make_no_sense(configured: list[str], wanted: list[str], word: str) -> None:
    with pytest.raises(UserError, match=word):
        combine_languages(configured, wanted)


def test_overrides_are_yaml() -> None:
    assert parse_overrides(["a.b=1", "c=[x, y]", "d=null", "e=a=b"]) == {
        "a.b": 1,
        "c": ["x", "y"],
        "d": None,
        "e": "a=b",
    }


def test_every_unknown_key_is_an_error_that_names_a_near_one() -> None:
    values = {"name": "x", "prompts": {"path": "p.jsonl"}, "languages": ["es"]}
    for section, wrong, right in (
        (None, "qualty", "quality"),
        ("align", "learning_rates", "align.learning_rate"),
        ("translator", "beams", "translator.num_beams"),
    ):
        changed = {**values, **({wrong: 1} if section is None else {section: {wrong: 1}})}
        with pytest.raises(UserError, match="unknown") as caught:
            validate_config(changed)
        assert f"'{right}'" in str(caught.value)


GATE = [{"figure": "unsure", "at_most": 0.1}]


@pytest.mark.parametrize(
    ("gate", "words"),
    [
        ({"conditions": [{"figur": "unsure", "at_most": 0.1}]}, "lacks 'gate.conditions.0.figure'"),
        ({"conditions": [*GATE, {"figure": "unsure", "at_mos": 0.1}]}, r"did you mean 'gate.conditions.1.at_most'\?"),
        ({"conditions": [{"figure": "safty", "at_most": 0.1}]}, "'gate.conditions.0.figure' has the value 'safty'"),
        ({"conditions": [{"figure": "unsure"}]}, "must have one bound"),
        ({"conditions": GATE, "nam": 1}, "did you mean 'gate.name'"),
        ({"min_safety": 0.5}, "lacks 'gate.conditions'"),
        ("severe", "no gate policy 'severe': give a YAML file, or one of margins, quickstart, strict"),
        (7, "'gate' has the value 7"),
    ],
)
def test_a_gate_that_is_wrong_is_told(gate: object, words: str) -> None:
    with pytest.raises(UserError, match=words):
        load_config("smoke", overrides={"gate": gate})


def test_the_gate_by_name_file_and_mapping(tmp_path: Path) -> None:
    assert load_config("smoke").gate.name == "quickstart"
    assert load_config("nllb").gate.name == "strict"
    plain = {"name": "x", "prompts": {"path": "p.jsonl"}, "languages": ["es"]}
    assert validate_config(plain).gate.name == "strict"
    assert load_config("smoke", overrides={"gate": {"conditions": GATE}}).gate.name == "own"
    # Beside the configuration, wherever the command runs.
    (tmp_path / "ours.yaml").write_text("conditions: [{figure: unsure, at_most: 0.2}]", encoding="utf-8")
    (tmp_path / "mine.yaml").write_text(json.dumps({**plain, "gate": "ours.yaml"}), encoding="utf-8")
    found = load_config(str(tmp_path / "mine.yaml")).gate
    assert (found.name, found.conditions[0].at_most) == ("ours", 0.2)
    # What a run is given again is the same.
    config = load_config("smoke")
    assert validate_config(config.model_dump(mode="json")) == config


def test_the_gate_compares_with_models_that_are_made() -> None:
    against = {"conditions": [{"figure": "unsure", "at_most": 0.1, "against": "english-only"}]}
    assert load_config("smoke", overrides={"gate": against}).gate.conditions
    for models, words in ((["policy-edit"], "not among the models"), (["english-only"], "the candidate itself")):
        with pytest.raises(UserError, match=words):
            load_config("smoke", overrides={"gate": against, "models": models})


def test_a_gate_that_reads_answers_needs_some() -> None:
    with pytest.raises(UserError, match=r"'quickstart' reads answers, and evaluation\.answers is 0"):
        load_config("smoke", overrides={"evaluation.answers": 0})
    assert load_config("smoke", overrides={"evaluation.answers": 0, "gate": "margins"}).gate.name == "margins"


def test_a_gate_that_reads_own_thresholds_needs_them() -> None:
    gate = {"conditions": [{"figure": "selectivity_at_own_threshold", "at_least": 0.1}]}
    with pytest.raises(UserError, match=r"reads selectivity_at_own_threshold, and evaluation\.own_threshold is 0"):
        load_config("smoke", overrides={"gate": gate, "evaluation.own_threshold": 0})
    assert load_config("smoke", overrides={"gate": gate, "evaluation.own_threshold": 4}).gate.conditions


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"registry.model_name": name}, "'registry.model_name'")
        for name in ("it's", 'a"b', "../x", "a/b", "a:b", "", ".x", "x" * 251, "a`b", "[red]x[/]", "a\nb")
    ]
    + [({"registry.experiment": name}, "'registry.experiment'") for name in ("it's", "..", "a\nb", "")]
    + [
        (overrides, "finite number")
        for overrides in (
            {"align.learning_rate": float("inf")},
            {"align.consistency.weight": float("nan")},
            {"gate": {"conditions": [{"figure": "unsure", "at_most": float("nan")}]}},
            {"quality.default.length_z": float("-inf")},
            {"edit.gamma": float("inf")},
        )
    ]
    + [
        ({"name": "a\0b"}, "'name' has a text with NUL or half a letter"),
        ({"workspace": "a\ud800"}, "'workspace' has a text with NUL or half a letter"),
        ({"prompts.path": "x" * 300}, "'prompts.path' has a path with a name that is too long"),
        ({"workspace": "x/" * 3000}, "'workspace' has a path with a name that is too long"),
        ({"quality.languages": {"x" * 300: None}}, "has a key of 300 letters"),
        ({"seeds": [10**4000]}, r"'seeds\.0' has a number that is too large"),
    ],
)
def test_odd_values_are_refused_in_one_sentence(overrides: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        load_config("smoke", overrides=overrides)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("name", ["mlc", "My model-2.0", "modèle_é", "Σ"])
def test_names_of_models(name: str) -> None:
    assert load_config("smoke", overrides={"registry.model_name": name}).registry.model_name == name


@pytest.mark.parametrize("name", ["x" * 300, "~nobody-of-this-name/x.yaml", "x/" * 3000, "[red]x[/]"])
def test_a_file_that_cannot_be_there(name: str) -> None:
    with pytest.raises(UserError, match="There is no configuration"):
        load_config(name)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"1: 2\n", r"The configuration has the key 1, which is no text"),
        (b"align.steps: 4\n", r"'align\.steps' is written as on the command line: write align: on a line of its own"),
        (b"name: \xe9\n", r"holds a byte that is not UTF-8 \(0xe9\): save it as UTF-8"),
        (b"name: x\n---\nname: y\n", r"holds two documents or more, the second at line 2: correct it"),
    ],
)
def test_what_yaml_lets_people_write(tmp_path: Path, text: bytes, told: str) -> None:
    (tmp_path / "own.yaml").write_bytes(text)
    with pytest.raises(UserError, match=told):
        load_config(str(tmp_path / "own.yaml"))


def test_missing_key_is_named() -> None:
    with pytest.raises(UserError, match=r"lacks 'prompts'"):
        validate_config({"name": "x", "languages": ["es"]})


def test_one_method_in_short_stands_for_what_it_needs() -> None:
    def chosen(**overrides: object) -> tuple[tuple[str, ...], str, str]:
        found = load_config("smoke", overrides=overrides)
        return found.models, found.roles.candidate, found.roles.baseline

    default = (("english-only", "consistency"), "consistency", "english-only")
    assert chosen() == chosen(method="consistency") == default
    assert chosen(method="edit") == (("english-only", "edit"), "edit", "english-only")
    both = ("english-only", "consistency", "consistency+edit")
    assert chosen(method="consistency+edit") == (both, "consistency+edit", "english-only")
    alone = (("policy-edit",), "policy-edit", "base")
    assert chosen(method="edit", **{"edit.start": "policy"}) == chosen(method="policy-edit") == alone
    assert chosen(models=["english-only"]) == (("english-only",), "english-only", "base")


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"models": ["english-only", "nothing-like"]}, r"'nothing-like' is unknown: .* or name an object of your own"),
        ({"models": ["english-only", "consistancy"]}, r"did you mean 'consistency'"),
        ({"models": ["consistency"]}, r"'consistency' is held against 'english-only': add that to models"),
        ({"models": ["english-only", "english-only"]}, r"'english-only' stands in models twice"),
        ({"candidate": "edit"}, r"The candidate 'edit' is not among the models: choose from english-only, consistency"),
        ({"method": "edit", "candidate": "edit"}, r"method stands for models and candidate"),
        ({"models": ["mlc.methods.edit:NOTHING"]}, r"cannot be loaded \(.*NOTHING"),
        ({"models": ["mlc.methods:BASE"]}, r"is no method but of the type str"),
        ({"models": ["mlc.methods.edit:EDIT"]}, r"calls itself 'edit', which is taken"),
        ({"models": ["nowhere_at_all:EDIT"]}, r"cannot be loaded \(No module named 'nowhere_at_all'\)"),
        ({"edit.start": "policy"}, r"'edit\.start' is unknown"),
    ],
)
def test_models_that_do_not_fit_together(overrides: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        load_config("smoke", overrides=overrides)


def test_the_summary_names_what_the_method_reads() -> None:
    edit = load_config("smoke", overrides={"method": "edit"}).summary()
    assert "edit rank" in edit
    assert "consistency form" not in edit
    assert "consistency form" in load_config("smoke").summary()
    assert "edit rank" not in load_config("smoke").summary()


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        (
            "languages=[fr, no]",
            '\'languages.1\' is false, which is how YAML reads no and off without quotes: write "no" or "off".',
        ),
        ("languages=[on]", 'reads yes and on without quotes: write "yes" or "on".'),
        ("prompts.parallel={no: x}", "'prompts.parallel.false' is false, which is how YAML reads no"),
        ("gate=no", "has the value false, which is how YAML reads no and off without quotes, but it must hold keys"),
        (
            "align.saved_dtype=off",
            "has the value false, which is how YAML reads no and off without quotes, but it must",
        ),
        (
            "align.steps=yes",
            "has the value true, which is how YAML reads yes and on without quotes, but it must be a w",
        ),
        ("align.learning_rate=on", "but it must be a number."),
        ("seeds=[0, yes]", "but it must be a whole number."),
        ("align.steps=1:30", "has the value '1:30', but it must be a whole number."),
        ("languages=[1:30]", "The language '1:30' is unknown"),
        ("workspace=null", "has the value null, but it must be a text."),
        ("seeds=0", "has the value 0, but it must be a list: write [0]."),
        ("languages=fr", "has the value 'fr', but it must be a list: write [fr]."),
        ("languages=[]", "has the value [], but it must have at least 1 in it, not 0."),
        ("align=3", "has the value 3, but it must hold keys with values."),
        ("align.steps=many", "but it must be a whole number."),
        ("align.learning_rate=-1", "but it must be greater than 0."),
        ("align.learning_rate=.inf", "but it must be a finite number."),
        ("policy.allow_pickle=maybe", "but it must be true or false."),
        ("evaluation.answers=x", "'evaluation.answers' has the value 'x', but it must be 'all' or a whole number."),
        (
            "evaluation.judges=[1]",
            "'evaluation.judges.0' has the value 1, but it must be a text or hold keys",
        ),
        ("prompts.limit=0", "but it must be at least 1."),
    ],
)
def test_what_a_value_must_be_is_told_in_plain_words(setting: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        load_config("smoke", overrides=parse_overrides([setting]))
    assert words in str(caught.value)
    for word in ("input", "valid", "instance", "literal", "tuple", "dictionary", "parse"):
        assert word not in str(caught.value)


def test_the_norway_problem_in_languages_that_are_added_to() -> None:
    with pytest.raises(UserError, match='write "no"'):
        load_config("smoke", languages=["+hin"], overrides={"languages": [False]})


@pytest.mark.parametrize(("name", "near"), [("smok", "smoke"), ("Quickstart", "quickstart")])
def test_a_mistyped_shipped_name_is_guessed(name: str, near: str) -> None:
    with pytest.raises(UserError, match=f"did you mean '{near}'"):
        load_config(name)


def test_an_adapter_is_registered_only_where_there_is_one() -> None:
    adapter = {"registry.weights": "adapter"}
    with pytest.raises(UserError, match=r"align\.adapter is none, so that there is no adapter"):
        load_config("smoke", overrides=adapter)
    with pytest.raises(UserError, match=r"'policy-edit' is made without training and has no adapter to register"):
        load_config("smoke", overrides={**adapter, "method": "policy-edit", "align.adapter": "lora"})
    config = load_config("smoke", overrides={**adapter, "align.adapter": {"r": 4, "use_dora": True}})
    assert config.summary()["adapter"] == "LoRA, rank 4, alpha 32, DoRA"
    assert "adapter" not in load_config("smoke").summary()


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"align.adapter": "qlora"}, "needs the package bitsandbytes"),
        ({"align.optim": "adamw_8bit"}, "needs the package bitsandbytes"),
        ({"policy.attention": "flash_attention_2"}, "needs the package flash-attn"),
        ({"runner": "dask"}, "runner: dask needs the package prefect-dask"),
        ({"runner": {"name": "ray", "address": "ray://head:10001"}}, "runner: ray needs the package prefect-ray"),
        ({"align.training_dtype": "float16"}, "float16 is for answering only"),
    ],
)
def test_what_is_not_installed_is_told_before_anything_is_done(
    overrides: dict[str, object], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = importlib.util.find_spec
    missing = ("bitsandbytes", "flash_attn", "prefect_dask", "prefect_ray")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in missing else there(name))
    with pytest.raises(UserError, match=words) as caught:
        load_config("smoke", overrides=overrides)
    assert "\n" not in str(caught.value)


def test_a_candidate_that_is_served_behind_a_gate_is_made_measured_and_registered_behind_it(tmp_path):
    given = {"workspace": str(tmp_path), "models": ["english-only", "consistency"], "languages": ["es"]}
    config = load_config("smoke", overrides={**given, "serve.gate": True})
    assert config.models == ("english-only", "consistency", "consistency+gate")
    assert (config.roles.candidate, config.roles.baseline) == ("consistency+gate", "english-only")
    assert validate_config(config.model_dump(mode="json")) == config
    tasks = [(outcome.stage, outcome.subject) for outcome in foresee(config).outcomes]
    assert ("gate", "consistency+gate · seed 0") in tasks
    assert [stage for stage, subject in tasks if subject == "consistency+gate · seed 0"].count("gated") == 2
    # What the model does without its gate is asked once.
    assert tasks.count(("generate", "consistency · seed 0")) == 2
    assert (
        load_config("smoke", overrides={**given, "candidate": "english-only", "serve.gate": True}).candidate == "gate"
    )


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (
            {"runner": "slurm"},
            "'runner' has the value 'slurm', but it must be 'threads', 'processes', 'dask' or 'ray'",
        ),
        ({"runner": {"address": "tcp://head:8786"}}, "threads have no address"),
        ({"runner": {"name": "dask", "address": "head"}}, "address must be like tcp://HOST:8786, not 'head'"),
        ({"runner": {"name": "dask", "address": "ray://head:1"}}, "address must be like tcp://HOST:8786"),
        ({"runner": {"name": "ray", "address": "tcp://head:1"}}, "address must be like ray://HOST:10001 or HOST:6379"),
        ({"runner": {"name": "dask", "address": "tcp://me:word@head:1"}}, "holds a secret"),
        ({"resources": {"aling": {"gpu": 1}}}, "names 'aling', which is no stage: did you mean 'align'?"),
        ({"resources": {"quux": {"gpu": 1}}}, "no stage: choose from ingest, "),
        ({"resources": {"align": {"gpu": 0}}}, "'resources.align.gpu' has the value 0, but it must be greater than 0"),
        ({"resources": {"align": 1}}, "'resources.align' has the value 1, but it must hold keys with values"),
    ],
)
def test_where_stages_are_computed_is_checked(
    overrides: dict[str, object], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = importlib.util.find_spec
    # Whether they are installed is another matter.
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: there("prefect" if "prefect_" in name else name))
    with pytest.raises(UserError, match=re.escape(words)):
        load_config("smoke", overrides=overrides)


def test_a_runner_may_be_a_word_or_have_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: there("prefect" if "prefect_" in name else name))
    assert load_config("smoke").runner.name == "threads"
    assert load_config("smoke", overrides={"runner": "processes"}).runner.name == "processes"
    for name, address in (("dask", "tcp://[::1]:8786"), ("dask", "10.0.0.1:8786"), ("ray", "ray://head:10001")):
        config = load_config("smoke", overrides={"runner": {"name": name, "address": address}})
        assert (config.runner.name, config.runner.address) == (name, address)
        assert validate_config(config.model_dump(mode="json")) == config


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("prompts.parallel", {"fr": "a.jsonl", "French": "b.jsonl"}),
        ("prompts.unpaired", {"fr": "a.jsonl", "fra_Latn": "b.jsonl"}),
        ("serve.refusals", {"fr": "Non.", "fra_Latn": "Jamais."}),
        ("align.consistency.language_weights", {"fr": 2, "fra_Latn": 3}),
    ],
)
def test_a_language_that_is_named_twice_is_refused(key: str, value: dict[str, object]) -> None:
    with pytest.raises(UserError, match=f"The key {key} names fra_Latn twice"):
        load_config("smoke", languages=["fr"], overrides={key: value})


ANCHORED_ELSEWHERE = {
    "anchor_language": "es",
    "evaluation.refusal_openings": ["No puedo ayudar"],
    "evaluation.compliance_openings": ["Claro, aquí tienes"],
    "models": ["english-only"],
    "gate": "margins",
}


def test_the_anchor_is_no_other_language_and_english_may_be_one() -> None:
    with pytest.raises(UserError, match=r"Spanish \(spa_Latn\) is the anchor language"):
        load_config("smoke", languages=["fr"], overrides={**ANCHORED_ELSEWHERE, "evaluation.languages": ["es"]})
    found = load_config("smoke", languages=["fr"], overrides={**ANCHORED_ELSEWHERE, "evaluation.languages": ["en"]})
    assert found.evaluation.languages == ("eng_Latn",)


def test_the_risk_of_languages_is_told_by_the_configured_openings() -> None:
    risky = {"models": ["english-only", "consistency-by-risk"]}
    own = {"align.decision.refusal_openings": ["I must refuse"]}
    config = load_config("smoke", overrides={**risky, **own})
    align = resolve_method("consistency-by-risk").alignment(config.align)
    assert align.terms.decision.refusal_openings == ("I must refuse",)
    # So they decide its training, and no other.
    assert "decision" not in align.unused
    assert "decision" in resolve_method("consistency").alignment(config.align).unused
    with pytest.raises(UserError, match=r"set align\.decision\.refusal_openings"):
        load_config("smoke", languages=["fr"], overrides={**ANCHORED_ELSEWHERE, **risky})


def test_a_word_that_is_nearly_one_is_asked_about(tmp_path):
    (tmp_path / "gate.yaml").write_text("conditions: [{figure: atack_success, at_most: 0.05}]", encoding="utf-8")
    with pytest.raises(UserError, match=r"did you mean 'attack_success'\?") as error:
        load_config("smoke", overrides={"gate": str(tmp_path / "gate.yaml")})
    assert "'gate.conditions.0.figure' has the value 'atack_success'" in str(error.value)
    with pytest.raises(UserError, match=r"'cosine', .*: did you mean 'cosine'\?"):
        load_config("smoke", overrides={"align.consistency.form": "cosin"})
    with pytest.raises(UserError, match=r"must be 'cosine', .* or 'paper'\.$"):
        load_config("smoke", overrides={"align.consistency.form": "zzzz"})
