"""What methods make their models of, compared with what these are measured on."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from flows.configuration.pipeline import PipelineConfig
from flows.showing import show_filter
from flows.steps.checking import check_left_out, check_overlap
from flows.steps.futures import Future
from flows.steps.translating import fall_back, filter_all, measure_all, translate_all
from mlc.methods import in_order
from mlc.methods.needs import require_data, translated_columns
from tasks.answers import join_answers, take_answers
from tasks.dataset import build_dataset
from tasks.overlap import separate
from tasks.own_answers import answer_prompts
from tasks.runtime.artifacts import PROMPTS_FILE, HeldOut, left_out_of, read_rows
from tasks.runtime.models import Model
from tasks.runtime.run import Run
from tasks.unpaired import take_unpaired


@dataclass(frozen=True)
class TrainingData:
    """What methods make their models of."""

    prompts: Future
    """Prompts with their answers, in the anchor language."""
    verdicts: Mapping[str, Future]
    """Their translations by language, with the filter's verdicts; none if no method needs them."""
    joined: Future | None
    """The prompts with the kept translations of all languages."""
    unpaired: Future | None = None
    """The prompts, and after them those of other languages that stand beside none; none if no method needs them."""
    answered: Mapping[tuple[str, ...], Future] = field(default_factory=dict)
    """``joined`` with translated answers, by the columns that are translated, for the methods that need them."""
    own: dict[str, dict[str, Future]] = field(default_factory=dict)
    """What single methods make of them to train on, by method and by what it is called; filled while they do."""
    overlaps: dict[str, Future] = field(default_factory=dict)
    """What of their own material is held out as well, by what is compared; filled while they do."""

    @property
    def sets(self) -> dict[str, Future]:
        """All of them by what they are called."""
        found = {"prompts": self.prompts, "training set": self.joined, "prompts of all languages": self.unpaired}
        found |= {f"training set with {' and '.join(names)} answers": own for names, own in self.answered.items()}
        return {name: own for name, own in found.items() if own is not None}


def take_all_unpaired(
    run: Run, config: PipelineConfig, held_out: Mapping[str, HeldOut], references: Collection[str]
) -> tuple[dict[str, Future], dict[str, Future], dict[str, Future]]:
    """The prompts of other languages that stand beside none, checked as all others.

    Returns:
        What is trained on, by language; what the report reads of it, by name; what overlaps, by language.
    """
    methods = in_order(config.models)
    readers = [method for method in methods if method.reads_unpaired]
    pairs = [method.name for method in methods if config.translates(method)]
    found, read, overlaps = {}, {}, {}
    for language in config.prompts.unpaired:
        own = take_unpaired.submit(run, language, config.prompts)
        rows = read_rows(run.store.folder(own.result()) / PROMPTS_FILE)
        require_data(rows, left_out_of(run.store, own.result()), readers, config.align)
        if pairs and language not in config.paired_languages:
            run.display.note(
                f"{language}: its {len(rows)} prompts stand beside none in {config.anchor_language}, so that the "
                f"language is left out of {', '.join(pairs)}."
            )
        found[language] = read[f"unpaired prompts {language}"] = own
        if language in references:
            overlap = separate.submit(run, own, held_out[language].texts, config.prompts, language)
            check_overlap(run, config, overlap.result(), language)
            overlaps[language] = overlap
            found[language] = overlap if config.prompts.remove_overlap else own
    return found, read, overlaps


def separate_feedback(
    run: Run, config: PipelineConfig, feedback: Future, about: str, held_out: Mapping[str, HeldOut]
) -> tuple[Future, dict[str, Future]]:
    """The feedback, compared with the held-out prompts of every language as training prompts are; and what overlaps."""
    check_left_out(run, config, feedback.result())
    found = {}
    for language, own in held_out.items():
        subject = f"feedback {about} {language}"
        overlap = separate.submit(run, feedback, own.texts, config.prompts, subject=subject)
        check_overlap(run, config, overlap.result(), subject, within=False)
        found[f"feedback {language}"] = overlap
        feedback = overlap if config.prompts.remove_overlap else feedback
    return feedback, found


def join(run: Run, config: PipelineConfig, prompts: Future, verdicts: Mapping[str, Future]) -> Future | None:
    """The training set over all languages, where any method needs translations."""
    if not verdicts:
        return None
    show_filter(run)
    joined = build_dataset.submit(run, prompts, verdicts, config.dataset, config.anchor_language)
    joined.result()
    return joined


def answer_columns(config: PipelineConfig) -> list[tuple[str, ...]]:
    """Columns of given answers that methods need in every language: each set of them once."""
    methods = [method for method in in_order(config.models) if method.translates_answers and not method.own_answers]
    return list(dict.fromkeys(translated_columns(method, config.align) for method in methods))


def translate_answers(
    run: Run, config: PipelineConfig, prompts: Future, joined: Future
) -> dict[tuple[str, ...], Future]:
    """The training set with translated answers, by their columns, where methods need it: one for all that need alike.

    Each column is translated by itself, so that a method that needs one more changes nothing for the others.
    """
    wanted = answer_columns(config)
    columns = sorted({column for columns in wanted for column in columns})
    verdicts = {
        column: answers_in_all_languages(run, config, prompts, column, f"{column} answers") for column in columns
    }
    return {
        columns: join_answers.submit(
            run, joined, {column: verdicts[column] for column in columns}, f"{' and '.join(columns)} answers"
        )
        for columns in wanted
    }


def answers_in_all_languages(
    run: Run, config: PipelineConfig, prompts: Future, column: str, about: str
) -> dict[str, Future]:
    """Verdicts on translated answers by language: they are translated, measured and filtered as prompts are."""
    taken = take_answers.submit(run, prompts, column, about)
    translations = translate_all(run, config, taken, config.paired_languages, subject=about)
    signals = measure_all(run, config, translations, about)
    return fall_back(run, config, filter_all(run, config, signals, about), about)


def with_own_answers(
    run: Run, config: PipelineConfig, start: Model, data: TrainingData, learner: str
) -> tuple[Future, Future]:
    """A model's own answers, and the training set with them in every language, in place of those that were given."""
    own = answer_prompts.submit(run, start, data.prompts, config.align.max_answer_tokens, learner)
    about = f"answers of {start.label}"
    joined = build_dataset.submit(run, own, data.verdicts, config.dataset, config.anchor_language, about)
    verdicts = {"chosen": answers_in_all_languages(run, config, own, "chosen", about)}
    return own, join_answers.submit(run, joined, verdicts, about)
