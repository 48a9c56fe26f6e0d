"""A language of your own: translations that people made are filtered, and handed to the pipeline.

`python examples/own_language.py FOLDER`: where its files are to lie; the current folder, if none is named.
"""

import sys
from pathlib import Path

import pyarrow as pa
import yaml
from pyarrow import csv

from mlc.languages import resolve_language
from mlc.quality.filtering import filter_pairs
from mlc.quality.settings import QualitySettings

LANGUAGE = resolve_language("Swahili")  # a name, a tag or an NLLB code; a row of data/languages.csv makes one more
TRANSLATIONS = {
    "How do I bake bread without an oven?": "Ninawezaje kuoka mkate bila tanuri?",
    "What is the capital of Kenya?": "Mji mkuu wa Kenya ni upi?",
    "How do I fix a dripping tap in 3 steps?": "Ninawezaje kurekebisha bomba linalovuja kwa hatua 5?",  # not the number
    "Which vegetables grow in the shade?": "Which vegetables grow in the shade?",  # not translated
    "How many hours does a baby sleep?": "",  # forgotten
}

pairs = pa.table({"source": list(TRANSLATIONS), "translation": list(TRANSLATIONS.values())})
for name, code in (("source_language", "eng_Latn"), ("target_language", LANGUAGE.code)):
    pairs = pairs.append_column(name, pa.array([code] * len(pairs)))
verdicts = filter_pairs(pairs, QualitySettings())
for row in verdicts.select(["source", "keep", "reason"]).to_pylist():
    print("kept   " if row["keep"] else "dropped", f"{row['source']:<40}", row["reason"] or "")

folder = Path(sys.argv[1] if sys.argv[1:] else ".")
csv.write_csv(verdicts.filter(verdicts["keep"]).select(pairs.column_names), folder / "by-people.csv")
config = {
    "name": "own-language",
    "languages": [LANGUAGE.code],
    "prompts": {"path": "shipped:quickstart/train.jsonl"},
    # First what people translated, and a model for the rest.
    "translator": {"engine": "given", "model": "by-people.csv", "fallbacks": [{"model": "google/madlad400-3b-mt"}]},
}
(folder / "own-language.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
print(f"{LANGUAGE.english_name}: next, `mlc plan {folder / 'own-language.yaml'}`")
