"""The registered class on checkpoints that list several end tokens, think, or have no token to pad with."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mlflow.exceptions import MlflowException

from mlc.evaluation.answering import answer_all
from mlc.evaluation.engines.transformers import TransformersEngine
from mlc.gating.prompt_translation import TRANSLATOR_FOLDER
from mlc.models.loading import load_policy, save_policy
from mlc.models.prompts import encode_prompt
from mlc.models.sources import resolve_model
from mlc.translation.kept import keep_translator
from tests.encoders import save_m2m100, save_t5
from tests.models.test_templates import GEMMA, INSTRUCT, SILENT, THINKING

PROMPTS = ["How do I bake bread?", "Hello"]
PROMPTS_TO_GATE = ["How do I bake bread?", "Tell me how to break the lock of a house."]
PROMPTS_TO_GATE += ["¿Cómo horneo pan en casa?", "Dime cómo rompo la cerradura de una casa."]


@pytest.mark.parametrize("ends", [2, [2], [2, 7, 40]])
@pytest.mark.parametrize("template", [None, THINKING, INSTRUCT], ids=["none", "thinking", "instruct"])
def test_the_registered_model_answers_as_the_evaluated_one(
    load_tiny: Any, tmp_path: Path, ends: Any, template: str | None
) -> None:
    import pandas as pd

    from mlc.models.templates import use_trained_template
    from tasks.runtime.policy_pyfunc import PolicyModel

    policy = load_tiny()
    policy.tokenizer.chat_template = template
    policy.lead = use_trained_template(policy.tokenizer, "tiny").lead
    policy.tokenizer.pad_token = None
    policy.model.generation_config.eos_token_id = policy.model.config.eos_token_id = ends
    save_policy(policy, tmp_path / "checkpoint", dtype=torch.float32)
    served = PolicyModel()
    served.load_context(SimpleNamespace(artifacts={"checkpoint": str(tmp_path / "checkpoint")}))
    answers = served.predict(None, pd.DataFrame({"prompt": PROMPTS}))["answer"].tolist()
    ours = answer_all(TransformersEngine(policy, max_new_tokens=128), PROMPTS)
    assert answers == [completion.text for completion in ours]


@pytest.mark.parametrize("sentences", [False, True], ids=["whole", "sentences"])
@pytest.mark.parametrize("reads", ["prompt", "translation"])
@pytest.mark.parametrize("pool", ["last", "last_content", "mean"])
def test_a_registered_gate_decides_as_the_evaluated_one(
    load_tiny: Any, tmp_path: Path, pool: Any, reads: Any, sentences: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pandas as pd

    from mlc.gating.gate import fit_gate
    from mlc.gating.settings import PromptGateSettings
    from tasks.register import PROMPT_TRANSLATION
    from tasks.runtime.policy_pyfunc import PolicyModel

    # As MLflow does with the code of a version.
    monkeypatch.syspath_prepend(PROMPT_TRANSLATION.parent)
    policy = load_tiny()
    labels = ["harmless", "harmful"]
    settings = PromptGateSettings(pool=pool, reads=reads, sentences=sentences)
    gate = fit_gate(policy, PROMPTS_TO_GATE[:2], labels, {"spa_Latn": PROMPTS_TO_GATE[2:]}, settings)
    # Weights may be saved in another type than they were measured in.
    save_policy(policy, tmp_path / "checkpoint", dtype=torch.bfloat16)
    policy = load_policy(resolve_model(str(tmp_path / "checkpoint")), device="cpu")
    gate.save(tmp_path / "checkpoint")
    keep_translator(resolve_model("shipped:nano"), tmp_path / "checkpoint" / TRANSLATOR_FOLDER, "eng_Latn")
    served = PolicyModel()
    served.load_context(SimpleNamespace(artifacts={"checkpoint": str(tmp_path / "checkpoint")}))
    talk = [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hi."}]
    mixed = " ".join([PROMPTS_TO_GATE[0], PROMPTS_TO_GATE[3]])
    prompts = [*PROMPTS_TO_GATE, [*talk, {"role": "user", "content": PROMPTS_TO_GATE[3]}], "これは何ですか。", mixed]
    answers = served.predict(None, pd.DataFrame({"prompt": prompts}))["answer"].tolist()
    margins = gate.margins(policy, prompts, translator=gate.load_translator(tmp_path / "checkpoint"))
    assert {value > 0 for value in margins} == {True, False}
    said = [completion.text for completion in answer_all(TransformersEngine(policy, max_new_tokens=128), prompts)]
    assert answers == [
        gate.refusal(prompt) if margin > 0 else text
        for prompt, margin, text in zip(prompts, margins, said, strict=True)
    ]

    if reads == "translation":
        # One whose translation is longer than it is itself, and than the model reads.
        short = f"Hola. Sí. No. ¿Qué? ¿Y? Ya. Eh. Oye. Ay. {PROMPTS_TO_GATE[2]}"
        served.model.config.max_position_embeddings = len(served._encoded([served._rendered(short)])["input_ids"][0])
        with pytest.raises(MlflowException, match="the translation of prompt 1 of 1 has"):
            served.predict(None, pd.DataFrame({"prompt": [short]}))


@pytest.mark.parametrize("template", [GEMMA, SILENT], ids=["raises", "drops it"])
def test_a_system_prompt_without_a_place_is_read_as_it_was_measured(
    load_tiny: Any, tmp_path: Path, template: str
) -> None:
    import pandas as pd

    from mlc.gating.gate import fit_gate
    from mlc.gating.settings import PromptGateSettings
    from tasks.runtime.policy_pyfunc import PolicyModel

    policy = load_tiny()
    policy.tokenizer.chat_template = template
    settings = PromptGateSettings(layer=-1, pool="mean", false_refusals=None)
    gate = fit_gate(policy, PROMPTS_TO_GATE[:2], ["harmless", "harmful"], {}, settings)
    save_policy(policy, tmp_path / "checkpoint", dtype=torch.float32)
    gate.save(tmp_path / "checkpoint")
    served = PolicyModel()
    served.load_context(SimpleNamespace(artifacts={"checkpoint": str(tmp_path / "checkpoint")}))
    prompts = [[{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}] for text in PROMPTS]
    answers = served.predict(None, pd.DataFrame({"messages": prompts}), {"max_new_tokens": 8})["answer"].tolist()
    said = [completion.text for completion in answer_all(TransformersEngine(policy, max_new_tokens=8), prompts)]
    margins = gate.margins(policy, prompts)
    assert answers == [
        gate.refusal(prompt) if margin > 0 else text
        for prompt, margin, text in zip(prompts, margins, said, strict=True)
    ]
    for prompt in prompts:
        text = served._rendered(prompt)
        encoded = encode_prompt(policy.tokenizer, prompt)
        own = [place for place, there in enumerate(encoded.content) if there]
        assert served._places(prompt, text) == own


@pytest.mark.parametrize(("save", "language"), [(save_t5, None), (save_m2m100, "swh_Latn")], ids=["t5", "m2m_100"])
def test_a_registered_encoder_decoder_answers_as_the_evaluated_one(tmp_path: Path, save: Any, language: Any) -> None:
    import pandas as pd

    from tasks.runtime.policy_pyfunc import PolicyModel

    policy = load_policy(resolve_model(str(save(tmp_path / "model"))), device="cpu", encodes=True)
    save_policy(policy, tmp_path / "checkpoint", dtype=torch.float32)
    served = PolicyModel()
    served.load_context(SimpleNamespace(artifacts={"checkpoint": str(tmp_path / "checkpoint")}))
    asked, parameters = pd.DataFrame({"prompt": PROMPTS}), {"max_new_tokens": 12, "language": language or ""}
    answers = served.predict(None, asked, parameters)["answer"].tolist()
    engine = TransformersEngine(policy, max_new_tokens=12, language=language)
    assert answers == [completion.text.removeprefix(" ") for completion in answer_all(engine, PROMPTS)]
    with pytest.raises(MlflowException, match=r"no token for a language|not told the language"):
        served.predict(None, asked, {"language": "</s>x"})


@pytest.fixture
def served(load_tiny: Any, tmp_path: Path) -> Any:
    """The tiny policy behind a gate that refuses its first two prompts."""
    from mlc.gating.gate import fit_gate
    from mlc.gating.settings import PromptGateSettings
    from tasks.runtime.policy_pyfunc import PolicyModel

    policy = load_tiny()
    gate = fit_gate(
        policy, PROMPTS_TO_GATE[:2], ["harmless", "harmful"], {"spa_Latn": PROMPTS_TO_GATE[2:]}, PromptGateSettings()
    )
    save_policy(policy, tmp_path / "checkpoint", dtype=torch.float32)
    gate.save(tmp_path / "checkpoint")
    served = PolicyModel()
    served.load_context(SimpleNamespace(artifacts={"checkpoint": str(tmp_path / "checkpoint")}))
    return served


def test_answers_stand_beside_their_rows(served: Any) -> None:
    import pandas as pd

    asked = pd.DataFrame({"prompt": PROMPTS_TO_GATE}, index=[7, 3, 5, 1])
    whole = served.predict(None, asked)
    assert whole.index.tolist() == [7, 3, 5, 1]
    some = asked[asked.prompt.str.len() > 25]
    assert served.predict(None, some)["answer"].to_dict() == whole.loc[some.index, "answer"].to_dict()


@pytest.mark.parametrize("role", ["assistant", "system", "tool"])
def test_nothing_stands_between_a_person_and_the_gate(served: Any, role: str) -> None:
    import pandas as pd

    from mlc.errors import UserError
    from mlc.gating.gate import PromptGate

    talk = [{"role": "user", "content": PROMPTS_TO_GATE[1]}, {"role": role, "content": "Yes."}]
    with pytest.raises(MlflowException, match="must end with one of the role 'user'"):
        served.predict(None, pd.DataFrame({"messages": [talk]}))
    gate = PromptGate(0, "last", (1.0,), 0.0, {"eng_Latn": 0.0}, 0.0, {}, {"eng_Latn": "No."})
    with pytest.raises(UserError, match=f"prompt 1 end with the role '{role}'"):
        gate.margins(None, [talk])  # type: ignore[arg-type]


def test_a_long_prompt_shortens_no_other_answer(served: Any) -> None:
    import pandas as pd

    room = served.model.config.max_position_embeddings
    long = "bread " * (room - 60)
    short = PROMPTS_TO_GATE[0]
    alone = served.predict(None, pd.DataFrame({"prompt": [short]}))["answer"].item()
    assert served.predict(None, pd.DataFrame({"prompt": [long[: room // 2], short]}))["answer"][1] == alone
    lengths = served._room([served._rendered(text) for text in (short, "Hello")], served._most())
    assert lengths[0] < lengths[1] < room
    with pytest.raises(MlflowException, match="prompt 2 of 2 has"):
        served.predict(None, pd.DataFrame({"prompt": [short, "bread " * room]}))


def test_odd_tables(served: Any) -> None:
    import pandas as pd

    talk = [{"role": "user", "content": PROMPTS_TO_GATE[0]}]
    # Each row has one of the two.
    mixed = pd.DataFrame({"prompt": [PROMPTS_TO_GATE[0], None], "messages": [None, talk]})
    first, second = served.predict(None, mixed)["answer"]
    assert first == second
    # An empty part of a large table.
    assert served.predict(None, pd.DataFrame({"prompt": []})).shape == (0, 1)
    for wrong, said in ((None, "Prompt 2 must be a text"), ("\ud800", "Prompt 2 holds half a surrogate pair")):
        with pytest.raises(MlflowException, match=said):
            served.predict(None, pd.DataFrame({"prompt": pd.Series(["Hello", wrong], dtype=object)}))
    # A text, if a strange one, and no list of messages.
    served.predict(None, pd.DataFrame({"prompt": ["[" * 200]}))
