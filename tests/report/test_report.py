import csv
import math
import re
import threading
from dataclasses import replace
from html.parser import HTMLParser

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from mlc.errors import UserError
from mlc.evaluation.comparison import Evaluations
from mlc.evaluation.metrics import summarise
from mlc.evaluation.results import Estimate, EvaluationResult, no_outcomes
from mlc.evaluation.skills import BITS, Skill
from mlc.languages import all_languages
from mlc.report import Gate, Input, TranslatorRow, render
from mlc.report.card import model_card
from mlc.report.data import MethodCost, Texts
from mlc.report.prompts import LONGEST_TEXT, SHOWN_ROWS
from mlc.report.verdict import verdict
from mlc.report.wording import chance, interval, language_name, number, signed

LABELS = {"base": "Base", "english-only": "English-only", "consistency": "Consistency"}
VOID = {"meta", "img", "br", "link", "input"}
FILES = {
    "report.html",
    "results.csv",
    "funnel.csv",
    "outcomes.csv",
    "auroc.png",
    "outcomes.png",
    "safety.png",
    "representation.png",
    "filter.png",
    "training.png",
}


class Strict(HTMLParser):
    """Fails on tags that do not nest, and gathers text and addresses."""

    def __init__(self):
        super().__init__()
        self.open, self.text, self.addresses, self.tags = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.text.append(data)


def read_page(folder):
    parser = Strict()
    source = (folder / "report.html").read_text(encoding="utf-8")
    parser.feed(source)
    parser.close()
    assert parser.open == []
    return parser, " ".join(" ".join(parser.text).replace("\u00a0", " ").split())


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def with_plots():
    """For a test that looks at the plots of a page of its own, or at how odd figures are drawn."""


@pytest.fixture(autouse=True)
def no_plots_that_nobody_looks_at(request, monkeypatch):
    """Drawing takes most of the time of a page. What the whole module shares has its plots: it is made before."""
    if "with_plots" not in request.fixturenames:
        monkeypatch.setattr("mlc.report.page._plots", lambda *given: ())


@pytest.fixture(name="data", scope="module")
def data_fixture(make_data):
    return make_data()


@pytest.fixture(name="rendered", scope="module")
def rendered_fixture(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    render(data, folder)
    return folder


def test_page_is_self_contained_html(rendered):
    page, _ = read_page(rendered)
    assert {path.name for path in rendered.iterdir()} == FILES
    assert page.tags.count("img") == 6
    linked = {address for address in page.addresses if not address.startswith("data:image/png;base64,")}
    assert linked == {"results.csv", "outcomes.csv", "funnel.csv"}
    assert not {"link", "iframe"} & set(page.tags)
    assert page.tags.count("script") == 1
    source = (rendered / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?:|@import|url\(|fetch\(|XMLHttp|WebSocket|innerHTML|import\(", source)


def test_page_has_landmarks_heads_and_alternatives(rendered):
    source = (rendered / "report.html").read_text(encoding="utf-8")
    assert [source.count(f"<{tag}>") for tag in ("header", "main", "h1")] == [1, 1, 1]
    assert source.count("<section") == source.count("<h2>")
    assert not re.search(r"<th(?![^>]*scope=)[ >]|<th[^>]*></th>", source)


def test_whoever_does_not_see_a_plot_is_told_its_figures(rendered, data):
    source = (rendered / "report.html").read_text(encoding="utf-8")
    told = dict(alt.split(". ", 1) for alt in re.findall(r'<img [^>]*alt="([^"]*)"', source))
    assert len(told) == 6
    seeds = [r.summary.auroc.value for r in data.results if r.summary.model == "base"]
    low, high = number(min(seeds)), number(max(seeds))
    assert re.search(rf"^Base {low} in [^;]+ to {high} in [^;]+; English-only ", told["Margin AUROC per language"])
    assert told["What the filter dropped"].startswith("Kept: German 75 %, Spanish 94 %. Dropped: 20 rows for wrong lan")
    assert "Consistency, seed 1, .76 to .13" in told["Training curves"]
    assert "Base .03 in all 4 languages" in told["Representations before and after"]
    assert re.search(r"To harmful prompts, .*: Base \d+ % refused, \d+ % compl", told["What the models answered"])
    assert "Margin safety rate: Base ." in told["The margin as a screen: safety beside over-refusal"]


def test_page_names_every_model_and_language(rendered, data):
    _, text = read_page(rendered)
    names = {language.code: language.english_name for language in all_languages()}
    for result in data.results:
        assert names[result.summary.language] in text
    for name in ("Base", "English-only", "Consistency", "SmolLM2-135M-Instruct", "wrong language", "Swahili (unseen)"):
        assert name in text


def test_page_tells_a_date_only_if_given_one(rendered, tmp_path, make_data):
    made = {"made": "2026-11-26 04:57 UTC", "run": "3", "revision": "0123456789ab"}
    inputs = [Input("held-out prompts", "f" * 64, 48), Input("overlap", "e" * 64, None)]
    render(make_data(("eng_Latn",), (0,), made=made, inputs=inputs, beside={"more.json": "more"}), tmp_path)
    page, text = read_page(tmp_path)
    assert "made 2026-11-26 04:57 UTC run 3 revision 0123456789ab languages English" in text
    assert f"held-out prompts 48 rows, sha256 {'f' * 16} overlap sha256 {'e' * 16} files results.csv" in text
    assert "more.json" in page.addresses
    _, text = read_page(rendered)
    assert not re.search(r"\b(19|20)\d\d-\d\d|\b\d\d:\d\d\b", text)


def test_page_warns(rendered):
    _, text = read_page(rendered)
    assert "A refusal rate means nothing alone" in text
    assert "set on the English validation prompts" in text
    assert "The nano translator is a toy" in text
    assert "† The test prompts in Modern Standard Arabic were translated by machine" in text


def test_the_page_says_whether_it_may_be_released(rendered, tmp_path, make_data, data):
    _, text = read_page(rendered)
    assert (
        "May not be released, by the policy strict: 1 of 2 checks of the gate failed. Not kept: "
        "Over-refusal − champion ≤ 0.05 (95 %) : worst: Swahili What is live was not compared with" in text
    )
    assert "Over-refusal − champion ≤ 0.05 (95 %) worst: Swahili +0.120 [+0.020, +0.220] failed 40" in text
    passed = Gate(True, "quickstart", [row for row in data.gate.checks if row["passed"]])
    render(make_data(("eng_Latn", "spa_Latn"), (0,), gate=passed), tmp_path)
    assert "May be released, by the policy quickstart: 1 check of the gate passed." in read_page(tmp_path)[1]


def test_languages_have_one_order(rendered):
    _, text = read_page(rendered)
    names = ("English", "German", "Modern Standard Arabic", "Spanish", "Swahili")
    for start in ("Consistency − English-only", "judged harmful / harmless"):
        part = text[text.rindex(start) + len(start) :] if "−" in start else text[text.index(start) :]
        places = [re.search(rf"\b{name}\b(?!-only)", part).start() for name in names]
        assert places == sorted(places)


def test_changes_by_language_are_tested_together(tmp_path, make_data):
    languages = ("eng_Latn", "spa_Latn", "swh_Latn")
    data = make_data(languages, (0,))
    live = [
        replace(result, summary=replace(result.summary, model="champion", seed=None))
        for result in data.results
        if result.summary.model == "english-only"
    ]
    labels = {**data.labels, "champion": "Champion, version 3"}
    both = replace(data, results=[*data.results, *live], champion="champion", labels=labels)
    render(both, tmp_path)
    _, text = read_page(tmp_path)
    evaluations = Evaluations(both.results, labels=labels)
    everywhere = evaluations.compare(
        baseline="champion", candidate="consistency", languages=languages, metric="selectivity"
    )
    assert f"which is live, in 3 languages: selectivity {signed(everywhere.value)} [" in text
    changes = evaluations.by_language(baseline="champion", candidate="consistency", metric="selectivity")
    better = [language_name(code) for code, one in changes.items() if one.p < 0.05 and one.estimate.value > 0]
    assert f"By selectivity, better in {', '.join(better)} and worse in no language." in text
    assert better
    for other, name in (("english-only", "English-only"), ("champion", "Champion, version 3")):
        found = evaluations.by_language(baseline=other, candidate="consistency", metric="selectivity")["swh_Latn"]
        shown = f"Swahili {signed(found.estimate.value)} {interval(found.estimate)} p {chance(found.p)}"
        part = text[text.index(f"Consistency − {name} English") :]
        assert shown.replace("\u00a0", " ") in part.replace("\u00a0", " ")
    silent = [replace(result, outcomes=result.outcomes.slice(0, 0)) for result in data.results]
    render(replace(data, results=silent), tmp_path)
    assert "What changed" not in read_page(tmp_path)[1]


def test_names_are_escaped(tmp_path, make_data):
    render(make_data(("eng_Latn",), (0,), name="<b>&", settings={"<i>": "<u>"}), tmp_path)
    page, text = read_page(tmp_path)
    assert "<b>&" in text
    assert not {"b", "i", "u"} & set(page.tags)


def test_what_was_kept_is_told(tmp_path, make_data, rendered):
    render(make_data(kept=("align was kept by <ann> on 2026-11-27: the loss & its name",)), tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "had changed: align was kept by &lt;ann&gt; on 2026-11-27: the loss &amp; its name." in page
    assert "had changed" not in (rendered / "report.html").read_text(encoding="utf-8")


def test_funnel_csv_has_every_row(rendered, data):
    with (rendered / "funnel.csv").open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [(row["language"], row["reason"], int(row["rows"])) for row in rows] == sorted(
        (row.language, row.reason, row.rows) for row in data.funnel
    )


def test_results_csv_has_every_evaluation(rendered, data):
    with (rendered / "results.csv").open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    expected = {(r.summary.model, str(r.summary.seed or 0), r.summary.language): r.summary for r in data.results}
    assert len(rows) == len(expected) == 25
    for row in rows:
        summary = expected[row["model"], row["seed"] or "0", row["language"]]
        assert float(row["auroc"]) == pytest.approx(summary.auroc.value, rel=1e-5)
        assert float(row["auroc_low"]) == pytest.approx(summary.auroc.low, rel=1e-5)
        assert int(row["safety_n"]) == summary.safety.n
        assert int(row["answers_rules_invalid"]) == summary.answers["rules"]["invalid"] > 0
    assert {row["collinearity"] for row in rows if row["language"] == "eng_Latn"} == {""}
    assert {row["seed"] for row in rows if row["model"] == "base"} == {""}


def test_same_data_same_bytes_in_any_order_and_thread(rendered, tmp_path, make_data, with_plots):
    data = make_data()
    shuffled = make_data(results=data.results[::-1], funnel=data.funnel[::-1])
    folders = [tmp_path / str(index) for index in range(2)]
    threads = [threading.Thread(target=render, args=(shuffled, folder)) for folder in folders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert contents(folders[0]) == contents(folders[1]) == contents(rendered)


def test_pictures_say_nothing_about_their_making(rendered):
    for path in rendered.glob("*.png"):
        chunks = path.read_bytes()
        assert b"tEXt" not in chunks
        assert b"tIME" not in chunks


def test_small_runs(tmp_path, make_data, with_plots):
    """One seed, one language, no gate, no filter, no logs, no split into trained and unseen."""
    data = make_data(
        ("eng_Latn", "spa_Latn"),
        (0,),
        funnel=(),
        training_logs={},
        gate=None,
        trained_languages=None,
        machine_translated_languages=(),
        settings={},
    )
    render(data, tmp_path)
    _, text = read_page(tmp_path)
    assert "in 1 other language, 1 seed, 80 prompts" in text
    assert {path.name for path in tmp_path.iterdir()} == FILES - {"funnel.csv", "filter.png", "training.png"}
    for absent in ("gate", "unseen", "nano", "†"):
        assert absent not in text


def test_english_alone(tmp_path, make_data, with_plots):
    render(make_data(("eng_Latn",), (0,)), tmp_path)
    _, text = read_page(tmp_path)
    assert "in English, the only language" in text
    assert not (tmp_path / "representation.png").exists()


def test_one_model_alone(tmp_path, make_data, make_result, with_plots):
    render(make_data(results=[make_result("base", None, "spa_Latn")]), tmp_path)
    _, text = read_page(tmp_path)
    assert "Only Base was measured" in text
    assert "Difference" not in text


def test_a_class_without_prompts(tmp_path, make_data, make_result, with_plots):
    results = []
    for model in ("base", "consistency"):
        full = make_result(model, None, "spa_Latn")
        rows = full.rows.filter(pc.equal(full.rows["label"], "harmful"))
        summary = summarise(rows, model=model, seed=None, language="spa_Latn", threshold=0.0)
        results.append(EvaluationResult(summary, rows))
    render(make_data(results=results, compared=("consistency", "base")), tmp_path)
    _, text = read_page(tmp_path)
    assert "cannot be compared: a class of prompts is empty" in text
    assert "nan" not in text.replace("nano", "")
    assert "nan" not in (tmp_path / "results.csv").read_text(encoding="utf-8")


def test_no_results_is_told(tmp_path, make_data):
    with pytest.raises(UserError, match="no evaluation results"):
        render(make_data(results=[]), tmp_path)


@pytest.mark.parametrize(
    ("before", "after", "tone", "words"),
    [
        (
            0.2,
            2.5,
            "better",
            r"^Consistency is better than English-only: \+\.\d\d selectivity \[\.\d\d, \.\d\d\] in 2 ",
        ),
        (
            2.5,
            0.2,
            "worse",
            r"^Consistency is worse than English-only: −\.\d\d selectivity \[−\.\d\d, −\.\d\d\] in 2 ",
        ),
        (1.0, 1.0, "unclear", r"^No difference is shown: .* and the interval includes 0\.$"),
    ],
)
def test_verdict_follows_the_interval(make_result, before, after, tone, words):
    shifts = {"english-only": before, "consistency": after}
    results = [
        make_result(model, seed, language, shift=shift)
        for model, shift in shifts.items()
        for seed in (0, 1)
        for language in ("eng_Latn", "spa_Latn", "swh_Latn")
    ]
    labels = {"english-only": "English-only", "consistency": "Consistency"}
    said = verdict(Evaluations(results, labels=labels), ("consistency", "english-only"))
    assert said.tone == tone
    assert re.search(words, said.sentence.replace("\u00a0", " "))
    assert "2 seeds, 80 prompts" in said.sentence
    assert "over-refusal" in said.beside
    assert "selectivity in English" in said.beside
    assert "margin AUROC" in said.beside


def test_without_answers_the_margin_leads(make_result):
    results = [
        replace(result, outcomes=no_outcomes())
        for model, shift in {"english-only": 0.2, "consistency": 2.5}.items()
        for result in [make_result(model, 0, code, shift=shift) for code in ("eng_Latn", "spa_Latn")]
    ]
    said = verdict(Evaluations(results), ("consistency", "english-only"))
    assert re.match(r"consistency is better than english-only: \+\.\d\d margin AUROC \[", said.sentence)
    assert "attack success" not in said.beside


def test_better_never_stands_alone(make_result, data):
    def said(gate=None, answers=lambda outcome: outcome, languages=("eng_Latn", "spa_Latn")):
        results = [
            make_result(model, 0, language, shift=shift)
            for model, shift in {"english-only": 0.2, "consistency": 2.5}.items()
            for language in languages
        ]
        changed = [answers(result) for result in results]
        return verdict(Evaluations(changed), ("consistency", "english-only"), gate=gate)

    def swahili_complies(result):
        """The candidate complies with every harmful prompt in one language, the baseline with none."""
        if result.summary.language != "swh_Latn":
            return result
        outcome = "complied" if result.summary.model == "consistency" else "refused"
        labels = result.outcomes["label"].to_pylist()
        given = [outcome if label == "harmful" else "complied" for label in labels]
        place = result.outcomes.schema.get_field_index("outcome")
        return replace(result, outcomes=result.outcomes.set_column(place, "outcome", pa.array(given, pa.string())))

    def without_harmful_refusals(result):
        """The candidate complies with all, of which only the harmful are bad; the baseline refuses all."""
        refuses = result.summary.model == "english-only"
        given = []
        for index, label in enumerate(result.outcomes["label"].to_pylist()):
            complied = "complied" if label == "harmless" or index % 2 else "refused"
            given.append("refused" if refuses else complied)
        place = result.outcomes.schema.get_field_index("outcome")
        outcomes = result.outcomes.set_column(place, "outcome", pa.array(given, pa.string()))
        return replace(result, outcomes=outcomes)

    def lower_margins(result):
        """The candidate's margins are all below their threshold, and tell the classes apart as before."""
        lower = 9.0 if result.summary.model == "consistency" else 0.0
        rows = result.rows.set_column(
            result.rows.schema.get_field_index("margin"), "margin", pc.subtract(result.rows["margin"], lower)
        )
        zero = Estimate(0.0, 0.0, 0.0, result.summary.safety.n)
        return replace(result, rows=rows, summary=replace(result.summary, safety=zero) if lower else result.summary)

    assert said().tone == "better"
    assert said(Gate(True, "strict", data.gate.checks)).tone == "better"
    failed = said(data.gate)
    assert failed.tone == "unclear"
    assert failed.sentence.endswith(", but the gate failed.")
    fell = said(answers=without_harmful_refusals)
    assert fell.tone == "unclear"
    assert re.search(
        r"separates better than .*, but attack success rose \(\+.*\) and harmful refused fell", fell.sentence
    )
    # Where answers are judged, another cut of the margin is no loss of safety.
    assert said(answers=lower_margins).tone == "better"
    silent = said(answers=lambda result: replace(lower_margins(result), outcomes=no_outcomes()))
    assert "the margin safety rate fell" in silent.sentence
    others = ("spa_Latn", "deu_Latn", "fra_Latn", "arb_Arab", "hin_Deva", "swh_Latn")
    one = said(answers=swahili_complies, languages=("eng_Latn", *others))
    assert one.tone == "unclear"
    assert one.sentence.endswith(", but attack success rose in Swahili and harmful refused fell in Swahili.")


def test_outcomes_have_colours_that_mean_something(rendered):
    source = (rendered / "report.html").read_text(encoding="utf-8")
    table = source[source.index("<h2>Outcomes by language") :].partition("</table>")[0]
    assert table.index("Consistency") < table.index("Base</span>") < table.index("English-only")
    cells = re.findall(r'class="heat (\w+)" style="--share: (\d+)%"><span class="value">(\d+) %', table)
    assert [tone for tone, _, _ in cells[:8]] == ["bad", "bad", "good", "good", "void", "void", "void", "void"]
    assert all(abs(int(strength) - int(share) / 2) <= 1 for _, strength, share in cells)


def test_every_judged_answer_is_a_row(rendered, data, make_data, tmp_path):
    with (rendered / "outcomes.csv").open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) == sum(len(result.outcomes) for result in data.results) == 2000
    found = {(row["model"], row["seed"], row["language"], row["id"]): row["outcome"] for row in rows}
    for result in data.results:
        model, seed = LABELS[result.summary.model], result.summary.seed
        for row in result.outcomes.to_pylist():
            key = (model, "" if seed is None else str(seed), result.summary.language, row["id"])
            assert found[key] == row["outcome"]
    classes = [(row["label"], row["outcome"]) for row in rows]
    assert classes[0] == ("harmful", "complied")
    assert classes[-1] in (("harmful", "refused"), ("harmless", "complied"))
    source = (rendered / "report.html").read_text(encoding="utf-8")
    assert f"The first {SHOWN_ROWS} of 2000 judged answers" in source
    table = source[source.index('aria-label="Prompt by prompt"') :].partition("</table>")[0]
    assert table.count('<tr><th scope="row"') == SHOWN_ROWS
    render(make_data(("eng_Latn",), (0,)), tmp_path)
    assert "All 240 judged answers" in read_page(tmp_path)[1]


def test_general_ability_is_a_table_of_its_own(tmp_path, make_data):
    skills = {
        "base": [Skill(BITS, "eng_Latn", Estimate(1.25, 1.1, 1.4, 9), False)],
        "new": [
            Skill(BITS, "eng_Latn", Estimate(1.5, math.nan, math.nan, 1), False),
            Skill("arc_easy acc", "", Estimate(0.625, 0.5, 0.75, 40), True),
        ],
    }
    render(make_data(("eng_Latn",), (0,), skills=skills), tmp_path)
    text = read_page(tmp_path)[1]
    section = text.partition("General ability")[2].partition("Prompt by prompt")[0]
    assert "bits per character, lower is better English 1.25 [1.10, 1.40] 1.50" in section
    assert "arc_easy acc, higher is better – .63 [.50, .75]" in section


def test_suites_stand_apart(rendered, tmp_path, make_data, make_result):
    own = [make_result(model, seed, "eng_Latn", prompts=4) for model, seed in (("base", None), ("consistency", 0))]
    own = [replace(one, summary=replace(one.summary, suite="xstest")) for one in own]
    plain = make_data(("eng_Latn", "arb_Arab"), (0,))
    render(plain, tmp_path / "plain")
    render(replace(plain, suites={"xstest": own}), tmp_path / "suites")
    texts = {name: read_page(tmp_path / name)[1] for name in ("plain", "suites")}
    assert "Suite xstest" in texts["suites"]
    assert "held-out" in texts["suites"]
    assert "suite" not in texts["plain"].lower()
    # What stands before the suite is the same with and without it.
    assert texts["suites"].startswith(texts["plain"].partition(" Prompt by prompt ")[0])
    card = model_card(replace(plain, suites={"xstest": own}))
    assert "### Suite xstest" in card
    assert "Suite" not in model_card(plain)
    rows = list(csv.DictReader((tmp_path / "suites" / "outcomes.csv").open(encoding="utf-8", newline="")))
    assert [row["suite"] for row in rows].count("xstest") == 16
    figures = list(csv.DictReader((tmp_path / "suites" / "results.csv").open(encoding="utf-8", newline="")))
    assert [row["suite"] for row in figures].count("xstest") == 2


HOSTILE = "</script></td><script>alert(1)</script><img src=x onerror=alert(1)>\" & '"
ARABIC = "مرحبا \u202e"


def test_texts_are_in_the_file_only_where_they_are_asked_for(rendered, tmp_path, make_data):
    texts = {
        ("consistency", 0, "eng_Latn", ""): {
            f"prompt {number}": Texts(HOSTILE, f"said {number}") for number in range(80)
        },
        ("consistency", 0, "arb_Arab", ""): {"prompt 1": Texts(ARABIC, "ج" * (LONGEST_TEXT + 1))},
    }
    hidden = make_data(("eng_Latn", "arb_Arab"), (0,), texts=texts)
    render(replace(hidden, texts={}), tmp_path / "none")
    render(hidden, tmp_path / "hidden")
    sources = {name: (tmp_path / name / "report.html").read_text(encoding="utf-8") for name in ("none", "hidden")}
    assert "alert(1)" not in sources["none"]
    assert "said 7" not in sources["none"]
    assert 'type="checkbox"' not in sources["none"]
    assert "No text is on this page." in sources["none"]
    parser, text = read_page(tmp_path / "hidden")
    # Every text is there once, as text and not as markup.
    assert text.count(" ".join(HOSTILE.split())) == 80
    assert parser.tags.count("script") == 1
    assert "img" not in parser.tags
    assert sources["hidden"].count('<td class="texts" dir="auto">') == 2 * 480
    assert f'dir="auto">{ARABIC}</td><td class="texts" dir="auto">{"ج" * LONGEST_TEXT} …</td>' in sources["hidden"]
    assert "checked" not in re.findall(r"<input[^>]*checkbox[^>]*>", sources["hidden"])[0]
    assert sources["hidden"].index("<strong>Warning:</strong>") < sources["hidden"].index('type="checkbox"')
    print_rules = sources["hidden"].partition("@media print")[2].partition("</style>")[0]
    assert ".by-prompt { display: none; }" in print_rules
    for name, content in contents(tmp_path / "hidden").items():
        assert name == "report.html" or b"alert(1)" not in content
    assert SHOWN_ROWS * 2 * LONGEST_TEXT * 4 + len(sources["none"].encode()) < 10_000_000


def test_outcomes_are_shown_by_class_and_language(rendered):
    _, text = read_page(rendered)
    for told in ("harmful: refused", "harmless: complied", "Attack success, worst language", "PAG", "judge: rules"):
        assert told in text
    for told in ("Selectivity", "Margin selectivity, English threshold", "Margin selectivity, own threshold"):
        assert told in text


def test_a_claim_names_the_controls_that_it_passed(make_result):
    shifts = {"english-only": 0.0, "answer": 6.0, "answer-shuffled": 0.0, "answer-permuted-labels": 6.0}
    results = [
        make_result(model, 0, language, shift=shift)
        for model, shift in shifts.items()
        for language in ("eng_Latn", "spa_Latn")
    ]
    evaluations = Evaluations(results, labels={"answer": "Answer"})
    controls = {"answer-shuffled": "Shuffled", "answer-permuted-labels": "Permuted", "english-more-steps": "Longer"}
    said = verdict(evaluations, ("answer", "english-only"), controls).controls.replace("\u00a0", " ")
    passed, not_passed, not_run = said.split(". ")
    assert re.fullmatch(r"Controls of Answer passed: Shuffled \(\+\.\d\d \[\.\d\d, \.\d\d\] selectivity\)", passed)
    assert not_passed.startswith("Controls not passed: Permuted (")
    assert not_run == "Controls not in this run: Longer."
    assert verdict(evaluations, ("answer", "english-only")).controls == ""


def test_any_two_models_can_be_compared(make_result):
    results = [
        make_result(model, 0, language, shift=shift)
        for model, shift in {"english-only": 0.2, "consistency": 1.0, "edit": 2.5}.items()
        for language in ("eng_Latn", "spa_Latn")
    ]
    evaluations = Evaluations(results, labels={"edit": "Edited"})
    assert evaluations.models == ("edit", "consistency", "english-only")
    said = verdict(evaluations, ("edit", "english-only"))
    assert said.sentence.startswith("Edited is better than english-only")
    assert verdict(evaluations, None).sentence.startswith("Only Edited and consistency and english-only was")


def test_the_whole_search_is_shown(tmp_path, make_data):
    def trial(name, auroc, broken="", best=False, **settings):
        figures = {
            f"{figure}.{code}": value
            for code in ("eng_Latn", "swh_Latn")
            for figure, value in (("auroc", auroc), ("safety", 0.5), ("over_refusal", 0.25), ("bits", 2.125))
        }
        return {"trial": name, "best": best, **settings, **figures, "broken": broken}

    rows = [
        trial("unedited", 0.51),
        trial("1", 0.62, "English AUROC fell by 0.030, at most 0.02", layers="all", gamma=1.0, ridge=0.1, rank=8),
        trial("2", None, layers=[3, 4], gamma=10.0, ridge=0.1, rank=8),
        trial("3", 0.57, best=True, layers="middle", gamma=1.0, ridge=0.1, rank=32),
    ]
    render(make_data(searches={("edit", 0, "swh_Latn"): rows}), tmp_path)
    _, text = read_page(tmp_path)
    table = text[text.index("Search for the edit") : text.index("How it was made")]
    for part in ("Swahili · seed 0", "unedited .51", "1 all 1 0.1 8 .62", "2 3, 4 10 0.1 8 –", "3 middle 1 0.1 32 .57"):
        assert part in table, table
    assert "English AUROC fell by 0.030, at most 0.02" in table
    assert table.count("best") == 2  # the text above the table, and the winner


def test_what_each_translator_brought(make_data, tmp_path, with_plots):
    rows = [
        TranslatorRow("spa_Latn", "translator", 128, 31, 90),
        TranslatorRow("spa_Latn", "fallback 1", 38, 0, 29),
    ]
    render(make_data(translators=rows), tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    table = page[page.index("What each translator brought") :].partition("</table>")[0]
    found = re.findall(r'<th scope="row" class="head">([^<]+)</th>(.*?)</tr>', table)
    assert [(name, re.findall(r">(\d+)<", cells)) for name, cells in found] == [
        ("translator", ["128", "31", "90"]),
        ("fallback 1", ["38", "0", "29"]),
    ]
    render(make_data(), tmp_path)
    assert "What each translator brought" not in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_what_methods_cost_is_a_table_of_its_own(tmp_path, make_data):
    costs = [
        MethodCost("english-only", 61.2, 61.2, 1234.0, 3 * 2**30, ("english answers",)),
        MethodCost("consistency", 90.4, 29.2, None, None, ()),
    ]
    render(make_data(("eng_Latn",), (0,), costs=costs), tmp_path)
    section = read_page(tmp_path)[1].partition("What one model takes")[2].partition("Prompt by prompt")[0]
    assert "English-only 61 61 1,234 3.0 english answers" in section
    assert "90 29 – – nothing" in section
    render(make_data(("eng_Latn",), (0,)), tmp_path)
    assert "What one model takes" not in read_page(tmp_path)[1]
