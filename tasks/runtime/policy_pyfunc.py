"""The registered model, as MLflow loads it: a file of its own that needs only torch, transformers and pandas."""

from typing import Any

import mlflow
import pandas as pd
from mlflow.pyfunc import PythonModel


class PolicyModel(PythonModel):  # type: ignore[misc]
    """Answers prompts greedily.

    Input: a column ``prompt``. Output: a column ``answer``. Parameters come with the checkpoint.
    """

    def load_context(self, context: Any) -> None:
        """Loads the checkpoint, an ordinary folder of transformers."""
        from transformers import AutoModelForCausalLM, AutoTokenizer

        folder = context.artifacts["checkpoint"]
        # Else they may ask on standard input whether code of the checkpoint may run.
        safe = {"trust_remote_code": False, "local_files_only": True}
        self.tokenizer = AutoTokenizer.from_pretrained(folder, **safe)
        self.model = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True, **safe).eval()

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Answers each prompt."""
        return pd.DataFrame({"answer": [self._answer(prompt) for prompt in model_input["prompt"]]})

    def _answer(self, prompt: str) -> str:
        import torch

        if self.tokenizer.chat_template:
            text = self.tokenizer.apply_chat_template(
                [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
            )
            inputs = self.tokenizer(text, return_tensors="pt", add_special_tokens=False)
        else:
            inputs = self.tokenizer(prompt, return_tensors="pt")
        # The checkpoint names one token that ends an answer, or a list of them.
        ends = self.model.generation_config.eos_token_id
        pad = self.tokenizer.pad_token_id
        with torch.inference_mode():
            output = self.model.generate(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                max_new_tokens=128,
                do_sample=False,
                eos_token_id=ends,
                pad_token_id=pad if pad is not None else ends[0] if isinstance(ends, list) else ends,
            )
        answer: str = self.tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        # In some templates a space stands before every answer.
        return answer.removeprefix(" ")


mlflow.models.set_model(PolicyModel())
