"""Writes ``prefect.yaml`` from the deployments that are declared: ``python -m tests.docs.make_prefect_yaml``."""

from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from flows.scheduled.declared import DEPLOYMENTS, HOURS, TAG, Deployment

FILE = Path(__file__).resolve().parents[2] / "prefect.yaml"
POOL = "mlc"

HEAD = """\
# Made by `python -m tests.docs.make_prefect_yaml` from flows/scheduled/declared.py. Change that, not this file.
#
# `mlc deploy` registers the same deployments, and adds what this file cannot say: one limit for a workspace, and an end
# for runs whose process is gone. For who has Prefect's own commands in a pipeline, from the repository's root:
#     prefect work-pool create mlc --type process
#     prefect --no-prompt deploy --all
#     prefect worker start --pool mlc
"""


def make_file() -> str:
    """The whole file."""
    content = {
        "name": "mlc",
        "prefect-version": version("prefect"),
        "pull": [{"prefect.deployments.steps.set_working_directory": {"directory": "{{ $PWD }}"}}],
        "deployments": [_declared(deployment) for deployment in DEPLOYMENTS],
    }
    return HEAD + yaml.safe_dump(content, sort_keys=False, width=120)


def _declared(deployment: Deployment) -> dict[str, Any]:
    given = {"config": "quickstart", "languages": None, "workspace": None, "hours": HOURS}
    return {
        "name": deployment.name,
        "description": deployment.description,
        "entrypoint": deployment.entrypoint,
        "parameters": deployment.parameters(given) if deployment.computes else {},
        "tags": [TAG],
        "work_pool": {"name": POOL},
        "schedules": [{"cron": deployment.cron, "timezone": "UTC", "active": False}] if deployment.cron else [],
    }


if __name__ == "__main__":
    FILE.write_text(make_file(), encoding="utf-8")
