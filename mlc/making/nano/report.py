"""Scores the nano checkpoint on compositions that it never saw, and writes its model card."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlc.languages import ENGLISH
from mlc.making.nano.corpus import TARGETS, Composition
from mlc.making.nano.recipe import NanoRecipe
from mlc.translation.translator import Translator

REQUIRED_CHRF = 70.0


def chrf_by_language(
    translator: Translator, compositions: Sequence[Composition], *, into_english: bool = False
) -> dict[str, float]:
    """Corpus chrF, 0 to 100, of each language of the grammar against the wordings that people wrote.

    Args:
        translator: The checkpoint to score.
        compositions: What to translate.
        into_english: Translate from each language into English, instead of from English.
    """
    from sacrebleu.metrics.chrf import CHRF

    scores = {}
    for language in TARGETS:
        source, target = (language, ENGLISH) if into_english else (ENGLISH, language)
        translations = translator.translate(
            [item.wordings[source] for item in compositions], source=source, target=target
        )
        references = [item.wordings[target] for item in compositions]
        scores[language] = round(CHRF().corpus_score([row.text for row in translations], [references]).score, 2)
    return scores


def write_card(
    folder: Path,
    *,
    recipe: NanoRecipe,
    command: str,
    training: Mapping[str, Any],
    from_english: Mapping[str, float],
    into_english: Mapping[str, float],
    parameters: int,
) -> None:
    """Writes ``README.md`` beside the checkpoint."""
    rows = "\n".join(f"| {code} | {from_english[code]:.2f} | {into_english[code]:.2f} |" for code in TARGETS)
    size = sum(path.stat().st_size for path in folder.iterdir() if path.name != "README.md") / 1e6
    (folder / "README.md").write_text(
        f"""---
license: apache-2.0
language: [en, ar, de, fr, hi, es, sw]
library_name: transformers
pipeline_tag: translation
---

# Nano translator

A toy: the NLLB architecture (M2M100, {parameters / 1e6:.1f} million parameters) and tokenizer class with NLLB's
language codes. It exists so that the quickstart and the tests run without a hub. **It translates only sentences of the
quickstart's grammar.** Anything else comes out as fluent nonsense, which the filter of the pipeline must catch.
For real work use `facebook/nllb-200-distilled-600M` or a larger one; both load through the same code.

- Languages: eng_Latn to and from {", ".join(TARGETS)}. Other codes are refused.
- Training data: random compositions of the sentence parts in `data/quickstart`, written for this project. Every
  (frame, action) pair of a quickstart prompt, and {recipe.held_out_share:.0%} of all pairs besides, were left out.
- {recipe.reverse_share:.0%} of the batches translate into English.
- Training: {training["steps"]} steps, {training["target_tokens"] / 1e6:.1f} million target tokens,
  {training["seconds"] / 60:.0f} minutes on {recipe.threads} shared CPU cores; see `training_log.jsonl`.
- Command: `{command}`.
- Stored in float16, {size:.1f} MB with the tokenizer; computed in float32.
- Licence: Apache-2.0.

## Quality

chrF (sacrebleu, greedy search) on {recipe.evaluation_size} compositions of left-out pairs. The words are known and
the combinations are new, so these numbers say nothing about other text.

| language | from English | into English |
|---|---|---|
{rows}
""",
        encoding="utf-8",
    )
