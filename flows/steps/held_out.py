"""What models are measured on: the held-out prompts and those of suites, in every language."""

from collections.abc import Collection, Mapping
from pathlib import Path

from flows.configuration.pipeline import PipelineConfig
from flows.steps.checking import check_overlap
from flows.steps.futures import Future
from flows.steps.translating import fill_gaps, translate_all
from mlc.errors import UserError
from mlc.evaluation.suite import reference_languages
from mlc.evaluation.suites.loading import suite_languages
from mlc.shipped import resolve_path
from tasks.ingest import ingest_suite
from tasks.overlap import separate
from tasks.runtime.artifacts import HeldOut
from tasks.runtime.run import Run
from tasks.suite import take_suite

Suites = Mapping[str, Mapping[str, HeldOut]]
"""The prompts of suites, by name and language."""


def human_references(config: PipelineConfig) -> frozenset[str]:
    """Languages whose held-out prompts have human translations."""
    folder = config.evaluation.references
    return reference_languages(
        resolve_path(folder, Path.cwd()) if folder else None, config.measured_languages, anchor=config.anchor_language
    )


def ingest_held_out(run: Run, config: PipelineConfig, suite: Future, references: Collection[str]) -> dict[str, HeldOut]:
    """The held-out prompts in every language: human references where there are some, else machine translations."""
    anchor = config.anchor_language
    human = tuple(language for language in config.measured_languages if language in references)
    machine = tuple(language for language in config.measured_languages if language not in references)
    texts = {language: ingest_suite.submit(run, config.evaluation, language, anchor) for language in human}
    translations = translate_all(run, config, suite, machine, subject="held-out")
    texts |= {language: fill_gaps(run, config, language, future) for language, future in translations.items()}
    held_out = {anchor: HeldOut(suite, suite)}
    return held_out | {language: HeldOut(suite, texts[language]) for language in config.measured_languages}


def take_suites(run: Run, config: PipelineConfig) -> Suites:
    """The prompts of each suite in the measured languages that it has."""
    found: dict[str, dict[str, HeldOut]] = {}
    wanted = (config.anchor_language, *config.measured_languages)
    for name, location in config.suites.items():
        there = suite_languages(location, Path.cwd())
        codes = [code for code in wanted if code in there]
        if not codes:
            raise UserError(
                f"The suite {name!r} in evaluation.suites is in {', '.join(there)}, and none of them is measured: take "
                "it out, or add a language to evaluation.languages."
            )
        taken = {code: take_suite.submit(run, name, location, code, config.evaluation.limit) for code in codes}
        found[name] = {code: HeldOut(own, own) for code, own in taken.items()}
    return found


def separate_suites(
    run: Run, config: PipelineConfig, prompts: Future, suites: Suites
) -> tuple[Future, dict[str, Future]]:
    """The training prompts without those of suites, where that is asked, and what overlaps; in the anchor language."""
    found = {}
    for name, asked in suites.items():
        if config.anchor_language not in asked:
            continue
        subject = f"suite {name}"
        own = separate.submit(run, prompts, asked[config.anchor_language].suite, config.prompts, subject=subject)
        check_overlap(run, config, own.result(), subject, within=False)
        found[subject] = own
        prompts = own if config.prompts.remove_overlap else prompts
    return prompts, found
