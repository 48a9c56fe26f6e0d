"""Loads what a run loads, and finds out what MLflow finds out once a process, before others are forked from this one.

What is left to them is loaded again in each, which takes longer than all that a smoke run does.
"""

import importlib
import os
from tempfile import TemporaryDirectory

from flows.terminal.quiet import be_quiet

LIBRARIES = (
    "duckdb", "git", "matplotlib.figure", "mlflow.pyfunc", "mlflow.store.tracking.sqlalchemy_store", "peft",
    "prefect.flow_engine", "prefect.task_engine", "prefect.utilities.visualization", "rapidfuzz.process", "torch",
    "transformers.models.llama.modeling_llama", "transformers.models.m2m_100.modeling_m2m_100",
    "transformers.models.nllb.tokenization_nllb", "transformers.trainer", "trl.trainer.sft_trainer",
)  # fmt: skip
PARTS = (
    "flows.align_flow", "mlc.evaluation.engines.transformers", "mlc.evaluation.judges.rules", "mlc.evaluation.scoring",
    "mlc.models.loading", "mlc.report.card", "mlc.report.page", "mlc.text.identification", "mlc.training.align",
    "mlc.training.carriers.sft", "mlc.training.sft", "mlc.translation.engines.seq2seq",
)  # fmt: skip

# As in the processes of the tests themselves, see tests/conftest.py.
os.fsync = lambda descriptor: None
# Libraries read when they are loaded what they may write.
be_quiet()
for name in (*LIBRARIES, *PARTS):
    importlib.import_module(name)
requirements, loading, resolving, planning, configuring = map(
    importlib.import_module,
    (
        "mlflow.utils.requirements_utils",
        "mlc.models.loading",
        "mlc.models.sources",
        "flows.commands.plan",
        "flows.configuration.reading",
    ),
)
requirements._init_packages_to_modules_map()
# The chat template is rendered by a process of its own, which no other process has to start then.
loading.load_policy(resolving.resolve_model("shipped:tiny"), device="cpu")
# The project's files are digested.
with TemporaryDirectory() as folder:
    planning.foresee(configuring.load_config("smoke", workspace=folder))
