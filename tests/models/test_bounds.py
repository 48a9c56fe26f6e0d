"""What a model has, by its configuration alone."""

import pytest

from mlc.models.bounds import context_of, depth_of


@pytest.mark.parametrize(
    ("config", "depth", "context"),
    [
        ({"model_type": "llama", "num_hidden_layers": 30, "max_position_embeddings": 8192}, 30, 8192),
        ({"model_type": "gpt2", "n_layer": 12, "n_positions": 1024}, 12, 1024),
        (
            {"model_type": "gemma3", "text_config": {"num_hidden_layers": 26, "max_position_embeddings": 32768}},
            26,
            32768,
        ),
        (
            {
                "model_type": "m2m_100",
                "is_encoder_decoder": True,
                "encoder_layers": 24,
                "num_hidden_layers": 12,
                "max_position_embeddings": 1024,
            },
            24,
            1024,
        ),
        ({"model_type": "t5", "is_encoder_decoder": True, "num_layers": 6, "n_positions": 512}, 6, None),
        ({"model_type": "bloom", "n_layer": 24}, 24, None),
        ({"model_type": "xlnet", "n_layer": 2, "max_position_embeddings": -1}, 2, None),
        (
            {
                "num_hidden_layers": 28,
                "max_position_embeddings": 32768,
                "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768},
            },
            28,
            131072,
        ),
        ({}, 0, None),
    ],
)
def test_layers_and_longest_texts(config, depth, context):
    assert (depth_of(config), context_of(config)) == (depth, context)
