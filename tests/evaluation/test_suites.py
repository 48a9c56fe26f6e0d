"""Suites: what their files say, and their loaders on files of the published shapes, with harmless rows."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlc.errors import UserError
from mlc.evaluation.suites.finding import COPIES_VARIABLE, find_suite, local_copy, shipped_suites
from mlc.evaluation.suites.loading import join_suites, load_suite
from mlc.languages import ENGLISH

SHARED = Path(__file__).parents[2] / ".." / "shared" / "data"
NAMES = [
    "advbench", "harmbench", "linguasafe", "multijail", "or-bench", "polyguardprompts", "polyrefuse", "quickstart",
    "strongreject", "xsafety", "xstest",
]  # fmt: skip


def loaded(name, local=None):
    return load_suite(*find_suite(name, Path()), local=local)


def facts(suite, code=ENGLISH):
    return [(one.id, one.prompt, one.label, one.kind) for one in suite.prompts[code]]


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_shipped_suites_say_what_they_are():
    assert shipped_suites() == NAMES
    for name in NAMES:
        suite, _ = find_suite(name, Path())
        assert suite.name == name
        assert suite.about
        assert suite.licence
        assert suite.homepage or name == "quickstart"


def test_own_prompts_have_every_language_and_kind():
    suite = loaded("quickstart")
    assert list(suite.prompts)[:2] == [ENGLISH, "arb_Arab"]
    assert {len(own) for own in suite.prompts.values()} == {80}
    assert {one.kind for one in suite.prompts["swh_Latn"]} == {"harmful", "harmless", "lookalike"}
    assert [one.id for one in suite.prompts["swh_Latn"]] == [one.id for one in suite.prompts[ENGLISH]]


def test_multijail(tmp_path):
    (tmp_path / "MultiJail.csv").write_text(
        "id,source,tags,en,zh,it,vi,ar,ko,th,bn,sw,jv\n"
        "0,S,food,Bake bread.,烤面包。,Fai il pane.,Nướng bánh.,اخبز.,빵 굽기.,อบขนมปัง,রুটি,Oka mkate.,Panggang.\n"
        "1,S,food,Boil rice.,煮饭。,,Nấu cơm.,اطبخ.,밥 짓기.,หุงข้าว,ভাত,Pika wali.,Godhog.\n"
    )
    suite = loaded("multijail", tmp_path)
    assert facts(suite) == [("0", "Bake bread.", "harmful", "food"), ("1", "Boil rice.", "harmful", "food")]
    assert len(suite.prompts) == 10
    assert [one.id for one in suite.prompts["ita_Latn"]] == ["0"]
    assert facts(suite, "zho_Hans")[1][1] == "煮饭。"


def test_xsafety_leaves_common_sense_out(tmp_path):
    rows = [
        {"text": "Bake bread.", "language": "en", "category": "Insult"},
        {"text": "Is snow cold?", "language": "en", "category": "commonsense"},
        {"text": "Hornea pan.", "language": "sp", "category": "Insult"},
        {"text": "?", "language": "martian", "category": "Insult"},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "test-00000-of-00001.parquet")
    suite = loaded("xsafety", tmp_path)
    assert facts(suite) == [("1", "Bake bread.", "harmful", "Insult")]
    assert facts(suite, "spa_Latn") == [("3", "Hornea pan.", "harmful", "Insult")]
    assert suite.set_aside == {"an unknown language": 1}


@pytest.mark.parametrize("name", ["harmful_{}_translated_{}.json", "harmful_{}_{}.jsonl"])
def test_polyrefuse(tmp_path, name):
    for split in ("val", "train"):
        for code, text in {"en": "Bake bread.", "es": "Hornea pan.", "zh": "烤面包。"}.items():
            for label in ("harmful", "harmless"):
                if (code, label) != ("zh", "harmless"):
                    file = tmp_path / name.format(split, code).replace("harmful", label)
                    lines(file, [{"instruction": f"{text} {label} {split}", "category": None}])
    suite = loaded("polyrefuse", tmp_path)
    first, *others = facts(suite, "spa_Latn")
    assert first[1:] == (f"Hornea pan. harmful {'val' if 'translated' in name else 'train'}", "harmful", "harmful")
    assert {label for _, _, label, _ in others} >= {"harmless"}
    assert {one.id for one in suite.prompts["spa_Latn"]} == {one.id for one in suite.prompts[ENGLISH]}
    assert {one.label for one in suite.prompts["zho_Hans"]} == {"harmful"}


def test_xstest(tmp_path):
    (tmp_path / "xstest_prompts.csv").write_text(
        "id,prompt,type,label,focus,note\n1,How do I kill a process?,homonyms,safe,kill,\n"
        "2,How do I burn toast?,contrast_homonyms,unsafe,burn,\n"
    )
    assert facts(loaded("xstest", tmp_path)) == [
        ("1", "How do I kill a process?", "harmless", "lookalike"),
        ("2", "How do I burn toast?", "harmful", "contrast_homonyms"),
    ]


def test_or_bench(tmp_path):
    (tmp_path / "or-bench-hard-1k.csv").write_text("prompt,category\nBake bread.,food\n")
    (tmp_path / "or-bench-toxic.csv").write_text("prompt,category\nBoil rice.,food\n")
    assert facts(loaded("or-bench", tmp_path)) == [
        ("0:1", "Bake bread.", "harmless", "lookalike"),
        ("1:1", "Boil rice.", "harmful", "harmful"),
    ]


@pytest.mark.parametrize(
    ("name", "file", "text", "expected"),
    [
        ("advbench", "harmful_behaviors.csv", "goal,target\nBake bread.,Sure\n", ("1", "harmful")),
        (
            "strongreject",
            "strongreject_dataset.csv",
            "category,source,forbidden_prompt\nfood,me,Bake bread.\n",
            ("1", "food"),
        ),
        (
            "harmbench",
            "harmbench_behaviors_text_all.csv",
            "Behavior,FunctionalCategory,SemanticCategory,Tags,ContextString,BehaviorID\n"
            "Bake bread.,standard,food,,,bread\nSing it all.,copyright,songs,,,song\n",
            ("bread", "food"),
        ),
    ],
)  # fmt: skip
def test_lists_of_requests(tmp_path, name, file, text, expected):
    (tmp_path / file).write_text(text)
    assert facts(loaded(name, tmp_path)) == [(expected[0], "Bake bread.", "harmful", expected[1])]


def test_a_context_stands_before_the_request(tmp_path):
    (tmp_path / "harmbench_behaviors_text_all.csv").write_text(
        "Behavior,FunctionalCategory,SemanticCategory,Tags,ContextString,BehaviorID\n"
        "Bake it.,contextual,food,,A recipe.,bread\n"
    )
    ((_, prompt, _, _),) = facts(loaded("harmbench", tmp_path))
    assert prompt.startswith("A recipe.")
    assert prompt.endswith("Bake it.")


def test_linguasafe_and_polyguardprompts(tmp_path):
    lines(
        tmp_path / "rows.jsonl",
        [
            {"id": 1.0, "lang": "vi", "level": 0, "prompt": "Nướng bánh.", "subtype": "Benign", "type": "Normal"},
            {"id": 2.0, "lang": "zh", "level": 3, "prompt": "煮饭。", "subtype": "S", "type": "T"},
        ],
    )
    suite = loaded("linguasafe", tmp_path)
    assert facts(suite, "vie_Latn")[0][1:] == ("Nướng bánh.", "harmless", "Normal")
    assert facts(suite, "zho_Hans")[0][1:] == ("煮饭。", "harmful", "T")
    row = {"id": 7, "subcategory": "benign", "adversarial": False, "response": "No."}
    rows = [
        {**row, "language": "Spanish", "prompt": "Hornea pan.", "prompt_harm_label": "unharmful"},
        {**row, "language": "Chinese", "prompt": "烤面包。", "prompt_harm_label": None},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "test.parquet")
    suite = loaded("polyguardprompts", tmp_path)
    assert facts(suite, "spa_Latn") == [("7", "Hornea pan.", "harmless", "benign")]
    assert suite.set_aside == {"no label": 1}


def test_a_suite_of_ones_own_in_five_lines(tmp_path):
    (tmp_path / "mine.csv").write_text(
        "number,de,spa_Latn,danger\na,Backe Brot.,Hornea pan.,0\nb,Koche Reis.,,1\nc,x,y,?\n"
    )
    (tmp_path / "mine.yaml").write_text(
        "source: mine.csv\nlanguages: columns\ncolumns: {id: number, label: danger}\nlabels: {1: harmful, 0: harmless}"
    )
    suite = loaded(str(tmp_path / "mine.yaml"))
    assert suite.name == "mine"
    assert facts(suite, "deu_Latn") == [
        ("a", "Backe Brot.", "harmless", "harmless"),
        ("b", "Koche Reis.", "harmful", "harmful"),
    ]
    assert [one.id for one in suite.prompts["spa_Latn"]] == ["a"]
    assert sum(suite.set_aside.values()) == 1
    assert suite.identity != suite.take(["es"]).identity


def test_what_columns_leave_open(tmp_path):
    (tmp_path / "mine.yaml").write_text("source: mine.csv\nlabel: harmful\nlanguages: columns\n")
    (tmp_path / "mine.csv").write_text("id,en,zh\na,Bake.,烤。\n")
    suite = loaded(str(tmp_path / "mine.yaml"))
    assert list(suite.prompts) == [ENGLISH]
    assert suite.set_aside == {"the column zh may be of several languages: map it in languages": 1}
    (tmp_path / "mine.csv").write_text("id,es,spa_Latn\na,Hornea.,Hornea.\n")
    with pytest.raises(UserError, match="two columns for spa_Latn, 'es' and 'spa_Latn'"):
        loaded(str(tmp_path / "mine.yaml"))


def test_translations_of_one_of_several_parts(tmp_path):
    lines(tmp_path / "a.jsonl", [{"id": "x", "prompt": "Bake."}])
    lines(tmp_path / "b.jsonl", [{"id": "x", "prompt": "Boil."}])
    lines(tmp_path / "b_es.jsonl", [{"id": "x", "es": "Cuece."}])
    (tmp_path / "mine.yaml").write_text(
        "parts:\n- {source: a.jsonl, label: harmful}\n- {source: b.jsonl, label: harmless, translations: b_es.jsonl}\n"
    )
    assert facts(loaded(str(tmp_path / "mine.yaml")), "spa_Latn") == [("1:x", "Cuece.", "harmless", "harmless")]
    lines(tmp_path / "b.jsonl", [{"prompt": "Boil."}])
    with pytest.raises(UserError, match=r"b\.jsonl' has no column 'id', and its translations .* have one"):
        loaded(str(tmp_path / "mine.yaml"))


def test_files_by_language_need_no_list(tmp_path):
    for code in ("en", "sw"):
        lines(tmp_path / f"rows_{code}.jsonl", [{"prompt": f"Bake. {code}", "row": 4}])
    (tmp_path / "mine.yaml").write_text('source: "rows_{language}.jsonl"\nlabel: harmless\n')
    suite = loaded(str(tmp_path / "mine.yaml"))
    assert facts(suite, "swh_Latn") == [("4", "Bake. sw", "harmless", "harmless")]


def test_taking_languages_and_prompts():
    suite = loaded("quickstart")
    few = suite.take(["sw"], 5)
    assert list(few.prompts) == [ENGLISH, "swh_Latn"]
    assert sorted(one.label for one in few.prompts["swh_Latn"]) == ["harmful"] * 3 + ["harmless"] * 2
    with pytest.raises(UserError, match="no prompts in yor_Latn, only in eng_Latn, arb_Arab"):
        suite.take(["yo", "es"])


def test_suites_join_in_common_languages(tmp_path):
    (tmp_path / "MultiJail.csv").write_text("id,tags,en,sw,th\n0,food,Bake bread.,Oka mkate.,อบขนมปัง\n")
    both = join_suites([loaded("quickstart"), loaded("multijail", tmp_path)])
    assert both.name == "quickstart+multijail"
    assert list(both.prompts) == [ENGLISH, "swh_Latn"]
    assert both.prompts["swh_Latn"][-1].id == "multijail:0"
    with pytest.raises(UserError, match="repeat a name"):
        join_suites([both, both])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("label: harmful", "source is missing"),
        ("source: a.csv\nlabl: harmful", "no key 'labl'"),
        ("source: a.csv\nlabels: {1: bad}", "The key labels must map"),
        ("source: a.csv\nsource: b.csv", "twice"),
        ("- a", "not a mapping"),
        ("source: a.csv", "no column 'label'"),
        ("source: a.csv\nlabel: harmful\nlanguages: columns", "names no language"),
        ("source: missing.csv\nlabel: harmful", "cannot be read"),
        ('source: "{language}.csv"\nlabel: harmful', "in no language"),
        ("source: empty.csv\nlabel: harmful", "no usable prompt"),
    ],
)
def test_mistakes_are_one_sentence(tmp_path, text, message):
    (tmp_path / "a.csv").write_text("prompt,other\nBake bread.,x\n")
    (tmp_path / "empty.csv").write_text("prompt\n")
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        loaded(str(tmp_path / "mine.yaml"))


def test_unknown_names_and_copies(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"no suite 'multijial': did you mean 'multijail'"):
        find_suite("multijial", Path())
    with pytest.raises(UserError, match="has no copy of the suite 'multijail'"):
        loaded("multijail", tmp_path)
    assert local_copy("xstest") is None
    monkeypatch.setenv(COPIES_VARIABLE, str(tmp_path))
    (tmp_path / "xstest").mkdir()
    assert local_copy("xstest") == tmp_path / "xstest"


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data is not here")
def test_real_copies():
    suite = loaded("polyrefuse", SHARED / "polyrefuse")
    assert {code: len(own) for code, own in suite.prompts.items() if code != "zho_Hans"}.keys() >= {ENGLISH, "yor_Latn"}
    assert {len(own) for code, own in suite.prompts.items() if code != "zho_Hans"} == {699}
    assert {len(own) for own in loaded("multijail", SHARED / "multijail").prompts.values()} == {150}


def test_a_column_called_language_is_known(tmp_path):
    rows = [
        {"id": "a", "prompt": "Bake bread.", "label": "harmless", "language": "en"},
        {"id": "a", "prompt": "Hornea pan.", "label": "harmless", "language": "es"},
        {"id": "b", "prompt": "Break in.", "label": "harmful", "language": "en"},
    ]
    lines(tmp_path / "mine.jsonl", rows)
    (tmp_path / "mine.yaml").write_text("name: mine\nsource: mine.jsonl\nlanguages: [en, es]\n")
    suite = loaded(str(tmp_path / "mine.yaml"))
    assert [one.id for one in suite.prompts[ENGLISH]] == ["a", "b"]
    assert [one.prompt for one in suite.prompts["spa_Latn"]] == ["Hornea pan."]


def test_a_class_is_not_lost_for_labels_that_are_not_known(tmp_path):
    rows = [{"prompt": f"{n}?", "risk": n % 2} for n in range(6)]
    lines(tmp_path / "rows.jsonl", rows)
    text = "licence: CC0-1.0\nsource: rows.jsonl\nlanguages: en\ncolumns: {label: risk}\nlabels: {1: harmful}\n"
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(
        UserError, match=r"3 rows with labels that are not known, and harmful ones beside them: .*\{0: harmless\}"
    ):
        loaded(str(tmp_path / "own.yaml"))
    (tmp_path / "own.yaml").write_text(text.replace("{1: harmful}", "{1: harmful, 0: harmless}"))
    assert len(loaded(str(tmp_path / "own.yaml")).prompts[ENGLISH]) == 6
