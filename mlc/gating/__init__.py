"""A gate on prompts: a linear classifier of low rank on a prompt's state, with a threshold for each language.

Aziz, Hanif, Koto, arXiv 2606.01196: what tells harmful from harmless prompts carries over to other languages, the
decision to refuse does not. A gate decides by the former. :class:`mlc.gating.gate.PromptGate` stands alone: it needs a
policy and prompts, and no pipeline.
"""
