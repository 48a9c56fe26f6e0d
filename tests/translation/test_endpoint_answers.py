"""What an ``http`` translator is asked in the words of a person, and what it answers in place of a translation."""

import pytest

from mlc.errors import UserError
from mlc.translation.engines.endpoint import EndpointEngine
from mlc.translation.engines.protocol import identity_of
from mlc.translation.identity import facts_of
from mlc.translation.news import new_texts
from mlc.translation.settings import TranslatorSettings
from mlc.translation.translator import Translator
from tests.chat.server import ChatServer
from tests.translation.test_engines import ENGLISH, GERMAN, SENTENCES, every


def http(address, **settings):
    return TranslatorSettings(engine="http", model="m", endpoint=address, **settings)


class TestRefusals:
    """A model that is tuned for safety translates most prompts and declines the others."""

    REFUSAL = "I'm sorry, but I can't help with that request."

    @pytest.fixture
    def server(self):
        def reply(messages):
            text = messages[-1]["content"]
            if "topic" in text:
                return self.REFUSAL
            if "question" in text:
                return "Ich habe da eine kurze Frage."
            if "internet" in text:
                return "You could look it up in a library, where people are glad to help you with books."
            return "Wie koche ich Kartoffeln für einen Salat?"

        with ChatServer(reply) as server:
            yield server

    def test_they_are_no_translations(self, server, tmp_path):
        translator = Translator.from_settings(http(server.address), tmp_path)
        rows = translator.translate(SENTENCES, source=ENGLISH, target=GERMAN)
        assert [row.refusal for row in rows] == [None, "declines", None, "stays in the source language"]
        assert [bool(row.text) for row in rows] == [True, False, True, False]
        assert [row.finished for row in rows] == [True, False, True, False]
        asked = len(server.requests)
        again = Translator.from_settings(http(server.address), tmp_path)
        assert again.translate(SENTENCES, source=ENGLISH, target=GERMAN) == rows
        assert len(server.requests) == asked

    def test_one_refused_sentence_is_a_refused_text(self, server):
        translator = Translator.from_settings(http(server.address))
        (row,) = translator.translate([" ".join(SENTENCES[:2])], source=ENGLISH, target=GERMAN)
        assert (row.text, row.refusal, row.sentences_in, row.sentences_out) == ("", "declines", 2, 1)

    def test_a_refusal_that_is_translated_is_none(self):
        with ChatServer(lambda messages: "Tut mir leid, dabei kann ich nicht helfen.") as server:
            translator = Translator.from_settings(http(server.address))
            (row,) = translator.translate([self.REFUSAL], source=ENGLISH, target=GERMAN)
        assert (row.text, row.refusal) == ("Tut mir leid, dabei kann ich nicht helfen.", None)

    def test_requests_that_the_server_refuses(self):
        with ChatServer(lambda messages: "Guten Morgen.") as server:
            server.failures = [None, (400, {}, b"{}"), (400, {}, b"{}"), None]
            engine = EndpointEngine(http(server.address, concurrency=1), first_delay=0.01)
            done = every(engine, SENTENCES)[GERMAN]
        # The first 400 may be due to the fields that a server need not know.
        reasons = [row.refusal for row in done.values()]
        assert reasons == [None, "refused by its server, status 400", None, None]

    def test_a_server_that_refuses_everything_is_broken(self):
        with ChatServer() as server:
            server.failures = [(422, {}, b"{}")] * 8
            engine = EndpointEngine(http(server.address), first_delay=0.01)
            with pytest.raises(UserError, match=r"refused every request for model 'm' \(status 422\): check"):
                every(engine, SENTENCES)


class TestPrompts:
    def test_of_ones_own(self, tmp_path):
        file = tmp_path / "prompt.txt"
        file.write_text("{source_code} {source_language} > {target_code} {target_language}: {text}", encoding="utf-8")
        with ChatServer(lambda messages: "Hallo {text}.") as server:
            settings = http(server.address, prompt=str(file))
            done = every(EndpointEngine(settings), ["Say {target_code}."])
            (_, _, body), *_ = server.requests
        assert body["messages"] == [
            {"role": "user", "content": "eng_Latn English > deu_Latn German: Say {target_code}."}
        ]
        assert done[GERMAN]["Say {target_code}."].text == "Hallo {text}."
        before = facts_of(settings)
        assert identity_of(before) != identity_of(facts_of(http(server.address)))
        file.write_text(file.read_text(encoding="utf-8") + "!", encoding="utf-8")
        assert facts_of(settings) != before

    def test_without_the_text_it_is_the_system_prompt(self, tmp_path):
        (tmp_path / "p").write_text("To {target_language}, please.", encoding="utf-8")
        with ChatServer() as server:
            every(EndpointEngine(http(server.address, prompt=str(tmp_path / "p"))), ["Hi."])
            assert server.requests[0][2]["messages"] == [
                {"role": "system", "content": "To German, please."},
                {"role": "user", "content": "Hi."},
            ]

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("Translate: {text}", r"does not say into which language: write \{target_language\}"),
            ("{text} to {target_lang}", r"has the placeholder \{target_lang\}: use \{source_language\}"),
            (None, r"cannot be read \(FileNotFoundError\): set translator\.prompt"),
            ("{target_code}" * 10_000, "more than 100,000 characters"),
        ],
    )
    def test_that_cannot_be_used(self, tmp_path, text, message):
        if text is not None:
            (tmp_path / "p").write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match=message):
            facts_of(http("http://127.0.0.1:1/v1", prompt=str(tmp_path / "p")))

    def test_whole_prompts_are_asked_and_remembered(self, tmp_path):
        text = " ".join(SENTENCES)
        with ChatServer(lambda messages: "Eins. Zwei. Drei. Vier.") as server:
            settings = http(server.address, unit="prompt")
            root = tmp_path / "memory"
            assert new_texts([text, " "], facts_of(settings), root, source=ENGLISH, target=GERMAN) == 1
            for _ in range(2):
                translator = Translator.from_settings(settings, root)
                (row, blank) = translator.translate([text, " "], source=ENGLISH, target=GERMAN)
                assert (row.text, row.sentences_in, blank.text) == ("Eins. Zwei. Drei. Vier.", 1, " ")
            assert server.asked == [text]
            assert new_texts([text, " "], facts_of(settings), root, source=ENGLISH, target=GERMAN) == 0

    @pytest.mark.parametrize(
        ("answer", "expected"),
        [
            ('{"translation": " Hallo. "}', ("Hallo.", None)),
            ('```json\n{"translation": "Hallo."}\n```', ("Hallo.", None)),
            ('<think>\n{"a": 1}\n</think>\n{"translation": "Hallo."}', ("Hallo.", None)),
            ("Hallo.", ("", "no JSON with a translation")),
            ('{"translation": 3}', ("", "no JSON with a translation")),
            ('["Hallo."]', ("", "no JSON with a translation")),
        ],
    )
    def test_answers_in_json(self, answer, expected):
        with ChatServer(lambda messages: answer) as server:
            done = every(EndpointEngine(http(server.address, answer="json")), ["Hi."])[GERMAN]["Hi."]
            assert server.requests[0][2]["response_format"] == {"type": "json_object"}
            assert '{"translation": "…"}' in server.requests[0][2]["messages"][0]["content"]
        assert (done.text, done.refusal) == expected

    def test_thoughts_are_no_translation(self):
        with ChatServer(lambda messages: "<think>Hmm.\n</think>\n\nHallo.") as server:
            done = every(EndpointEngine(http(server.address)), ["Hi."])
        assert done[GERMAN]["Hi."].text == "Hallo."
