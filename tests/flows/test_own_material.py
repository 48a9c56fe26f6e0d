"""What single methods make to train on is among what the report reads, so that nothing left out there is lost."""

from pathlib import Path

from flows.align_flow import foreseen
from flows.configuration.reading import load_config
from tasks.own_pairs import without_pairs


def test_the_report_reads_what_methods_make_for_themselves(tmp_path: Path) -> None:
    models = ["english-only", "sdrrl", "cm-align", "localized-refusals"]
    overrides = {"models": models, "candidate": "sdrrl", "languages": ["es"]}
    with foreseen(load_config("smoke", workspace=str(tmp_path / "workspace"), overrides=overrides)) as run:
        (report,) = (parts for parts in run.parts.values() if parts.stage == "report")
    assert {
        "answers of english-only · seed 0",
        "training set with answers of english-only · seed 0",
        "training set of cm-align · seed 0",
        "training set of localized-refusals",
    } <= set(report.inputs)


def test_translations_without_a_pair_are_counted() -> None:
    made = [
        {"mask": [True, True, True], "variant_chosen": ["a", "b", ""]},
        {"mask": [True, False, True], "variant_chosen": ["a", "", "c"]},
        # English answers that agree are the reference of the others.
        {"mask": [True, True, False], "variant_chosen": ["", "b", ""]},
    ]
    prompts, translations = without_pairs(5, made)
    assert prompts.sentence == "3 of 5 prompts get no two answers that differ from the model itself"
    assert translations.sentence == "1 of 4 translated prompts get no two answers that differ from the model itself"
