import pytest

from mlc.shipped import shipped_data
from mlc.translation.engines.seq2seq import Seq2SeqEngine
from mlc.translation.translator import Translator

WORDS = ["good morning to all of you", "guten Morgen euch allen", "habari za asubuhi kwenu nyote", "what is this"]


@pytest.fixture(scope="package", autouse=True)
def one_thread():
    """Models this small are no slower on one thread, and much faster where other programs use the cores too."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny_nllb_folder(tmp_path_factory):
    """A random M2M100 of a few thousand parameters, saved as any NLLB checkpoint is."""
    import torch
    from transformers import M2M100Config, M2M100ForConditionalGeneration

    from mlc.making.nano.tokenizer import build_tokenizer

    tokenizer = build_tokenizer(WORDS * 3, 300)
    torch.manual_seed(0)
    model = M2M100ForConditionalGeneration(
        M2M100Config(
            vocab_size=len(tokenizer),
            d_model=16,
            encoder_layers=1,
            decoder_layers=1,
            encoder_ffn_dim=32,
            decoder_ffn_dim=32,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            decoder_start_token_id=2,
        )
    )
    folder = tmp_path_factory.mktemp("tiny-nllb")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny(tiny_nllb_folder):
    return Translator(Seq2SeqEngine.from_folder_or_hub(tiny_nllb_folder, device="cpu", max_new_tokens=12))


@pytest.fixture(scope="session")
def nano():
    return Translator(Seq2SeqEngine.from_folder_or_hub("shipped:nano", device="cpu", max_new_tokens=128))


@pytest.fixture(scope="session")
def quickstart_folder():
    return shipped_data("quickstart")
