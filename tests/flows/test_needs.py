"""What configurations need, whether it fits, and which settings make it fit."""

import json
import struct
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from flows.commands.doctor import shipped_needs
from flows.commands.run import run_config
from flows.configuration.pipeline import PipelineConfig
from flows.configuration.reading import load_config
from flows.needs import Needs, Prompts, _with, limits_of, models_of, needs_of, refusal, require_fit
from flows.places import shipped_configs
from flows.terminal.needs_tables import needs_in_data, show_needs, show_shipped
from flows.terminal.server import Server
from mlc.errors import UserError
from mlc.machine import Gpu, Machine
from mlc.models.together import ANSWERED_TOGETHER
from mlc.shipped import shipped_data
from mlc.training.memory import GIB, KEPT, Lengths

CARDS = {"llama-3.2-1b": 8, "qwen2.5-1.5b": 12, "qwen2.5-7b": 24, "nllb": 24}
"""GiB of the GPU that a shipped configuration is for."""
TYPICAL = Prompts(Lengths(200, 96, 400), rows=1000, bytes_a_row=800)


def machine(memory: int, *gpus: int) -> Machine:
    return Machine(memory * GIB, 500 * GIB, tuple(Gpu("a GPU", size * GIB) for size in gpus))


def needs(name: str, there: Machine, prompts: Prompts | None = None, **changes: Any) -> tuple[PipelineConfig, Needs]:
    config = load_config(name, overrides={key.replace("__", "."): value for key, value in changes.items()})
    return config, needs_of(config, models_of(config, offline=True), prompts or limits_of(config), there)


@pytest.mark.parametrize("name", CARDS)
def test_a_shipped_configuration_fits_the_card_that_it_is_for(name: str) -> None:
    _, fitting = needs(name, machine(64, CARDS[name]))
    assert fitting.fits, refusal(fitting)
    _, alone = needs(name, machine(64, 4))
    assert not alone.fits


def test_half_a_billion_weights_fit_a_laptop() -> None:
    _, found = needs("qwen-0.5b-cpu", machine(12))
    assert found.fits, refusal(found)


def test_all_weights_of_7b_fit_eight_gpus_of_80_gb() -> None:
    _, found = needs("7b-full", machine(512, *[80] * 8))
    assert found.fits, refusal(found)
    # Eight processes read 28 GB each.
    assert "The stage align needs 22" in refusal(needs("7b-full", machine(200, *[80] * 8))[1])


def test_models_with_a_direction_in_their_weights_take_disk_too() -> None:
    models = ["english-only", "refusal-direction"]
    found = needs("quickstart", machine(64), TYPICAL, models=models, candidate="refusal-direction", seeds=[0, 1])[1]
    assert found.disk["edited models"] == 2 * 4 * 134_515_008


def test_what_does_not_fit_is_refused_with_settings_that_make_it_fit() -> None:
    config, found = needs("qwen2.5-7b", machine(64, 24), TYPICAL, align__adapter="none")
    sentence = refusal(found)
    assert "The stage align" in sentence
    assert "GPU memory, and there are 24.0 GiB: set align.adapter: lora" in sentence
    assert len(found.ways) >= 1
    for way in found.ways:
        assert needs_of(_with(config, way), found.models, TYPICAL, found.machine).fits
    with pytest.raises(UserError, match="align"):
        require_fit(found, {"align", "report"})
    # What is there already needs nothing.
    require_fit(found, {"generate"})


def test_two_ways_are_named_and_the_smaller_change_comes_first() -> None:
    config, found = needs("quickstart", machine(4), TYPICAL, align__batch_size=32)
    assert [sorted(way) for way in found.ways] == sorted((sorted(way) for way in found.ways), key=len)
    assert len(found.ways) == 2
    assert " or " in refusal(found)
    for way in found.ways:
        assert needs_of(_with(config, way), found.models, TYPICAL, found.machine).fits


def test_where_nothing_helps_that_is_said() -> None:
    _, found = needs("qwen2.5-7b", machine(4), TYPICAL)
    assert found.ways == ()
    assert "no setting makes it fit" in refusal(found)


def test_a_model_that_nothing_tells_of_is_not_judged() -> None:
    _, found = needs("quickstart", machine(1), TYPICAL, policy__model="nobody/knows-this")
    assert found.models.policy is None
    assert all(need.stage == "translate" for need in found.stages)


def test_disk_counts_every_model_and_seed() -> None:
    one, three = (needs("quickstart", machine(64), TYPICAL, seeds=seeds)[1].disk for seeds in ([0], [0, 1, 2]))
    assert three["trained models"] == 3 * one["trained models"]
    assert one["trained models"] == 2 * 2 * 134_515_008
    assert one["prompts and translations"] == 800_000 * (1 + 6 * 4)


def test_gates_share_the_policy_and_what_translates_for_them() -> None:
    policy = 134_515_008
    models = ["english-only", "policy-gate", "gate", "translate-test"]
    given = {"models": models, "seeds": [0, 1], "align__adapter": "lora", "policy__dtype": "float32"}
    _, found = needs("quickstart", machine(64), TYPICAL, **given, candidate="translate-test")
    translator = 4 * found.models.translator.parameters
    assert found.disk["models behind a gate"] == 2 * (4 * policy + translator)
    assert found.disk["registered model"] == 4 * policy + translator
    need = next(need for need in found.stages if need.stage == "gated")
    assert need.memory.parts["translator's weights"] == translator
    assert need.memory.parts["weights"] == 4 * policy
    _, plain = needs("quickstart", machine(64), TYPICAL, models=models[:3], candidate="policy-gate")
    assert not any(need.stage == "gated" for need in plain.stages)
    assert plain.disk["models behind a gate"] == 4 * policy
    assert plain.disk["registered model"] == 4 * policy


def test_doctor_lists_every_shipped_configuration(tmp_path: Path) -> None:
    found = shipped_needs(tmp_path)
    assert list(found) == shipped_configs()
    assert all(each.models.policy for each in found.values())
    console = Console(record=True, width=120, file=StringIO())
    show_shipped(found, console)
    text = console.export_text()
    assert all(f"\n{name} " in text for name in found)


def test_needs_are_shown_and_told_as_data() -> None:
    _, found = needs("qwen2.5-7b", machine(64, 24), TYPICAL, align__adapter="none")
    console = Console(record=True, width=160, file=StringIO())
    show_needs(found, console)
    text = console.export_text()
    assert "policy 7.62B weights" in text
    assert "It does not fit. The stage align" in text
    told = json.loads(json.dumps(needs_in_data(found)))
    assert (told["parameters"], told["fits"]) == (7_615_616_512, False)
    assert {stage["stage"] for stage in told["stages"]} == {"translate", "align", "generate"}


def test_methods_that_learn_from_own_answers_need_room_to_answer() -> None:
    models = ["english-only", "sdrrl", "localized-refusals", "cm-align"]
    _, found = needs("qwen2.5-1.5b", machine(64, 12), TYPICAL, models=models, candidate="sdrrl")
    own = {need.label: need.memory for need in found.stages if need.stage in ("own_answers", "localized", "own_pairs")}
    assert list(own) == ["own_answers · sdrrl", "localized · localized-refusals", "own_pairs · cm-align"]
    # Keys and values of 28 layers and 2 heads of 128 in bfloat16, for prompts of 400 tokens and answers of 256.
    kept = 2 * 28 * 256 * 2 * ANSWERED_TOGETHER * (400 + 256)
    assert {memory.parts[KEPT] for memory in own.values()} == {kept}


def too_large(folder: Path) -> Path:
    """A checkpoint of the shape of Llama-3.1-70B with the tokenizer of `tiny`, and headers without weights."""
    folder.mkdir()
    for path in shipped_data("tiny").iterdir():
        if path.suffix != ".safetensors":
            (folder / path.name).write_bytes(path.read_bytes())
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config |= {"hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80, "vocab_size": 128256}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    header = json.dumps({"model.layers.0.mlp.up_proj.weight": {"dtype": "F32", "shape": [8_600_000, 8192]}}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    return folder


def test_a_run_that_cannot_fit_is_refused_before_anything_is_made(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", server.api)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "home"))
    workspace = tmp_path / "workspace"
    config = load_config("smoke", workspace=str(workspace), overrides={"policy.model": str(too_large(tmp_path / "m"))})
    with pytest.raises(UserError, match=r"The stage (align|generate).* needs .* GiB of"):
        run_config(config, console=Console(quiet=True))
    assert not list(workspace.glob("artifacts/[!.]*"))
