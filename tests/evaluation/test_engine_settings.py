"""What answers the prompts of a run: its settings, its part of keys, and what vLLM is handed."""

import importlib.util

import pytest
from pydantic import ValidationError

from mlc.devices import pick_device
from mlc.errors import UserError
from mlc.evaluation.engines.protocol import Rendered
from mlc.evaluation.engines.transformers import TransformersEngine
from mlc.evaluation.engines.vllm import Reader, VllmEngine, finish_of, model_arguments, sampling_arguments
from mlc.evaluation.settings import EngineSettings
from mlc.models.loading import load_policy
from mlc.models.sources import resolve_model

SERVE = "vllm serve {path} --port {port}"


def test_what_decides_is_in_keys_and_how_fast_it_is_asked_is_not():
    assert EngineSettings().facts == {}
    one = EngineSettings(kind="http", serve=SERVE, concurrency=2, start_seconds=5)
    assert one.facts == {"kind": "http", "serve": SERVE}
    assert EngineSettings(kind="http", serve=SERVE).facts == one.facts


@pytest.mark.parametrize("given", [{"kind": "http"}, {"serve": SERVE}])
def test_a_server_needs_a_command_and_a_command_a_server(given):
    with pytest.raises((UserError, ValidationError), match="where one is started for each of them"):
        EngineSettings(**given)


def test_a_command_must_take_model_and_port():
    with pytest.raises(ValidationError, match="lacks"):
        EngineSettings(kind="http", serve="vllm serve {path}")


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vllm is installed")
def test_vllm_that_is_not_installed_is_told():
    with pytest.raises(ValidationError, match="needs the package vllm, which is not installed"):
        EngineSettings(kind="vllm")


def test_what_vllm_is_handed():
    assert model_arguments("folder", "bfloat16") == {
        "model": "folder",
        "dtype": "bfloat16",
        "seed": 0,
        "trust_remote_code": False,
        "generation_config": "vllm",
    }
    assert sampling_arguments((2, 7), 16) == {
        "temperature": 0.0,
        "max_tokens": 16,
        "stop_token_ids": [2, 7],
        "detokenize": False,
    }
    assert [finish_of(reason) for reason in ("length", "stop", None)] == ["length", "stop", "stop"]


def test_vllm_reads_the_tokens_that_the_project_reads():
    policy = load_policy(resolve_model("shipped:tiny"), device=pick_device("cpu"))
    reader = Reader(policy)
    (here,) = TransformersEngine(policy, max_new_tokens=3).answer(["How do I bake bread?"])
    assert len(reader.tokens("How do I bake bread?")) == here.prompt_tokens
    assert reader.tokens(Rendered("bread")) == policy.tokenizer("bread", add_special_tokens=False)["input_ids"]
    assert reader.stop_tokens == policy.stop_tokens
    said = policy.tokenizer("bread", add_special_tokens=False)["input_ids"]
    assert reader.text([*said, policy.stop_token]) == "bread"
    assert not any(value is policy.model for value in vars(reader).values())
    one, other = (VllmEngine(None, reader, max_new_tokens=limit, identity="model") for limit in (3, 4))
    assert one.identity != other.identity
