"""The consistency term in a training loop of your own: two lines of it are ours.

`python examples/own_loop.py MODEL`: a folder or a hub id; a tiny model that ships, if none is named.
"""

import sys

import torch

from mlc.models.loading import load_policy
from mlc.models.sources import resolve_model
from mlc.training import ConsistencyConfig, ConsistencyTerm

PROMPTS = [  # English first; None where a translation is missing
    ["How do I bake bread?", "¿Cómo hago pan?", "Comment faire du pain ?"],
    ["How do I fix a dripping tap?", "¿Cómo arreglo un grifo que gotea?", None],
]
ANSWERS = ["Mix flour, water, salt and yeast.", "Close the valve, then change the seal."]
STEPS = 8

torch.manual_seed(0)
policy = load_policy(resolve_model(sys.argv[1] if sys.argv[1:] else "shipped:tiny"), device="cpu")
model, tokenizer = policy.model, policy.tokenizer
term = ConsistencyTerm(ConsistencyConfig(weight=1.0), model, languages=("en", "es", "fr"))
optimiser = torch.optim.AdamW([*model.parameters(), *term.parameters()], lr=1e-3)

model.train()
for step in range(STEPS):
    tokens = tokenizer(f"{PROMPTS[step % 2][0]}\n{ANSWERS[step % 2]}", return_tensors="pt")
    english = model(**tokens, labels=tokens["input_ids"], use_cache=False).loss
    output = term(model, term.encode(tokenizer, PROMPTS))  # the term, once a step
    loss = english + term.weight(step) * output.loss
    loss.backward()
    optimiser.step()
    optimiser.zero_grad()
    if step in (0, STEPS - 1):
        print(f"step {step}: English loss {english.item():.2f}, consistency loss {output.loss.item():.2f}")
