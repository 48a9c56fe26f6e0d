"""`mlc evaluate`: what any model answers to a suite, judged, in every language, without training anything."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from flows.terminal import completion
from flows.terminal.display import named_bars
from flows.terminal.options import (
    DeviceOption,
    JsonOption,
    PickleOption,
    TemplateOption,
    found_policy,
    judge_entries,
    short_name,
    writable,
)
from flows.terminal.output import print_json, results, shown, terminal
from flows.terminal.quiet import be_quiet
from flows.terminal.stopped import stop_softly, told_when_stopped
from mlc.choices import words_of
from mlc.errors import UserError
from mlc.stopping import ShouldStop

if TYPE_CHECKING:
    from mlc.evaluation.ability import Ability
    from mlc.evaluation.choosing import Chosen
    from mlc.evaluation.engines.protocol import AnswerEngine
    from mlc.evaluation.gate.settings import GateSettings
    from mlc.evaluation.harness import Harness
    from mlc.evaluation.measuring import Measured
    from mlc.evaluation.skills import Skill
    from mlc.evaluation.suites.loading import LoadedSuite

DEFAULT_JUDGE = "rules"
"""The judge, if none is named."""
GATE_FAILED = 3
"""Exit code where the policy of a gate is not kept."""
KEY_VARIABLE = "MLC_MODEL_KEY"
"""Environment variable that holds the key of the endpoint; none is sent where it is not set."""
EXAMPLES = (
    "mlc evaluate shipped:tiny --languages es,sw --answers 8",
    "mlc evaluate my-model --endpoint http://127.0.0.1:8000/v1 --suite xstest",
    "mlc evaluate --from-log logs/ --judge rules --gate strict",
)


def command(
    model: Annotated[
        str | None,
        typer.Argument(
            help="A folder, a hub id, package:NAME or shipped:NAME; with --endpoint its name there; with --from-log "
            "what to call it, the log's name if left out."
        ),
    ] = None,
    suites: Annotated[
        list[str] | None,
        typer.Option(
            "--suite",
            help="A shipped suite or a YAML file; several: xstest,multijail. quickstart if left out.",
            autocompletion=completion.suites,
        ),
    ] = None,
    languages: Annotated[
        list[str] | None,
        typer.Option(
            "--languages",
            "-l",
            help="Languages to ask in: es,sw; all that the suite has if left out.",
            autocompletion=completion.languages,
        ),
    ] = None,
    judges: Annotated[
        list[str] | None,
        typer.Option(
            "--judge", "-j", help="As in `mlc judge`; the first one decides. rules.", autocompletion=completion.judges
        ),
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", "-s", help="A setting of the judge, such as strict=false; repeatable.")
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            help="Another model of the same kind, the folder of an earlier evaluation, or logs as in --from-log."
        ),
    ] = None,
    from_log: Annotated[
        Path | None,
        typer.Option(help="Ask nothing: judge the answers in a log, or folder of logs, of inspect_ai or lm-eval."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for figures, report and answers; evaluation-MODEL.")] = None,
    answers: Annotated[str, typer.Option(help="Prompts a language: all, or so many, half of them harmful.")] = "all",
    endpoint: Annotated[
        str | None, typer.Option(help="Server that runs the model, such as http://127.0.0.1:8000/v1.")
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, max=256, help="Requests to the endpoint at once.")] = 4,
    suite_path: Annotated[
        Path | None, typer.Option(help="A local copy of the suite's file or folder; else MLC_SUITES, else its source.")
    ] = None,
    answer_tokens: Annotated[
        int | None, typer.Option(min=1, help="Longest answer, in tokens; 128 if left out.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Prompts that are answered together.")] = 20,
    allow_pickle: PickleOption = False,
    template: TemplateOption = None,
    device: DeviceOption = "auto",
    export: Annotated[
        str | None,
        typer.Option(help="Measure nothing: write the suite as a task of inspect or lm-eval into the folder of --out."),
    ] = None,
    mix: Annotated[
        int | None,
        typer.Option(min=1, help="Also ask so many prompts whose parts alternate between the languages asked in."),
    ] = None,
    neutral: Annotated[
        str | None,
        typer.Option(
            help="Also measure bits per character of neutral texts: suite for its harmless prompts, or a table with "
            "text and language."
        ),
    ] = None,
    choices: Annotated[
        str | None,
        typer.Option(
            help="Also measure choice of two, as in XCOPA: a table with premise, choice1, choice2, question, label and "
            "language."
        ),
    ] = None,
    harness: Annotated[
        list[str] | None,
        typer.Option("--harness", help="Also run tasks of lm-evaluation-harness: arc_easy,hellaswag."),
    ] = None,
    gate: Annotated[
        str | None,
        typer.Option(
            help="Also decide by the policy of a gate, such as strict or own.yaml; exit code 3 if it fails. The model "
            "of --against is base, baseline and champion.",
            autocompletion=completion.gates,
        ),
    ] = None,
    texts: Annotated[
        bool, typer.Option("--texts", help="Prompts and answers in the report page too, behind a switch that is off.")
    ] = False,
    power: Annotated[bool, typer.Option("--power", help="Also say which differences so many prompts show.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Measure refusal and over-refusal of a model.

    In every language, with intervals; nothing is trained. An evaluation that was stopped goes on where it was.
    Texts are in the folder private, which only you can read.
    """
    be_quiet()
    from mlc.evaluation.logs import is_log, read_logs
    from mlc.evaluation.measuring import ANSWER_TOKENS, decide, is_measured, measure, read_measured
    from mlc.report.measured import RECORD_FILE, plain_metrics, private_folder, require_same, write_measured
    from mlc.store.drafts import open_private

    if from_log is not None and (endpoint is not None or export is not None):
        raise UserError("Answers of a log are asked of nobody: leave out --endpoint and --export, or --from-log.")
    abilities = _Abilities(neutral, choices, words_of(harness or ()))
    if abilities.wanted and (endpoint is not None or from_log is not None):
        raise UserError(
            "General ability is measured with the model itself: leave out --neutral, --choices and --harness, or name "
            "a local model."
        )
    policy = _policy(gate) if gate is not None else None
    logged = read_logs(from_log) if from_log is not None else None
    model = model or (logged.model if logged else None)
    if model is None:
        raise UserError("There is nothing to evaluate: name a model, or logs with --from-log.")
    suite = _suite(words_of(suites or ()), suite_path, words_of(languages or ()) or None, _count(answers))
    if mix is not None and export is not None:
        raise UserError("Mixed prompts are judged here alone: leave out --mix or --export.")
    unmixed = suite
    if mix is not None:
        from mlc.evaluation.suites.mixing import mix_suite

        suite = mix_suite(suite, mix)
    folder = writable(out or Path(f"evaluation-{short_name(model)}"))
    if export is not None:
        _export(suite, export, folder, words_of(judges or ()), answer_tokens or ANSWER_TOKENS, model)
        return
    private = private_folder(folder)
    stopping = threading.Event()
    chosen = _judges(words_of(judges or ()), settings or [], private, stopping.is_set)
    record = private / RECORD_FILE
    open_private(record, "a").close()
    earlier = Path(against) if against is not None and is_measured(Path(against)) else None
    other = read_logs(Path(against)) if against is not None and not earlier and is_log(Path(against)) else None
    # Rows of logs that have no prompt in the suite are told beside those of the suite itself.
    said, suite = logged.match(suite) if logged else (None, suite)
    if abilities.wanted and other:
        raise UserError(
            "Logs hold no general ability to compare with: leave out --neutral, --choices and --harness, or name a "
            "model."
        )
    if model == against:
        raise UserError(f"The model {model!r} would be held against itself: name another one with --against.")
    if earlier:
        require_same(earlier, suite, chosen[0].label)
    abilities.prepare(unmixed)
    if earlier:
        abilities.read(earlier, str(against))

    def engine(name: str) -> "AnswerEngine":
        if endpoint is not None:
            return _http(name, endpoint, concurrency, answer_tokens or ANSWER_TOKENS)
        from mlc.devices import pick_device
        from mlc.evaluation.engines.transformers import TransformersEngine
        from mlc.evaluation.suites.mixing import MIXED
        from mlc.gating.engine import behind_its_gate
        from mlc.models.encoders import unknown_language
        from mlc.models.loading import load_policy

        source = found_policy(name, allow_pickle=allow_pickle, template=template)
        policy = load_policy(source, device=pick_device(device), encodes=not abilities.wanted)
        for code in sorted(set(suite.prompts) - {MIXED}):
            if sentence := unknown_language(policy.tokenizer, code):
                terminal.print(shown(sentence), highlight=False, soft_wrap=True)
        alone = TransformersEngine(policy, max_new_tokens=answer_tokens or ANSWER_TOKENS, batch_size=batch_size)
        behind = behind_its_gate(alone)
        if behind is not alone:
            terminal.print(f"{shown(name)} stands behind the gate in its folder, which is asked first.", soft_wrap=True)
        return behind

    with told_when_stopped(terminal), named_bars(terminal) as bar:

        def measured(name: str, log: "tuple[AnswerEngine, LoadedSuite] | None" = None) -> "Measured":
            loaded, asked = log or (engine(name), suite)
            kept = None if log else record
            with stop_softly(stopping, terminal):
                abilities.add(loaded, name, stopping.is_set)
                return measure(loaded, asked, chosen, model=name, record=kept, bar=bar, should_stop=stopping.is_set)

        every = [measured(model, (said, suite) if said else None)]
        if against is not None and earlier:
            every.append(read_measured(earlier, against))
        elif against is not None:
            every.append(measured(against, other.match(suite) if other else None))
    names = [one.label for one in chosen]
    plain = plain_metrics(suite, names, every)
    plain |= abilities.write(folder)
    decision = decide(every, suite, policy) if policy else None
    if decision:
        plain["gate"] = decision.plain()
    write_measured(folder, suite, names, every, plain, texts=texts)
    if as_json:
        print_json(plain)
    else:
        _show(plain, suite, folder, power)
    if decision and not decision.passed:
        raise typer.Exit(GATE_FAILED)


def _show(plain: dict[str, Any], suite: "LoadedSuite", folder: Path, power: bool) -> None:
    from flows.terminal.gate_tables import show_gate
    from flows.terminal.outcome_tables import show_metrics

    show_metrics(plain, results, power=power)
    if decision := plain.get("gate"):
        word = "passed" if decision["passed"] else "failed"
        results.print(f"Gate {shown(decision['policy'])}: {word}", highlight=False)
        show_gate(decision["checks"], results)
    for reason, rows in suite.set_aside.items():
        results.print(f"Set aside, {rows:,}: {shown(reason)}.", highlight=False, soft_wrap=True)
    results.print(f"Figures, report and outcomes: {shown(folder)}", highlight=False, soft_wrap=True)


def _policy(location: str) -> "GateSettings":
    from flows.configuration.sections import read_gate

    return read_gate(location)


def _suite(names: list[str], copy: Path | None, languages: list[str] | None, count: int | None) -> "LoadedSuite":
    from mlc.evaluation.suites.finding import DEFAULT_SUITE, find_suite, local_copy
    from mlc.evaluation.suites.loading import join_suites, load_suite

    names = names or [DEFAULT_SUITE]
    if copy is not None and len(names) > 1:
        raise UserError(f"The copy {str(copy)!r} is of one suite, and {len(names)} are named: name one.")
    if copy is not None and not copy.exists():
        raise UserError(f"There is no copy of the suite at {str(copy)!r}: correct the path, or leave it out.")
    found = []
    for name in names:
        settings, base = find_suite(name, Path.cwd())
        found.append(load_suite(settings, base, local=copy or local_copy(settings.name)))
    return join_suites(found).take(languages, count)


class _Abilities:
    """General ability, model after model; nothing happens where nothing of it is wanted.

    Args:
        neutral: Says where neutral texts are.
        choices: Says where choices of two are.
        tasks: Of lm-evaluation-harness.
    """

    def __init__(self, neutral: str | None, choices: str | None, tasks: Sequence[str]) -> None:
        self.neutral, self.choices, self.tasks = neutral, choices, tasks
        self.skills: dict[str, list[Skill]] = {}
        self.read_skills: dict[str, list[Skill]] = {}
        self.found: list[Ability] = []
        self.earlier: list[Ability] = []
        self.aside: dict[str, int] = {}

    @property
    def wanted(self) -> bool:
        """Whether anything is to be measured."""
        return bool(self.neutral or self.choices or self.tasks)

    def prepare(self, suite: "LoadedSuite") -> None:
        """Reads the tables, so that what is wrong with them is told before any work.

        Args:
            suite: Says the languages of neutral texts.
        """
        if self.tasks:
            from mlc.evaluation.settings import AbilitySettings

            try:
                AbilitySettings(harness=tuple(self.tasks))
            except ValueError:
                raise UserError(
                    "Tasks of lm-evaluation-harness need the package lm-eval, which is not installed: install it, or "
                    "leave out --harness."
                ) from None
        if self.neutral is not None:
            from mlc.evaluation.ability import neutral_texts

            self.texts, aside = neutral_texts(self.neutral, suite)
            self.aside = dict(aside)
        if self.choices is not None:
            from mlc.evaluation.choices import read_choices

            self.asked, self.choices_aside = read_choices(self.choices)

    def add(self, engine: "AnswerEngine", model: str, should_stop: ShouldStop) -> None:
        """Measures a local model."""
        if not self.wanted:
            return
        from mlc.evaluation.engines.transformers import TransformersEngine

        policy = cast(TransformersEngine, engine).policy
        skills = self.skills.setdefault(model, [])
        if self.neutral is not None:
            from mlc.evaluation.ability import measure_ability, neutral_skills

            self.found.append(measure_ability(policy, self.texts, model=model, should_stop=should_stop))
            skills += neutral_skills(self.found[-1])
        if self.choices is not None:
            from mlc.evaluation.choices import measure_choices

            skills += measure_choices(policy, self.asked, should_stop=should_stop)
        if self.tasks:
            from mlc.evaluation.harnessed import measure_tasks

            skills += measure_tasks(policy, self.tasks)

    def read(self, folder: Path, model: str) -> None:
        """Takes what an earlier evaluation measured."""
        if not self.wanted:
            return
        from mlc.report.measured import earlier_skills

        self.read_skills[model] = earlier_skills(folder)
        if self.neutral is not None:
            from mlc.evaluation.ability import read_ability

            self.earlier.append(read_ability(folder, model))

    def write(self, folder: Path) -> dict[str, Any]:
        """Writes what every text costs, and gives the figures as plain data."""
        if not self.wanted:
            return {}
        from mlc.evaluation.skills import plain_skills

        skills = {**self.skills, **self.read_skills}
        plain: dict[str, Any] = {"ability": plain_skills(skills)}
        if self.choices is not None:
            plain["choices"] = {"table": self.choices, "set_aside": dict(self.choices_aside)}
        if self.neutral is not None:
            from mlc.evaluation.ability import plain_ability, write_abilities

            every = [*self.found, *self.earlier]
            write_abilities(folder, every)
            plain["neutral"] = {**plain_ability(self.neutral, every), "set_aside": self.aside}
        return plain


def _judges(names: list[str], settings: list[str], private: Path, should_stop: ShouldStop) -> "list[Chosen]":
    from flows.configuration.overrides import parse_overrides
    from mlc.evaluation.choosing import Surroundings, choose
    from mlc.report.measured import REPLIES_FOLDER

    entries = judge_entries(names or [DEFAULT_JUDGE], parse_overrides(settings))
    return choose(entries, Surroundings(private / REPLIES_FOLDER, should_stop))


def _http(model: str, endpoint: str, concurrency: int, tokens: int) -> "AnswerEngine":
    from mlc.chat.client import Server
    from mlc.evaluation.engines.http import HttpEngine

    server = Server(endpoint, model, KEY_VARIABLE, concurrency, ("--endpoint", "MODEL"))
    return HttpEngine(server, max_new_tokens=tokens)


def _count(answers: str) -> int | None:
    if answers == "all":
        return None
    if not answers.isdecimal() or int(answers) < 1:
        raise UserError(
            f"The number of answers {answers!r} is neither all nor a whole number from 1: give --answers 20."
        )
    return int(answers)


def _export(
    suite: "LoadedSuite", harness: str, folder: Path, judges: list[str], answer_tokens: int, model: str
) -> None:
    from mlc.evaluation.harness import export_suite

    judge = (judges or [DEFAULT_JUDGE])[0]
    told = export_suite(suite, cast("Harness", harness), folder, judge=judge, answer_tokens=answer_tokens)
    model_option = f"--model hf/{model}" if harness == "inspect" else f"--model hf --model_args pretrained={model}"
    results.print(f"{shown(told)} {shown(model_option)}", highlight=False, soft_wrap=True)
