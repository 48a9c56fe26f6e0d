"""A model of your own, aligned with TRL's trainer and the consistency term.

`python examples/own_model.py MODEL`: a folder or a hub id; a tiny model that ships, if none is named.
"""

import sys
import tempfile

from datasets import Dataset
from trl import SFTConfig

from mlc.models.loading import load_policy
from mlc.models.sources import resolve_model
from mlc.training import ConsistencyConfig, ConsistencySFTTrainer

policy = load_policy(resolve_model(sys.argv[1] if sys.argv[1:] else "shipped:tiny"), device="cpu")
rows = [  # as for TRL, with one column more: each prompt in every language
    {
        "prompt": "How do I bake bread?",
        "completion": " Mix flour, water, salt and yeast.",
        "variants": {"en": "How do I bake bread?", "es": "¿Cómo hago pan?", "sw": "Ninawezaje kuoka mkate?"},
    },
    {
        "prompt": "How do I fix a dripping tap?",
        "completion": " Close the valve, then change the seal.",
        "variants": {"en": "How do I fix a dripping tap?", "es": "¿Cómo arreglo un grifo que gotea?", "sw": None},
    },
]
with tempfile.TemporaryDirectory() as folder:
    trainer = ConsistencySFTTrainer(
        policy.model,
        consistency=ConsistencyConfig(weight=1.0),
        args=SFTConfig(folder, max_steps=8, learning_rate=1e-3, logging_steps=1, bf16=False, report_to=[]),
        train_dataset=Dataset.from_list(rows),
        processing_class=policy.tokenizer,
    )
    trainer.train()

log = [told for told in trainer.state.log_history if "consistency_loss" in told]
for told in (log[0], log[-1]):
    step, english, consistency = (told[name] for name in ("step", "alignment_loss", "consistency_loss"))
    print(f"step {step}: English loss {english:.2f}, consistency loss {consistency:.2f}")
