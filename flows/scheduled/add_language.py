"""One more language for what is there, as a flow with a form."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from prefect import flow
from prefect.runtime import flow_run
from pydantic import Field

from flows.align_flow import align, settings_meant
from flows.configuration.pipeline import PipelineConfig
from flows.notifying import telling_every_end
from mlc.languages import resolve_language


def _run_name() -> str:
    code = resolve_language(flow_run.parameters["language"]).code
    return f"add language · {code.split('_')[0]}"


def _meant(given: Mapping[str, Any]) -> PipelineConfig:
    """The configuration that the parameters of a flow run mean."""
    return settings_meant({**given, "languages": with_language(given.get("languages") or [], given["language"])})


@flow(name="add-language", flow_run_name=_run_name, **telling_every_end(_meant))
def add_language(
    language: Annotated[
        str,
        Field(title="Language", description="A name, a tag or an NLLB code: Hindi, hi, hin_Deva.", min_length=2),
    ],
    config: str | dict[str, Any] = "quickstart",
    languages: list[str] | None = None,
    workspace: str | None = None,
    hours: float | None = None,
) -> dict[str, Any]:
    """Runs the pipeline with one more language; only what depends on that language runs, the rest is there.

    Args:
        language: The language to add: a name, a tag or an NLLB code.
        config: As for :func:`flows.align_flow.align`; name what the nightly run has.
        languages: Languages in place of the configuration's, before one is added.
        workspace: Workspace in place of the configuration's.
        hours: As for :func:`flows.align_flow.align`.

    Returns:
        The fields of :class:`flows.steps.summing_up.RunSummary`.

    Raises:
        UserError: No such language is known, or as the pipeline does.
    """
    # In this flow run, not in one below it: a worker that is told to cancel reaches it, and its page shows the tasks.
    return align.fn(config, with_language(languages or [], language), workspace, hours)


def with_language(languages: Sequence[str], language: str) -> list[str]:
    """A choice of languages, which names them or changes the configuration's, with one more.

    Args:
        languages: The choice; empty for the configuration's own.
        language: The language to add.
    """
    code = resolve_language(language).code
    changes = all(word.startswith(("+", "-")) for word in languages)
    return [*languages, f"+{code}" if changes else code]
