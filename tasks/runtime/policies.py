"""The policy and the checkpoints of a run: where they are, and loading them.

Apart from :mod:`tasks.runtime.compute`, so that a stage that loads no policy does not depend on how one is loaded.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from mlc.choices import InferenceType
from mlc.errors import UserError
from mlc.models.sources import ModelSource, artifact_model, base_identity, resolve_model
from mlc.store import ArtifactRef
from mlc.store.hashing import digest_data
from mlc.store.keys import library_versions
from mlc.store.lines import append_line, read_lines
from mlc.store.sources import source_digests
from tasks.runtime.artifacts import CHECKPOINT_FOLDER
from tasks.runtime.compute import loaded
from tasks.runtime.models import Model
from tasks.runtime.run import Run
from tasks.runtime.settings import PolicySettings

if TYPE_CHECKING:
    from mlc.models.loading import Policy

BASE_FACT = "base"
"""In the manifest of an adapter: where its policy was."""
CHECKED_FILE = "checked_models.jsonl"
"""In a workspace: which models passed their checks, by identity, and by which code."""
SYSTEM_MOVED = (
    "The policy's chat template has no place for a system prompt: it stands at the beginning of the first user turn."
)
"""Told by whoever comes to it first; a display says the same thing once."""
_CHECKING = "mlc.models.loading"
_BY = ("torch", "transformers")


def source_of(run: Run, model: Model) -> ModelSource:
    """Where the weights of a model are; of an adapter, where those of its base are, too.

    Raises:
        UserError: There is no such policy, or an adapter's base is not where it was.
    """
    if isinstance(model.weights, ArtifactRef):
        folder = run.store.folder(model.weights) / CHECKPOINT_FOLDER
        return artifact_model(folder, model.weights.sha256, _base_of(run, model, folder))
    policy = model.weights
    return resolve_model(
        policy.model,
        revision=policy.revision,
        allow_pickle=policy.allow_pickle,
        chat_template_kwargs=policy.chat_template_kwargs,
    )


def _base_of(run: Run, model: Model, folder: Path) -> ModelSource | None:
    """The model that an adapter in a folder was trained on; None where there is none, or nothing yet."""
    identity = base_identity(folder)
    if identity is None:
        return None
    found = [source_of(run, model.base)] if model.base else []
    if all(source.identity != identity for source in found):
        named = run.store.manifest(model.checkpoint.kind, model.checkpoint.key)["facts"].get(BASE_FACT)
        found = [source_of(run, Model(model.method, None, PolicySettings(**named)))] if named else []
    base = next((source for source in found if source.identity == identity), None)
    if base is None:
        raise UserError(
            f"The model {model.label} is an adapter of another policy than the one that is configured, and that one is "
            "not where it was: put it back there, or train again."
        )
    return base


@contextmanager
def whole_checkpoint(run: Run, model: Model) -> Iterator[Path]:
    """A folder with a model of the run as ``from_pretrained`` reads it, for another program.

    A GGUF file, and an adapter merged into its model, are written out for it and taken away after the block.

    Args:
        run: The run.
        model: The model.
    """
    source = source_of(run, model)
    if source.kind == "hub":
        from huggingface_hub import snapshot_download

        yield Path(snapshot_download(source.target, revision=source.revision))
    elif source.kind == "folder" and source.base is None:
        yield Path(source.target)
    else:
        from mlc.models.loading import save_policy

        with TemporaryDirectory(prefix="mlc-checkpoint-") as scratch:
            with loaded_policy(run, model, encodes=True) as policy:
                save_policy(policy, Path(scratch), dtype=policy.model.dtype)
            yield Path(scratch)


def base_fact(start: Model) -> dict[str, Any] | None:
    """Where a policy is, for the manifest of its adapter: for whoever finds that without a configuration."""
    if isinstance(start.weights, ArtifactRef):
        return None
    return start.weights.model_dump(mode="json", include={"model", "revision", "allow_pickle", "chat_template_kwargs"})


def require_policy(run: Run, policy: Model, *, role: str = "policy") -> None:
    """Checks the policy before any work is spent on what it cannot use, once for each model and workspace.

    A plan loads nothing, and checks what the configuration of a model tells.

    Args:
        run: The run.
        policy: The model.
        role: What it is to people.

    Raises:
        UserError: It cannot be used.
    """
    from mlc.models.check import read_config, require_kind

    source = source_of(run, policy)
    if source.kind == "folder":
        require_kind(source, read_config(source), encodes=True)
    record = run.workspace / CHECKED_FILE
    checked = {"model": source.identity, "by": digest_data({**source_digests(_CHECKING), **library_versions(_BY)})}
    if run.planning or checked in read_lines(record):
        return
    with loaded_policy(run, policy, encodes=True) as loaded_one:
        run.display.note(f"The {role} {source.location} was checked: {loaded_one.verdict}.")
    append_line(record, checked)


def require_teacher(run: Run, policy: Model, location: str) -> None:
    """Checks the teacher of an alignment as the policy is checked, and that both have one vocabulary.

    Args:
        run: The run.
        policy: The policy.
        location: Where the teacher is, as in ``align.teacher``.

    Raises:
        UserError: It cannot be used.
    """
    from mlc.models.check import read_config

    if isinstance(policy.weights, ArtifactRef):
        raise TypeError("A teacher stands beside the policy, not beside a checkpoint.")
    weights = PolicySettings(model=location, allow_pickle=policy.weights.allow_pickle)
    teacher = replace(policy, method="teacher", weights=weights)
    require_policy(run, teacher, role="teacher")
    if is_encoder(run, policy) != is_encoder(run, teacher):
        raise UserError(
            f"Of the policy and the teacher {location!r} one is an encoder-decoder and the other one is not: name a "
            "teacher of the policy's kind in align.teacher."
        )
    sources = [source_of(run, model) for model in (policy, teacher)]
    if all(source.kind == "folder" for source in sources):
        own, others = (read_config(source).get("vocab_size") for source in sources)
        if own != others:
            raise UserError(
                f"The teacher {location!r} has a vocabulary of {others} and the policy one of {own}: name a teacher "
                "with the policy's vocabulary in align.teacher."
            )


def is_encoder(run: Run, policy: Model) -> bool:
    """Whether the policy is an encoder-decoder; a plan does not know it of a hub model that was never loaded.

    Args:
        run: The run.
        policy: The model.
    """
    from mlc.models.check import known_config
    from mlc.models.encoders import is_encoder_decoder

    return is_encoder_decoder(known_config(source_of(run, policy)))


def depth_of_policy(run: Run, policy: Model) -> int | None:
    """Layers of the policy whose states are read; None where nothing tells, as of a hub model that was never loaded.

    Args:
        run: The run.
        policy: The model.
    """
    from mlc.models.bounds import depth_of
    from mlc.models.check import known_config
    from mlc.models.sizes import read_shape

    source = source_of(run, policy)
    if source.kind == "gguf":
        shape = read_shape(source)
        return shape.layers if shape else None
    return depth_of(known_config(source)) or None


@contextmanager
def loaded_policy(
    run: Run, model: Model, *, dtype: InferenceType | None = None, encodes: bool = False
) -> "Iterator[Policy]":
    """A model of the run, ready to evaluate; an adapter is in its weights.

    Args:
        run: The run.
        model: The model.
        dtype: Type of its weights, in place of its own.
        encodes: Whether an encoder-decoder will do.
    """
    source, wanted = source_of(run, model), dtype or model.dtype

    def load() -> "Policy":
        from mlc.models.loading import load_policy
        from mlc.models.precision import use_precise_head

        policy = load_policy(source, dtype=wanted, device=model.device, attention=model.attention, encodes=encodes)
        use_precise_head(policy.model)
        return policy

    identity = f"policy:{source.identity}:{model.device}:{wanted}:{model.attention}"
    with loaded(run, identity, model.device, load) as policy:
        yield policy
