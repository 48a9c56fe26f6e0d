"""The registered model, as MLflow loads it: a file of its own that needs only torch, transformers and pandas.

An adapter needs PEFT too, a gate before the model py3langid, and one that reads translations or sentences sentencex.
"""

import inspect
import json
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc import PythonModel

BATCH = 8
"""Prompts in a forward pass."""
DEFAULTS = {"max_new_tokens": 128, "temperature": 0.0}
"""Of the parameters: tokens of the longest answer, and 0 for greedy answers, above it for sampled ones."""
PROBE = "\ue000probe\ue000"
"""A text that no template holds, to see what a template puts around a text."""
LANGUAGE = "language"
"""A parameter for models that are told the language of a prompt: that of all prompts, as the tokenizer writes it, such
as ``swh_Latn``; left out, it is the tokenizer's source language."""
Turns = list[dict[str, str]]


class PolicyModel(PythonModel):  # type: ignore[misc]
    """Answers prompts.

    Input: a column ``prompt`` with a person's text, a list of messages with ``role`` and ``content``, or such a list as
    JSON; or a column ``messages`` with lists of messages. Messages end with one of the person. Output: a column
    ``answer`` in the order, and with the index, of the rows. Parameters: :data:`DEFAULTS`.
    Weights and templates come with the checkpoint, which may be an adapter (LoRA) that names the model that it belongs
    to; it runs on a GPU where there is one.

    Where the checkpoint holds a gate (``prompt_gate.json``), it decides by the model's state of each prompt whether
    that is refused, in the language of what the person said last, before anything is answered. Where it reads
    translations, the checkpoint holds the translator. There, and where it reads sentences by themselves too, the
    version holds ``prompt_translation.py``.
    """

    def load_context(self, context: Any) -> None:
        """Loads the checkpoint, an ordinary folder of transformers or PEFT."""
        import torch
        from transformers import (
            AutoConfig,
            AutoModelForCausalLM,
            AutoModelForSeq2SeqLM,
            AutoTokenizer,
            GenerationConfig,
        )

        folder = context.artifacts["checkpoint"]
        gate = Path(folder) / "prompt_gate.json"
        self.gate: dict[str, Any] = json.loads(gate.read_text(encoding="utf-8")) if gate.is_file() else {}
        # Else they may ask on standard input whether code of the checkpoint may run.
        safe = {"trust_remote_code": False, "local_files_only": True}
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.tokenizer = AutoTokenizer.from_pretrained(folder, **safe)
        adapter = Path(folder) / "adapter_config.json"
        if not adapter.is_file():
            self.encodes = AutoConfig.from_pretrained(folder, **safe).is_encoder_decoder
            kind = AutoModelForSeq2SeqLM if self.encodes else AutoModelForCausalLM
            self.model = kind.from_pretrained(folder, use_safetensors=True, **safe)
        else:
            from peft import PeftModel

            named = json.loads(adapter.read_text(encoding="utf-8"))
            self.encodes = named["task_type"] == "SEQ_2_SEQ_LM"
            kind = AutoModelForSeq2SeqLM if self.encodes else AutoModelForCausalLM
            # A model of the hub may have to be fetched.
            base = kind.from_pretrained(
                named["base_model_name_or_path"],
                revision=named.get("revision") or "main",
                use_safetensors=True,
                trust_remote_code=False,
            )
            self.model = PeftModel.from_pretrained(base, folder).merge_and_unload()
            self.model.generation_config = GenerationConfig.from_pretrained(folder, local_files_only=True)
        # Encoders read from the first place on, and answers of decoders follow their prompts.
        self.tokenizer.padding_side = "right" if self.encodes else "left"
        if self.gate:
            # What it was measured in: in another type its margins would be others.
            self.model = self.model.to(getattr(torch, self.gate.get("dtype", "float32")))
        self.model = self.model.to(self.device).eval()
        if self.gate:
            from py3langid.langid import MODEL_FILE, LanguageIdentifier

            self.identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
            self.direction = torch.tensor(self.gate["direction"], dtype=torch.float64)
            # Logits of every token of a long prompt take more memory than all else.
            takes = inspect.signature(self.model.forward).parameters
            self.translator: Any = None
            if self.gate.get("reads") == "translation":
                from prompt_translation import TRANSLATOR_FOLDER, PromptTranslator  # type: ignore[import-not-found]

                self.translator = PromptTranslator(
                    Path(folder) / TRANSLATOR_FOLDER,
                    target=self._anchor,
                    segmenters=self.gate["segmenters"],
                    device=self.device,
                )
            self.raised: list[float] = self.gate.get("raised", [])
            if self.raised:
                from prompt_translation import parts_of

                self.parts_of = parts_of
            self.without_head = {"logits_to_keep": 1} if "logits_to_keep" in takes else {}

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Answers each prompt.

        Raises:
            MlflowException: The input holds no prompts, or a parameter has no such value: a mistake of the client's.
        """
        prompts = _prompts(model_input)
        texts = [self._rendered(prompt) for prompt in prompts]
        tokens, temperature = _parameters(params or {})
        most = self._most()
        room = self._room(texts, most)
        found = self._refusals(prompts, texts) if self.gate else {}
        language = self._language_tokens((params or {}).get(LANGUAGE) or None)
        asked: dict[int, list[int]] = {}
        for place in range(len(texts)):
            if place not in found:
                asked.setdefault(_fitting(tokens, room[place], place, most), []).append(place)
        for limit, own in asked.items():
            for start in range(0, len(own), BATCH):
                places = own[start : start + BATCH]
                answers = self._answers([texts[place] for place in places], limit, temperature, language)
                found |= zip(places, answers, strict=True)
        answers = pd.Series([found[place] for place in range(len(texts))], dtype=object)
        if len(model_input) == len(answers):
            answers.index = model_input.index
        return pd.DataFrame({"answer": answers})

    def _most(self) -> int | None:
        """Tokens that the model reads at once; None without end. Beyond, it fails, or says what was never tried."""
        config = self.model.config.get_text_config()
        names = () if config.model_type in ("t5", "mt5", "umt5") else ("max_position_embeddings", "n_positions")
        most = next((found for name in names if (found := getattr(config, name, None) or 0) > 0), None)
        if most is None:
            return None
        scaling = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
        # Some checkpoints name the length before positions were stretched.
        return max(most, int((scaling.get("factor") or 1) * (scaling.get("original_max_position_embeddings") or 0)))

    def _room(self, texts: Sequence[str], most: int | None, named: str | None = None) -> list[int | None]:
        """Tokens that an answer to each text may have; None without end."""
        if most is None or not texts:
            return [None] * len(texts)
        bare = not self.tokenizer.chat_template
        lengths = [len(row) for row in self.tokenizer(list(texts), add_special_tokens=bare)["input_ids"]]
        for place, length in enumerate(lengths):
            if length > most:
                raise _mistake(
                    f"The model reads at most {most} tokens at once, and "
                    f"{named or f'prompt {place + 1} of {len(texts)}'} has {length}: shorten it"
                )
        return [most if self.encodes else most - length for length in lengths]

    def _refusals(self, prompts: Sequence[str | Turns], texts: Sequence[str]) -> dict[int, str]:
        """What the gate says to the prompts that it refuses, by their places."""
        gate, found = self.gate, {}
        for place, (prompt, text) in enumerate(zip(prompts, texts, strict=True)):
            code = self._language(prompt)
            if self.translator:
                prompt = self._translated(prompt)
                text = self._rendered(prompt)
                self._room([text], self._most(), f"the translation of prompt {place + 1} of {len(prompts)}")
            score = self._score(prompt, text)
            parts = self._parts(prompt, code)
            for part in parts:
                score = max(score, self._score(part, self._rendered(part)) - self.raised[len(parts) - 1])
            if score > gate["thresholds"].get(code, gate["others"]):
                refusals = gate["refusals"]
                found[place] = refusals.get(code) or refusals[self._anchor]
        return found

    def _score(self, prompt: str | Turns, text: str) -> float:
        """What the gate makes of a prompt, which is rendered as the text."""
        import torch

        # One by one: not every model finds its positions behind padding.
        with torch.inference_mode():
            read = self.model(**self._encoded([text]), output_hidden_states=True, **self.without_head)
        states = read.hidden_states[self.gate["layer"]]
        state = states[0, self._places(prompt, text)].float().mean(dim=0).double().cpu()
        return float(state @ self.direction) + float(self.gate["bias"])

    def _parts(self, prompt: str | Turns, code: str | None) -> list[str | Turns]:
        """What is read beside a prompt, which is in a language: its sentences, if there are several."""
        if not self.raised:
            return []
        rules = self.gate["segmenters"][self._anchor]
        if not self.translator:
            rules = self.gate["segmenters"].get(code, rules)
        parts = self.parts_of(_last_text(prompt), rules, len(self.raised))
        return [_ending_with(prompt, part) for part in parts] if len(parts) > 1 else []

    @property
    def _anchor(self) -> str:
        """The language that the gate was fitted in."""
        return str(next(iter(self.gate["thresholds"])))

    def _translated(self, prompt: str | Turns) -> str | Turns:
        """A prompt in the language that the gate was fitted in, each message by its own language."""
        texts = [prompt] if isinstance(prompt, str) else [turn["content"] for turn in prompt]
        codes = [self._language(text) for text in texts]
        made = self.translator.translate(texts, codes, lambda sentences: list(map(self._spoken, sentences)))
        if isinstance(prompt, str):
            return str(made[0])
        return [{**turn, "content": text} for turn, text in zip(prompt, made, strict=True)]

    def _places(self, prompt: str | Turns, text: str) -> list[int]:
        """The tokens that stand for a prompt: the last one, that of the person's own text, or all of that text."""
        if self.gate["pool"] == "last":
            return [-1]
        offsets = self._offsets(text)
        start, end = self._own_text(prompt, text)
        own = [place for place, (begin, stop) in enumerate(offsets) if begin < end and stop > start and stop > begin]
        if not own:
            return [-1]
        return own if self.gate["pool"] == "mean" else own[-1:]

    def _offsets(self, text: str) -> list[tuple[int, int]]:
        bare = not self.tokenizer.chat_template
        found = self.tokenizer(text, add_special_tokens=bare, return_offsets_mapping=True)["offset_mapping"]
        return [(int(begin), int(stop)) for begin, stop in found]

    def _own_text(self, prompt: str | Turns, text: str) -> tuple[int, int]:
        """Where what the person said last begins and ends in a rendered prompt, white space left out."""
        if not self.tokenizer.chat_template:
            return 0, len(text)
        before, found, after = self._rendered(_ending_with(prompt, PROBE)).partition(PROBE)
        if not (found and text.startswith(before) and text.endswith(after)):
            return 0, 0
        own = text[len(before) : len(text) - len(after)]
        start = len(before) + len(own) - len(own.lstrip())
        return start, start + len(own.strip())

    def _language(self, prompt: str | Turns) -> str | None:
        """The language of what the person said last, if the gate has a threshold for it."""
        return self._spoken(_last_text(prompt))[0]

    def _spoken(self, text: str) -> tuple[str | None, float]:
        """The language of a text, if the gate has a threshold for it, and how probable that is."""
        ranked = self.identifier.rank(unicodedata.normalize("NFC", text))
        # That is its label for text in no language.
        label, sure = next((label, sure) for label, sure in ranked if label != "zxx")
        return self.gate["labels"].get(label), sure

    def _encoded(self, texts: Sequence[str]) -> Any:
        if self.tokenizer.pad_token_id is None:
            ends = self.model.generation_config.eos_token_id
            # The checkpoint names one token that ends an answer, or a list of them.
            self.tokenizer.pad_token_id = ends[0] if isinstance(ends, list) else ends
        # The template writes the special tokens itself.
        bare = not self.tokenizer.chat_template
        inputs = self.tokenizer(list(texts), return_tensors="pt", padding=True, add_special_tokens=bare)
        # Some tokenizers add what no model of one sequence takes.
        return {name: inputs[name].to(self.device) for name in ("input_ids", "attention_mask")}

    def _rendered(self, prompt: str | Turns) -> str:
        if not self.tokenizer.chat_template:
            if isinstance(prompt, str) or len(prompt) == 1:
                text = prompt if isinstance(prompt, str) else prompt[0]["content"]
                if self.tokenizer(text)["input_ids"]:
                    return text
                raise _mistake("An empty prompt has no token that the model could answer")
            raise _mistake("The model has no chat template, so that it reads one message and no conversation")
        turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else self._fitted(prompt)
        try:
            return self._applied(turns)
        except Exception as error:  # whatever a template raises; what it says may hold the texts
            raise _mistake(f"The chat template refuses the messages ({type(error).__name__})") from None

    def _applied(self, turns: Turns) -> str:
        rendered: str = self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        return rendered

    def _fitted(self, turns: Turns) -> Turns:
        """A conversation as it was measured: a system prompt without a place in the template begins the first turn."""
        if len(turns) < 2 or turns[0]["role"] != "system" or self._takes_system():
            return turns
        system, first, *rest = turns
        return [{**first, "content": f"{system['content']}\n\n{first['content']}"}, *rest]

    def _takes_system(self) -> bool:
        try:
            return PROBE in self._applied([{"role": "system", "content": PROBE}, {"role": "user", "content": "?"}])
        except Exception:  # as many templates refuse it
            return False

    def _language_tokens(self, name: Any) -> tuple[int, int] | None:
        """The token that the tokenizer puts to a text, and that of a language in its place."""
        if name is None:
            return None
        home = getattr(self.tokenizer, "src_lang", None) if self.encodes else None
        if not home:
            raise _mistake("The model is not told the language of a prompt: leave the parameter language out")
        if name not in self.tokenizer.get_vocab() or name not in self.tokenizer.all_special_tokens:
            raise _mistake(f"The model has no token for a language of that name: write it as in {home!r}")
        first, second = self.tokenizer.convert_tokens_to_ids([home, name])
        return first, second

    def _answers(
        self, texts: Sequence[str], tokens: int, temperature: float, language: tuple[int, int] | None
    ) -> list[str]:
        import torch
        from transformers import DynamicCache, EncoderDecoderCache

        inputs = self._encoded(texts)
        sampling: dict[str, Any] = {"do_sample": False}
        if temperature > 0:
            sampling = {"do_sample": True, "temperature": temperature}
        before = inputs["input_ids"].shape[1]
        if self.encodes:
            # The decoder's start, and the token that every answer is made to begin with.
            forced = self.model.generation_config.forced_bos_token_id is not None
            before, tokens = 1 + forced, tokens + forced
            # The one that generate makes has as many layers as the encoder.
            sampling["past_key_values"] = EncoderDecoderCache(DynamicCache(), DynamicCache())
        if language:
            home, own = language
            inputs["input_ids"][inputs["input_ids"] == home] = own
        with torch.inference_mode():
            output = self.model.generate(
                **inputs,
                max_new_tokens=tokens,
                eos_token_id=self.model.generation_config.eos_token_id,
                pad_token_id=self.tokenizer.pad_token_id,
                **sampling,
            )
        answers = self.tokenizer.batch_decode(output[:, before:], skip_special_tokens=True)
        # In some templates a space stands before every answer.
        return [answer.removeprefix(" ") for answer in answers]


def _last_text(prompt: str | Turns) -> str:
    """What the person said last."""
    return prompt if isinstance(prompt, str) else prompt[-1]["content"]


def _ending_with(prompt: str | Turns, text: str) -> str | Turns:
    """The same prompt, had the person said something else at its end."""
    return text if isinstance(prompt, str) else [*prompt[:-1], {**prompt[-1], "content": text}]


def _mistake(what: str) -> MlflowException:
    return MlflowException(f"{what}.", error_code=INVALID_PARAMETER_VALUE)


def _fitting(tokens: int, room: int | None, place: int, most: int | None) -> int:
    """Tokens of the longest answer to a prompt; fewer than by default where it leaves less room."""
    # MLflow fills in what the client left out.
    wanted = 1 if tokens == DEFAULTS["max_new_tokens"] else tokens
    if room is not None and wanted > room:
        raise _mistake(
            f"The model reads at most {most} tokens at once, prompt {place + 1} leaves {room}, and its answer may have "
            f"{wanted}: shorten the prompt, or lower max_new_tokens"
        )
    return tokens if room is None else min(tokens, room)


def _prompts(given: Any) -> list[str | Turns]:
    columns = [name for name in ("messages", "prompt") if isinstance(given, pd.DataFrame) and name in given.columns]
    if not columns:
        raise _mistake("The input must be a table with a text or messages in the column 'prompt' or 'messages'")
    # A row has one of them: MLflow fills a column that the signature has and the client left out.
    first, *others = (given[name] for name in columns)
    values = [
        next((value for value in row if not _is_nothing(value)), None) for row in zip(first, *others, strict=True)
    ]
    if values and all(map(_is_message, values)):
        # One conversation, which was taken for a column of its messages.
        values = [values]
    elif len(values) == 1 and isinstance(values[0], list) and values[0] and not any(map(_is_message, values[0])):
        # A column, which was taken for one cell.
        values = values[0]
    return [_prompt(value, place) for place, value in enumerate(values)]


def _is_nothing(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and value != value)


def _prompt(value: Any, place: int) -> str | Turns:
    turns = _turns(value, place)
    texts = [turns] if isinstance(turns, str) else [turn["content"] for turn in turns]
    if any(map(_is_broken, texts)):
        raise _mistake(f"Prompt {place + 1} holds half a surrogate pair, which is no text")
    if not isinstance(turns, str) and turns[-1]["role"] != "user":
        raise _mistake(
            f"The messages of prompt {place + 1} must end with one of the role 'user', which is what is answered"
        )
    return turns


def _is_broken(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _turns(value: Any, place: int) -> str | Turns:
    if isinstance(value, str):
        turns = _from_json(value)
        return value if turns is None else turns
    if not isinstance(value, str | bytes | Mapping) and hasattr(value, "__iter__"):
        turns = list(value)
        if turns and all(map(_is_message, turns)):
            return [{"role": turn["role"], "content": turn["content"]} for turn in turns]
    raise _mistake(
        f"Prompt {place + 1} must be a text or a list of messages with the texts 'role' and 'content', not "
        f"{'nothing' if value is None else type(value).__name__}"
    )


def _from_json(text: str) -> Turns | None:
    """The messages that a text is the JSON of; None for any other text."""
    if not text.lstrip().startswith("["):
        return None
    try:
        turns = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return turns if turns and all(map(_is_message, turns)) else None


def _is_message(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(value.get(name), str) for name in ("role", "content"))


def _parameters(params: Mapping[str, Any]) -> tuple[int, float]:
    given = {name: DEFAULTS[name] if params.get(name) is None else params[name] for name in DEFAULTS}
    tokens, temperature = given.values()
    try:
        fits = int(tokens) == tokens >= 1 and 0 <= float(temperature) < float("inf")
    except (TypeError, ValueError, OverflowError):
        fits = False
    if not fits:
        raise _mistake("max_new_tokens must be a whole number from 1 on, and temperature a number from 0 on")
    return int(tokens), float(temperature)


mlflow.models.set_model(PolicyModel())
