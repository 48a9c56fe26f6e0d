"""What keeps libraries from calling home and from writing to the terminal; they read it when they are imported."""

import logging
import os
import warnings

from mlc.machine import cores, cores_there

NO_TELEMETRY = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}
_SERVERS = {
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_CLI_PROMPT": "false",
    # Threads that spin while they wait slow a machine several times that the server and others use too.
    "OMP_WAIT_POLICY": "PASSIVE",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    # By default it asks a server that is not there for minutes.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # Bars of other libraries would break through our own.
    "TQDM_DISABLE": "1",
    # A process that was killed leaves semaphores of its libraries, which Python removes and reports.
    "PYTHONWARNINGS": "ignore::UserWarning:multiprocessing.resource_tracker",
}
NO_BARS = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
_MODELS = {"TRANSFORMERS_VERBOSITY": "error", "TOKENIZERS_PARALLELISM": "false", **NO_BARS}


def quiet_environment() -> dict[str, str]:
    """Variables for processes that are started: no calls home, nothing on the terminal."""
    return {**NO_TELEMETRY, **_SERVERS}


def unattended_environment() -> dict[str, str]:
    """Variables for runs that nobody watches in a terminal; a server that is restarted is waited for."""
    return {**NO_TELEMETRY, **_MODELS, "OMP_WAIT_POLICY": _SERVERS["OMP_WAIT_POLICY"]}


def thread_environment() -> dict[str, str]:
    """Threads to compute with, where a control group grants less than the cores that there are.

    Libraries count cores alone, and more threads than may run at once stand in each other's way.
    """
    return {"OMP_NUM_THREADS": str(cores())} if cores() < cores_there() else {}


def set_unless_set(variables: dict[str, str]) -> None:
    """Sets variables of this process; what a person has set stays."""
    for name, value in variables.items():
        os.environ.setdefault(name, value)


def be_quiet() -> None:
    """Keeps libraries of this process from writing to the terminal; before they are imported."""
    set_unless_set({**quiet_environment(), **_MODELS, **thread_environment()})
    # Matplotlib tells of its font cache, once on every machine.
    for name in ("alembic", "matplotlib", "mlflow"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message=".*input example was not provided.*")
