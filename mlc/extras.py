"""Packages that only some settings and commands need, and the extras of this distribution that bring them."""

import importlib.util
from collections.abc import Iterator

from mlc.packages import ROOTS, to_install

EXTRAS = {
    **dict.fromkeys(("accelerate", "datasets", "peft", "trl"), "train"),
    **dict.fromkeys(
        (
            "cryptography",
            "duckdb",
            "fastapi",
            "fsspec",
            "httpx",
            "jinja2",
            "matplotlib",
            "mlflow",
            "pandas",
            "prefect",
            "py3langid",
            "rapidfuzz",
            "regex",
            "sacrebleu",
            "scipy",
            "sentencepiece",
            "sentencex",
            "starlette",
            "uvicorn",
        ),
        "pipeline",
    ),
    "bitsandbytes": "qlora",
    "ctranslate2": "ctranslate2",
    "gguf": "quickstart",
    "lm_eval": "harness",
    "prefect_dask": "dask",
    "prefect_ray": "ray",
    "s3fs": "s3",
    "vllm": "vllm",
}
"""The extra that brings a package, by the package's import name."""


def require_extra(package: str, setting: str) -> None:
    """Checks that a package is installed, without importing it.

    Args:
        package: Its import name.
        setting: What needs it.

    Raises:
        ValueError: It is not.
    """
    if importlib.util.find_spec(package) is None:
        raise ValueError(
            f"{setting} needs the package {package.replace('_', '-')}, which is not installed: {_way(package)}, or "
            "choose another value"
        )


def missing_package(error: BaseException) -> str | None:
    """A sentence for an error that comes of a package of others which is not installed; None for any other error.

    Args:
        error: What an import, or what came of it, raised.
    """
    for each in _causes(error):
        package = (each.name or "").partition(".")[0] if isinstance(each, ModuleNotFoundError) else ""
        if package and package not in ROOTS:
            told = package.replace("_", "-")
            return f"The package {told} is needed for this and is not installed: {_way(package)}."
    return None


def _way(package: str) -> str:
    return f"run `{to_install(EXTRAS[package])}`" if package in EXTRAS else "install it"


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        yield found
        found = found.__cause__ or found.__context__
