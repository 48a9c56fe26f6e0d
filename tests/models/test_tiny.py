import json

import pytest
from safetensors.torch import load_file

from mlc.making.tiny import build_tiny


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("built")
    build_tiny(folder)
    return folder


def test_the_builder_makes_the_committed_files(built, tiny_folder):
    committed = {path.name for path in tiny_folder.iterdir()} - {"README.md"}
    assert {path.name for path in built.iterdir()} == committed


def test_the_builder_makes_the_committed_weights(built, tiny_folder):
    committed, made = (load_file(folder / "model.safetensors") for folder in (tiny_folder, built))
    assert committed.keys() == made.keys()
    assert all((committed[name] == made[name]).all() for name in committed)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "config.json", "generation_config.json"])
def test_the_builder_makes_the_committed_descriptions(built, tiny_folder, name):
    assert json.loads((built / name).read_text()) == json.loads((tiny_folder / name).read_text())


def test_the_builder_makes_the_committed_template(built, tiny_folder):
    assert (built / "chat_template.jinja").read_text() == (tiny_folder / "chat_template.jinja").read_text()
