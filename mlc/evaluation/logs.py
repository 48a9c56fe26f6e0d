"""Answers that another harness has logged, read back so that they are judged and counted like our own.

Reads the logs of inspect_ai (``.json``, and ``.eval`` as a zip that Python can unpack) and the files
``samples_*.jsonl`` that lm-evaluation-harness writes with ``log_samples``. Fields that are not needed may be anything.
"""

import json
import zipfile
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from mlc.errors import UserError
from mlc.evaluation.engines.protocol import Completion, Finish, Prompt
from mlc.evaluation.suites.loading import LoadedSuite
from mlc.languages import resolve_language
from mlc.stopping import ShouldStop, never, stop_if
from mlc.store.hashing import digest_data

ENDINGS = (".json", ".jsonl", ".eval")
_SAMPLES = "samples_*.jsonl"
_RESULTS = "results_*.json"
_FINISH: Mapping[str, Finish] = {
    "max_tokens": "length",
    "model_length": "length",
    "length": "length",
    "content_filter": "filter",
}
"""By inspect_ai's reasons to stop, ``length`` being that of its first versions; all others are ends by themselves."""
UNREADABLE = "rows of the log that cannot be read"
FAILED = "rows of the log that failed there"
NO_ANSWER = "rows of the log without a text as answer"
OTHER_PROMPT = "rows of the log whose prompt the suite does not have"
REPEATED = "rows of the log with one more answer to the same prompt"
UNANSWERED = "prompts of the suite that the log does not answer"


@dataclass(frozen=True)
class _Row:
    """One answer of a log. Its texts never go to logs, reports or errors."""

    prompts: tuple[str, ...]
    """What the model was asked: of several readings of the log the surest first."""
    answer: str
    finish: Finish
    id: str | None
    language: str | None
    """As the log writes it."""


@dataclass(frozen=True)
class LoggedAnswers:
    """The answers of one model in the logs of a harness."""

    model: str
    """What the logs call it."""
    rows: Sequence[_Row | str]
    """Rows, or why one is none."""

    def match(self, suite: LoadedSuite) -> tuple["LogEngine", LoadedSuite]:
        """Brings the answers to the prompts of a suite.

        A row belongs to the prompt that has its id and language, if what was asked there holds the prompt's text (a
        harness may put a template around it); else to the prompt with the very same text.

        Args:
            suite: What figures are to be of.

        Returns:
            An engine that says what is logged, and the suite with the prompts that are answered; rows and prompts that
            have no counterpart are counted in what is set aside.

        Raises:
            UserError: The logs answer no prompt of the suite.
        """
        by_id = {(code, one.id): one.prompt for code, own in suite.prompts.items() for one in own}
        texts = set(by_id.values())
        aside = Counter(suite.set_aside)
        answers: dict[str, _Row] = {}
        for row in self.rows:
            if isinstance(row, str):
                aside[row] += 1
                continue
            prompt = _prompt_of(row, by_id, texts)
            if prompt is None:
                aside[OTHER_PROMPT] += 1
            elif answers.setdefault(prompt, row).answer != row.answer:
                aside[REPEATED] += 1
        kept = {code: [one for one in own if one.prompt in answers] for code, own in suite.prompts.items()}
        missing = sum(len(own) - len(kept[code]) for code, own in suite.prompts.items())
        if missing:
            aside[UNANSWERED] += missing
        kept = {code: own for code, own in kept.items() if own}
        if not kept:
            told = ", ".join(f"{count} {reason}" for reason, count in aside.items()) or "they hold no row"
            raise UserError(
                f"The logs of {self.model!r} answer no prompt of the suite {suite.name!r} ({told}): name the suite "
                "that they are of, or logs with answers."
            )
        return LogEngine(answers), replace(suite, prompts=kept, set_aside=dict(aside))


class LogEngine:
    """Says what was logged.

    Args:
        answers: By the text of the prompt.
    """

    def __init__(self, answers: Mapping[str, _Row]) -> None:
        self._answers = answers

    @property
    def identity(self) -> str:
        return digest_data([[prompt, row.answer, row.finish] for prompt, row in sorted(self._answers.items())])

    def answer(
        self, prompts: Sequence[Prompt], *, answered: Collection[int] = (), should_stop: ShouldStop = never
    ) -> Iterator[Completion]:
        """See :class:`mlc.evaluation.engines.protocol.AnswerEngine`; all prompts are texts that are logged."""
        for position, prompt in enumerate(prompts):
            if position in answered:
                continue
            stop_if(should_stop)
            row = self._answers[cast(str, prompt)]
            yield Completion(position, row.answer, row.finish, None, None)


def is_log(path: Path) -> bool:
    """Whether a path seems to be logs of a harness, by its name and what is in it, and no model or evaluation."""
    return (path.is_file() and path.suffix in ENDINGS) or (path.is_dir() and bool(_files(path)))


def read_logs(path: Path) -> LoggedAnswers:
    """Reads the answers in logs.

    Args:
        path: A log, or a folder with the logs of one model.

    Raises:
        UserError: There is no such file, no log in the folder, a file is no log, or several models are logged.
    """
    if not path.exists():
        raise UserError(f"There are no logs at {str(path)!r}: correct the path.")
    files = [path] if path.is_file() else _files(path)
    if not files:
        raise UserError(
            f"The folder {str(path)!r} holds no log: it needs inspect_ai's .json or .eval, or lm-eval's {_SAMPLES}."
        )
    rows: list[_Row | str] = []
    models: dict[str, None] = {}
    for file in files:
        model, own = _lm_eval(file) if file.suffix == ".jsonl" else _inspect(file)
        models[model] = None
        rows += own
    if len(models) > 1:
        raise UserError(f"The folder {str(path)!r} has logs of {', '.join(models)}: name the logs of one model.")
    return LoggedAnswers(next(iter(models)), rows)


def _files(folder: Path) -> list[Path]:
    if (folder / "config.json").exists():
        return []  # A model; its JSON files are no logs.
    found = [*folder.rglob(_SAMPLES), *folder.rglob("*.eval"), *filter(_looks_like_inspect, folder.rglob("*.json"))]
    return sorted(found)


def _looks_like_inspect(path: Path) -> bool:
    try:
        return _is_inspect(json.loads(path.read_bytes()))
    except (OSError, ValueError, RecursionError):
        return False


def _is_inspect(log: Any) -> bool:
    return isinstance(log, dict) and isinstance(log.get("eval"), dict) and isinstance(log.get("samples", []), list)


def _prompt_of(row: _Row, by_id: Mapping[tuple[str, str], str], texts: set[str]) -> str | None:
    code = None
    if row.language is not None:
        try:
            code = resolve_language(row.language).code
        except UserError:
            # A name of the log's own: the text decides.
            code = None
    named = by_id.get((code, row.id)) if code is not None and row.id is not None else None
    if named is not None and any(named in prompt for prompt in row.prompts):
        return named
    return next((prompt for prompt in row.prompts if prompt in texts), None)


def _inspect(path: Path) -> tuple[str, list[_Row | str]]:
    try:
        header, samples = _unzipped(path) if zipfile.is_zipfile(path) else _plain(path)
    except NotImplementedError:
        raise UserError(
            f"The log {str(path)!r} is packed in a way that Python cannot unpack: write it as JSON "
            "(inspect log convert --to json)."
        ) from None
    except (OSError, ValueError, KeyError, RecursionError, zipfile.BadZipFile):
        raise UserError(f"The file {str(path)!r} is no log of inspect_ai: name another one.") from None
    return str(header["eval"].get("model") or path.stem), [_inspect_row(sample) for sample in samples]


def _plain(path: Path) -> tuple[dict[str, Any], list[Any]]:
    log = json.loads(path.read_bytes())
    if not _is_inspect(log):
        raise ValueError("no log")
    return log, log.get("samples") or []


def _unzipped(path: Path) -> tuple[dict[str, Any], list[Any]]:
    with zipfile.ZipFile(path) as archive:
        names = sorted(name for name in archive.namelist() if name.startswith("samples/") and name.endswith(".json"))
        header = json.loads(archive.read("header.json"))
        if not _is_inspect(header):
            raise ValueError("no log")
        return header, [_entry(archive.read(name)) for name in names]


def _inspect_row(sample: Any) -> _Row | str:
    if not isinstance(sample, dict):
        return UNREADABLE
    output, facts = sample.get("output"), sample.get("metadata")
    if sample.get("error") or not isinstance(output, dict):
        return FAILED
    facts = facts if isinstance(facts, dict) else {}
    choices = output.get("choices")
    first = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else None
    if first is None or not isinstance(first.get("message"), dict):
        return FAILED
    answer = _content(first["message"].get("content"))
    if answer is None:
        return NO_ANSWER
    return _Row(
        _present([facts.get("prompt"), _asked(sample.get("input"))]),
        answer,
        _FINISH.get(str(first.get("stop_reason")), "stop"),
        _name(facts.get("id", sample.get("id"))),
        _name(facts.get("language")),
    )


def _lm_eval(path: Path) -> tuple[str, list[_Row | str]]:
    try:
        lines = [line for line in path.read_bytes().split(b"\n") if line.strip()]
    except OSError:
        raise UserError(f"The log {str(path)!r} cannot be read: check its rights.") from None
    entries = [_entry(line) for line in lines]
    if not any(isinstance(entry, dict) and "resps" in entry for entry in entries):
        raise UserError(f"The file {str(path)!r} is no log of lm-eval, whose rows have 'resps': name another one.")
    return _lm_eval_model(path), [_lm_eval_row(entry) for entry in entries]


def _lm_eval_model(path: Path) -> str:
    """As the results beside the samples call it; else the folder, which lm-eval names after the model."""
    for results in sorted(path.parent.glob(_RESULTS)):
        found = _entry(results.read_bytes())
        if isinstance(found, dict) and isinstance(found.get("model_name"), str) and found["model_name"]:
            return str(found["model_name"])
    return path.resolve().parent.name


def _lm_eval_row(entry: Any) -> _Row | str:
    if not isinstance(entry, dict) or not isinstance(entry.get("doc"), dict):
        return UNREADABLE
    answer = _first_text(entry.get("resps"))
    if answer is None:
        return NO_ANSWER
    facts = entry["doc"]
    return _Row(
        _present([facts.get("prompt"), *_arguments(entry.get("arguments"))]),
        answer,
        "stop",
        _name(facts.get("id")),
        _name(facts.get("language")),
    )


def _first_text(responses: Any) -> str | None:
    """The first text of the first request; None for likelihoods, which are lists once more."""
    first = responses[0] if isinstance(responses, list) and responses else None
    text = first[0] if isinstance(first, list) and first else first
    return text if isinstance(text, str) else None


def _arguments(arguments: Any) -> list[str | None]:
    """The first argument of the first request: a text, or a conversation as JSON."""
    first = next(iter(arguments.values()), None) if isinstance(arguments, dict) else arguments
    while isinstance(first, (list, dict)) and first:
        first = first.get("arg_0") if isinstance(first, dict) else first[0]
    if not isinstance(first, str):
        return []
    return [first, _asked(_entry(first.encode()))]


def _asked(given: Any) -> str | None:
    """What a person asked last, in a text or a conversation."""
    if isinstance(given, str):
        return given
    if not isinstance(given, list):
        return None
    asked = [one for one in given if isinstance(one, dict) and one.get("role") == "user"]
    return _content(asked[-1].get("content")) if asked else None


def _content(content: Any) -> str | None:
    """The text of a message, without its thoughts and pictures; None if it has no content that is one."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return None
    parts = [one.get("text") for one in content if isinstance(one, dict) and one.get("type") == "text"]
    return "\n".join(part for part in parts if isinstance(part, str))


def _present(texts: Iterable[Any]) -> tuple[str, ...]:
    return tuple(text for text in texts if isinstance(text, str) and text.strip())


def _name(value: Any) -> str | None:
    return str(value) if isinstance(value, (str, int)) and not isinstance(value, bool) else None


def _entry(line: bytes) -> Any:
    """What a line says; None if it is no JSON."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None
