"""The licences of what a run uses, known before anything is spent."""

from flows.configuration.pipeline import PipelineConfig
from mlc.licences import Licence, licence_of, require_allowed
from mlc.methods import in_order


def require_licences(config: PipelineConfig) -> dict[str, str]:
    """Checks the licences of all models of a run.

    Returns:
        The licence of each model by its role, such as ``apache-2.0 (by model card)``.

    Raises:
        UserError: The configuration refuses one of them.
    """
    licences = licences_of(config)
    require_allowed(licences, config.policy.licences.deny)
    return {licence.role: str(licence) for licence in licences}


def licences_of(config: PipelineConfig) -> tuple[Licence, ...]:
    """The licences of the models that a configuration names."""
    policy, translator, teacher = config.policy, config.translator, config.align.teacher
    found = [
        licence_of("policy", policy.model, declared=policy.licence, revision=policy.revision),
        licence_of("translator", translator.model, declared=translator.licence, revision=translator.revision),
    ]
    found += [
        licence_of(f"fallback {number}", fallback.model, declared=fallback.licence, revision=fallback.revision)
        for number, fallback in enumerate(translator.fallbacks, start=1)
    ]
    named = config.quality.estimator
    if "estimate" in config.quality.model_signals and named.model:
        found.append(licence_of("estimator", named.model, declared=named.licence, revision=named.revision))
    if teacher and any(method.recipe == "train" for method in in_order(config.models)):
        found.append(licence_of("teacher", teacher))
    return tuple(found)


def in_words(licences: dict[str, str]) -> str:
    """Licences by role, in one sentence."""
    return f"Licences: {'; '.join(f'{role} {told}' for role, told in licences.items())}."
