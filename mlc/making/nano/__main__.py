"""Trains the nano checkpoint: ``python -m mlc.making.nano``."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from mlc.making.nano.recipe import NanoRecipe
from mlc.shipped import shipped_data


def main(
    output: Annotated[Path | None, typer.Option(help="Folder to write; data/nano if not given.")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Training steps.")] = NanoRecipe().steps,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = NanoRecipe().seed,
) -> None:
    """Trains the nano NLLB checkpoint on the quickstart's grammar, scores it and writes its card."""
    # Threads that spin while they wait make the training several times slower on cores that others use too.
    # OpenMP reads this when torch is imported; importing inside the function also lets --help answer at once.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import torch

    from mlc.making.grammar import Grammar
    from mlc.making.nano import report
    from mlc.making.nano.corpus import Corpus, vocabulary_sentences
    from mlc.making.nano.tokenizer import build_tokenizer
    from mlc.making.nano.training import build_model, train
    from mlc.making.quickstart import used_pairs
    from mlc.translation.engines.seq2seq import Seq2SeqEngine
    from mlc.translation.translator import Translator

    recipe = NanoRecipe(steps=steps, seed=seed)
    folder = output or shipped_data("quickstart").parent / "nano"
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(recipe.threads)

    corpus = Corpus.create(Grammar.load(), used=used_pairs(), held_out_share=recipe.held_out_share, seed=recipe.seed)
    tokenizer = build_tokenizer(vocabulary_sentences(corpus, 8000, recipe.seed), recipe.vocab_size)
    model = build_model(recipe, tokenizer)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn()) as progress:
        task = progress.add_task("training", total=recipe.steps)
        training = train(
            model,
            tokenizer,
            corpus,
            recipe,
            folder,
            lambda step, loss: progress.update(task, completed=step, description=f"loss {loss:.3f}"),
        )

    translator = Translator(Seq2SeqEngine.from_folder_or_hub(folder, device="cpu"))
    unseen = corpus.unseen(recipe.evaluation_size, recipe.seed)
    from_english = report.chrf_by_language(translator, unseen)
    into_english = report.chrf_by_language(translator, unseen, into_english=True)
    with (folder / "training_log.jsonl").open("a", encoding="utf-8") as log:
        log.write(json.dumps({"chrf_from_english": from_english, "chrf_into_english": into_english}) + "\n")
    report.write_card(
        folder,
        recipe=recipe,
        command=f"python -m mlc.making.nano --steps {recipe.steps} --seed {recipe.seed}",
        training=training,
        from_english=from_english,
        into_english=into_english,
        parameters=model.num_parameters(),
    )
    if min(from_english.values()) < report.REQUIRED_CHRF:
        sys.exit(f"A language has a chrF below {report.REQUIRED_CHRF:.0f}: {from_english}. Train longer.")


if __name__ == "__main__":
    typer.run(main)
