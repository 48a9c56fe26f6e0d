"""Prompts and answers in every language: translated, measured, filtered, and asked for again elsewhere."""

from collections.abc import Collection, Mapping

from flows.configuration.pipeline import PipelineConfig
from flows.steps.checking import check_left_out
from flows.steps.futures import Future
from mlc.methods import in_order
from tasks.filter import filter_translations
from tasks.model_signals import join_model_signals, measure_model_signals, measure_model_signals_shard, signal_shards
from tasks.parallel import take_parallel
from tasks.runtime.run import Run
from tasks.signals import measure_signals
from tasks.translate import join_translations, prompt_shards, retranslate, translate, translate_shard


def translated_languages(config: PipelineConfig, references: Collection[str]) -> tuple[str, ...]:
    """Languages of which the translator has to know something: training prompts, or held-out ones."""
    given = {*config.prompts.parallel, *config.prompts.unpaired}.intersection(references)
    if any(method.translates_answers for method in in_order(config.models)):
        given = given.difference(config.paired_languages)
    trained = [language for language in config.languages if language not in given]
    return (*trained, *(code for code in config.unseen_languages if code not in references))


def in_all_languages(run: Run, config: PipelineConfig, prompts: Future) -> dict[str, Future]:
    """The training prompts in every language: those that people wrote where there are some, else translations."""
    parallel = config.prompts.parallel
    given = {
        language: take_parallel.submit(run, prompts, language, config.prompts, config.anchor_language)
        for language in parallel
    }
    for own in given.values():
        check_left_out(run, config, own.result())
    machine = tuple(language for language in config.paired_languages if language not in parallel)
    found = translate_all(run, config, prompts, machine) | given
    return {language: found[language] for language in config.paired_languages}


def translate_all(
    run: Run, config: PipelineConfig, prompts: Future, languages: tuple[str, ...], subject: str = "prompts"
) -> dict[str, Future]:
    """One translation a language; whichever comes first reads the prompts for all of them.

    Where they are cut into shards, there is one task a shard and language, and one a language that joins them.
    """
    rows, settings, anchor = config.translator.shard_rows, config.translator.first, config.anchor_language
    shards = prompt_shards(run, prompts.result(), rows) if rows and languages else []
    if not shards:
        return {
            language: translate.submit(
                run, prompts, language, settings, subject=subject, together=languages, source=anchor
            )
            for language in languages
        }
    parts = {
        language: [
            translate_shard.submit(
                run,
                prompts,
                shard,
                content,
                language,
                settings,
                subject=shard.subject(None if subject == "prompts" else subject),
                together=languages,
                source=anchor,
            )
            for shard, content in shards
        ]
        for language in languages
    }
    return {
        language: join_translations.submit(run, own, language, settings, subject=subject, source=anchor)
        for language, own in parts.items()
    }


def fill_gaps(run: Run, config: PipelineConfig, language: str, translations: Future) -> Future:
    """Held-out prompts that a translator refused, by the fallbacks for the language."""
    for number, fallback in config.translator.after_it(language):
        subject = f"held-out fallback {number}"
        translations = retranslate.submit(
            run, translations, language, fallback, number, subject, config.anchor_language
        )
    return translations


def measure_all(
    run: Run, config: PipelineConfig, translations: dict[str, Future], about: str | None = None
) -> dict[str, Future]:
    """The signals of the translations; those that need the translator, where the configuration asks for some."""
    signals = {
        language: measure_signals.submit(run, future, language, config.quality, subject=about)
        for language, future in translations.items()
    }
    if not config.quality.model_signals:
        return signals
    return {language: ask_about(run, config, future, language, about) for language, future in signals.items()}


def ask_about(run: Run, config: PipelineConfig, signals: Future, language: str, about: str | None) -> Future:
    """The signals that need the translator, of one language: in one task, or in one a shard and one that joins them."""
    quality, translator, anchor = config.quality, config.translator.first, config.anchor_language
    rows = config.translator.shard_rows
    shards = signal_shards(run, signals.result(), rows) if rows else []
    if not shards:
        return measure_model_signals.submit(run, signals, language, quality, translator, subject=about, source=anchor)
    parts = [
        measure_model_signals_shard.submit(
            run, signals, shard, language, quality, translator, subject=about, source=anchor
        )
        for shard in shards
    ]
    return join_model_signals.submit(run, signals, parts, language, quality, translator, subject=about, source=anchor)


def filter_all(
    run: Run, config: PipelineConfig, signals: Mapping[str, Future], about: str | None = None
) -> dict[str, Future]:
    """One verdict on every translation."""
    return {
        language: filter_translations.submit(
            run,
            future,
            language,
            config.quality,
            last=not config.translator.after_it(language),
            source=config.anchor_language,
            about=about,
        )
        for language, future in signals.items()
    }


def fall_back(
    run: Run, config: PipelineConfig, verdicts: Mapping[str, Future], about: str | None = None
) -> dict[str, Future]:
    """The verdicts after the fallbacks: each is asked for what has no translation yet that the filter keeps."""
    better, anchor = dict(verdicts), config.anchor_language
    for language in verdicts:
        chain = config.translator.after_it(language)
        for number, fallback in chain:
            subject = f"{about} fallback {number}" if about else f"fallback {number}"
            again = retranslate.submit(run, better[language], language, fallback, number, subject, anchor)
            signals = measure_signals.submit(run, again, language, config.quality, subject=subject)
            if config.quality.model_signals:
                signals = measure_model_signals.submit(
                    run, signals, language, config.quality, config.translator.first, subject=subject, source=anchor
                )
            better[language] = filter_translations.submit(
                run,
                signals,
                language,
                config.quality,
                earlier=better[language],
                number=number,
                last=number == chain[-1][0],
                source=anchor,
                about=about,
            )
    return better
