import json

from tests.docs import make_methods, make_prefect_yaml, make_readme
from tests.docs.make_configuration import PAGE, make_page


def test_the_committed_page_is_the_generated_one():
    stale = "docs/configuration.md is stale: run python -m tests.docs.make_configuration"
    assert PAGE.read_text(encoding="utf-8") == make_page(), stale


def test_every_threshold_override_is_a_threshold():
    from mlc.quality.settings import ThresholdOverrides, Thresholds

    # The page says that they have the same keys.
    assert list(ThresholdOverrides.model_fields) == list(Thresholds.model_fields)


def test_the_table_of_methods_is_that_of_the_code() -> None:
    text = make_methods.PAGE.read_text(encoding="utf-8")
    assert make_methods.page(text) == text


def test_pictures_table_and_sentences_of_the_readme_are_of_one_run() -> None:
    figures = json.loads(make_readme.FIGURES.read_text(encoding="utf-8"))
    text = make_readme.README.read_text(encoding="utf-8")
    assert make_readme.with_figures(text, figures) == text
    assert list(figures["pictures"]) == list(make_readme.PICTURES)
    for name, digest in figures["pictures"].items():
        picture = make_readme.IMAGES / f"{name}.png"
        assert make_readme.digest(picture) == digest
        assert picture.stat().st_size <= make_readme.LARGEST
        assert f"(docs/images/{name}.png)" in text


def test_prefect_yaml_holds_the_declared_deployments() -> None:
    stale = "prefect.yaml is stale: run python -m tests.docs.make_prefect_yaml"
    assert make_prefect_yaml.FILE.read_text(encoding="utf-8") == make_prefect_yaml.make_file(), stale
