"""Names of the files in artifacts.

They stand here so that a stage that reads another stage's files does not depend on that stage's code: the digest of the
code that a stage imports is part of its key.
"""

PROMPTS_FILE = "prompts.parquet"
SET_ASIDE_FILE = "rejected.parquet"
TRANSLATIONS_FILE = "translations.parquet"
SIGNALS_FILE = "signals.parquet"
VERDICTS_FILE = "verdicts.parquet"
REJECTS_FILE = "rejects.parquet"
FUNNEL_FILE = "funnel.parquet"
COVERAGE_FILE = "coverage.parquet"
DATASET_FOLDER = "dataset"
CHECKPOINT_FOLDER = "checkpoint"
DELTA_FOLDER = "delta"
SEARCH_FILE = "search.json"
OVERLAPS_FILE = "overlaps.json"
TRAINING_LOG_FILE = "training_log.jsonl"
MARGINS_FILE = "margins.parquet"
GENERATED_FILE = "generated.parquet"
STATES_FILE = "states.npy"
HEADLINE_FILE = "headline.json"
REPORT_FILE = "report.html"
VERSION_FILE = "version.json"
DECISION_FILE = "decision.json"
