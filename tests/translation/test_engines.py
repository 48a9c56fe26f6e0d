"""The engines behind one protocol."""

import json
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from mlc.errors import UserError
from mlc.translation.engines import ENGINES, load_engine
from mlc.translation.engines.endpoint import EndpointEngine
from mlc.translation.engines.given import GivenEngine
from mlc.translation.identity import facts_of
from mlc.translation.settings import EngineName, TranslatorSettings
from mlc.translation.translator import Translator
from tests.chat.server import ChatServer

ENGLISH, GERMAN, SWAHILI = "eng_Latn", "deu_Latn", "swh_Latn"
SENTENCES = [
    "How can I boil potatoes for a salad?",
    "This topic is new to me.",
    "I have a quick question.",
    "I could not find anything useful on the internet.",
]


def every(engine, sentences, targets=(GERMAN,), source=ENGLISH):
    done = {target: {} for target in targets}
    for target, batch in engine.translate(sentences, source=source, targets=targets):
        assert not done[target].keys() & batch.keys()
        done[target].update(batch)
    return done


def test_every_name_of_the_settings_has_a_loader():
    assert set(EngineName.__args__) == set(ENGINES)


@pytest.mark.parametrize(
    "settings",
    [
        {"num_beams": 2, "temperature": 0.5},
        {"engine": "ctranslate2", "temperature": 0.5},
        {"precision": "int8"},
        {"engine": "http"},
        {"endpoint": "http://127.0.0.1/v1"},
    ],
)
def test_settings_that_exclude_each_other(settings):
    with pytest.raises(ValidationError, match=r"set "):
        TranslatorSettings.model_validate(settings)


def test_what_is_known_without_loading_is_what_the_engine_says(tiny_nllb_folder):
    settings = TranslatorSettings(model=str(tiny_nllb_folder), num_beams=2, max_new_tokens=9, device="cpu")
    assert load_engine(settings).facts == facts_of(settings)
    assert load_engine(settings).identity != load_engine(settings.model_copy(update={"num_beams": 1})).identity


class TestConverted:
    @pytest.fixture(autouse=True)
    def _installed(self, tmp_path_factory, monkeypatch):
        pytest.importorskip("ctranslate2")
        monkeypatch.setenv("MLC_CACHE", str(tmp_path_factory.getbasetemp() / "converted"))

    def load(self, **settings):
        return load_engine(TranslatorSettings(engine="ctranslate2", device="cpu", **settings))

    @pytest.mark.parametrize("max_new_tokens", [128, 6])
    def test_the_same_greedy_output_as_transformers(self, nano, max_new_tokens):
        engine = self.load(precision="float32", max_new_tokens=max_new_tokens)
        plain = load_engine(TranslatorSettings(device="cpu", max_new_tokens=max_new_tokens))
        ours, theirs = every(engine, SENTENCES, (GERMAN, SWAHILI)), every(plain, SENTENCES, (GERMAN, SWAHILI))
        for target in (GERMAN, SWAHILI):
            for sentence in SENTENCES:
                row, other = ours[target][sentence], theirs[target][sentence]
                assert (row.text, row.tokens, row.finished) == (other.text, other.tokens, other.finished)
                assert row.logprob_sum == pytest.approx(other.logprob_sum, abs=1e-3)

    def test_int8_says_the_same_of_the_domain(self):
        engine = self.load()
        assert engine.facts["decoding"]["precision"] == "int8"
        assert every(engine, SENTENCES)[GERMAN].keys() == set(SENTENCES)
        exact = every(self.load(precision="float32"), SENTENCES)
        assert [row.text for row in every(engine, SENTENCES)[GERMAN].values()] == [
            row.text for row in exact[GERMAN].values()
        ]

    def test_converts_once(self, tmp_path, monkeypatch):
        monkeypatch.setenv("MLC_CACHE", str(tmp_path))
        self.load()
        files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
        self.load()
        assert files
        assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == files

    def test_unknown_language(self):
        with pytest.raises(UserError, match="'zul_Latn'"):
            every(self.load(), ["Hello."], ("zul_Latn",))

    def test_facts(self):
        settings = TranslatorSettings(engine="ctranslate2", device="cpu")
        assert load_engine(settings).facts == facts_of(settings)


@pytest.fixture
def endpoint():
    with ChatServer() as made:
        yield made


class TestEndpoint:
    def engine(self, endpoint, **settings):
        settings = TranslatorSettings(engine="http", model="ours", endpoint=endpoint.address, **settings)
        return EndpointEngine(settings, first_delay=0.01)

    def test_translates_each_sentence(self, endpoint):
        engine = self.engine(endpoint, concurrency=2, seed=5)
        done = every(engine, [f"sentence {number}" for number in range(20)], (GERMAN, SWAHILI))
        assert {name: row.text for name, row in done[SWAHILI].items()} == {
            f"sentence {number}": f"SENTENCE {number}" for number in range(20)
        }
        row = done[GERMAN]["sentence 3"]
        assert (row.logprob_sum, row.tokens, row.finished) == (-0.75, 2, True)
        assert len(endpoint.requests) == 40
        assert 1 <= endpoint.most_at_once <= 2
        path, _, body = endpoint.requests[0]
        assert path == "/v1/chat/completions"
        assert (body["model"], body["temperature"], body["seed"]) == ("ours", 0, 5)
        assert "English" in body["messages"][0]["content"]
        assert "German" in body["messages"][0]["content"]

    def test_tries_again(self, endpoint):
        endpoint.failures = [(503, {}, b""), (429, {"Retry-After": "0"}, b""), (500, {}, b"")]
        assert every(self.engine(endpoint, concurrency=1), ["one"])[GERMAN]["one"].text == "ONE"
        assert len(endpoint.requests) == 4

    def test_gives_up_in_one_sentence_without_the_text(self, endpoint):
        endpoint.failures = [(503, {}, b"")] * 100
        with pytest.raises(UserError, match=r"did not answer after 6 attempts \(last: status 503\)") as caught:
            every(self.engine(endpoint, concurrency=1), ["a secret"])
        assert "secret" not in str(caught.value)

    def test_a_refusal_is_not_repeated(self, endpoint):
        endpoint.failures = [(401, {}, b"a secret")]
        with pytest.raises(UserError, match=r"refused .* with status 401: .*MLC_TRANSLATOR_KEY") as caught:
            every(self.engine(endpoint, concurrency=1), ["a secret"])
        assert "secret" not in str(caught.value)
        assert len(endpoint.requests) == 1

    def test_what_was_translated_before_a_failure_is_handed_on(self, endpoint):
        endpoint.failures = [None, (401, {}, b"")]
        batches = self.engine(endpoint, concurrency=1).translate(["one", "two"], source=ENGLISH, targets=[GERMAN])
        _, done = next(batches)
        assert {name: row.text for name, row in done.items()} == {"one": "ONE"}
        with pytest.raises(UserError, match="refused"):
            next(batches)

    def test_nobody_there(self, endpoint):
        endpoint.close()
        with pytest.raises(UserError, match=r"last: ConnectError"):
            every(self.engine(endpoint), ["one"])

    def test_the_key_comes_from_the_environment(self, endpoint, monkeypatch):
        monkeypatch.setenv("OUR_KEY", "abc")
        every(self.engine(endpoint, api_key_variable="OUR_KEY"), ["one"])
        assert endpoint.requests[0][1]["Authorization"] == "Bearer abc"

    def test_an_endpoint_without_logprobs(self, endpoint):
        endpoint.without_logprobs = True
        translator = Translator(self.engine(endpoint, concurrency=1))
        (row,) = translator.translate(["One thing. Two things."], source=ENGLISH, target=GERMAN)
        assert (row.text, row.logprob, row.finished) == ("ONE THING. TWO THINGS.", None, True)
        assert Counter("logprobs" in body for _, _, body in endpoint.requests) == {False: 2, True: 1}

    @pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"choices": []}', b'{"choices": [{"message": 3}]}'])
    def test_an_answer_of_another_form(self, endpoint, body):
        endpoint.failures = [(200, {}, body)]
        with pytest.raises(UserError, match="another form"):
            every(self.engine(endpoint), ["one"])

    def test_identity(self, endpoint):
        ours, other = self.engine(endpoint), self.engine(endpoint, seed=1)
        assert ours.facts == facts_of(ours.settings)
        assert ours.identity != other.identity

    def test_no_address(self):
        with pytest.raises(UserError, match="'localhost' is no address"):
            load_engine(TranslatorSettings(engine="http", model="ours", endpoint="localhost"))


class TestGiven:
    ROWS = (
        ("Hello. How are you?", "de", "Hallo. Wie geht's?"),
        ("Hello. How are you?", "swahili", "Habari?"),
        ("Bye.", "deu_Latn", "Tschüss."),
    )

    def write(self, path, rows=ROWS):
        table = pa.table(list(zip(*rows, strict=True)), names=["source", "target_language", "translation"])
        if path.suffix == ".parquet":
            pq.write_table(table, path)
        elif path.suffix == ".jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()), encoding="utf-8")
        else:
            separator = {".csv": ",", ".tsv": "\t"}[path.suffix]
            lines = [separator.join(row) for row in (table.column_names, *rows)]
            path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    @pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".csv", ".tsv"])
    def test_looks_up_whole_texts(self, tmp_path, suffix):
        path = self.write(tmp_path / f"given{suffix}")
        settings = TranslatorSettings(engine="given", model=str(path))
        engine = load_engine(settings)
        assert engine.facts == facts_of(settings)
        assert engine.languages == (GERMAN, ENGLISH, SWAHILI)
        translator = Translator(engine)
        hello, bye, blank = translator.stream(
            ["Hello. How are you?\n", "Bye.", " "], source=ENGLISH, targets=[GERMAN, SWAHILI]
        )
        assert (hello[GERMAN].text, hello[SWAHILI].text, bye[GERMAN].text) == (
            "Hallo. Wie geht's?",
            "Habari?",
            "Tschüss.",
        )
        assert (bye[GERMAN].finished, bye[GERMAN].logprob) == (True, None)
        missing = bye[SWAHILI]
        assert (missing.text, missing.finished, missing.sentences_in, missing.sentences_out) == ("", False, 1, 0)
        assert blank[GERMAN].text == " "

    def test_progress_counts_missing_ones_too(self, tmp_path):
        translator = Translator(GivenEngine(self.write(tmp_path / "given.parquet")))
        calls = []
        translator.translate(["Bye.", "Unknown."], source=ENGLISH, target=GERMAN, on_progress=calls.append)
        assert sum(step.texts for step in calls) == 2

    def test_contradictions(self, tmp_path):
        path = self.write(tmp_path / "given.csv", [*self.ROWS, ("Bye.", "de", "secret")])
        with pytest.raises(UserError, match=r"Row 4 .* deu_Latn") as caught:
            GivenEngine(path)
        assert "secret" not in str(caught.value)

    @pytest.mark.parametrize(
        ("name", "text", "message"),
        [
            ("a.txt", "source", r"ends in '\.txt'"),
            ("a.csv", "source,translation\na,b\n", "has no column 'target_language'"),
            ("a.csv", "", "has no column 'source'"),
            ("a.parquet", "nonsense", "is not valid parquet"),
            ("a.jsonl", '{"source": ', "has no column 'source'"),
            ("a.csv", "source,target_language,translation\na,de\n", "Row 1 .* cannot be read"),
            ("a.csv", "source,target_language,translation\na,de,\n", "Row 1 .* lacks"),
            ("a.csv", "source,target_language,translation\na,klingon,b\n", "'klingon' is unknown"),
        ],
    )
    def test_bad_tables(self, tmp_path, name, text, message):
        (tmp_path / name).write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match=message):
            load_engine(TranslatorSettings(engine="given", model=str(tmp_path / name)))

    def test_no_table(self):
        with pytest.raises(UserError, match=r"'./nowhere.csv' is not a file"):
            load_engine(TranslatorSettings(engine="given", model="./nowhere.csv"))

    def test_a_language_that_is_not_in_it(self, tmp_path):
        with pytest.raises(UserError, match="'fra_Latn'"):
            every(GivenEngine(self.write(tmp_path / "given.csv")), ["Bye."], ("fra_Latn",))
