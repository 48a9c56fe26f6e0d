import random
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from transformers import GPT2Config, LlamaConfig, LlamaModel, MistralConfig

from mlc.models import packing
from mlc.models.packing import FILLER, can_pack, pack_rows

SHARED = [31, 32, 33, 34, 35, 36, 37, 38]
PAD = 0


def body(hidden=512, **values):
    """What packing reads of a decoder."""
    config = LlamaConfig(hidden_size=hidden, num_attention_heads=1, attn_implementation="sdpa", **values)
    return SimpleNamespace(config=config, training=False)


def padded(rows, side):
    """Ids and mask; ``mixed`` pads every second row on the left."""
    width = max(map(len, rows))
    ids, mask = torch.full((len(rows), width), PAD), torch.zeros(len(rows), width, dtype=torch.long)
    for number, row in enumerate(rows):
        left = side == "left" or (side == "mixed" and number % 2)
        place = slice(width - len(row), width) if left else slice(0, len(row))
        ids[number, place], mask[number, place] = torch.tensor(row), 1
    return ids, mask


@pytest.mark.parametrize("side", ["left", "right", "mixed"])
def test_by_hand(side):
    ids, mask = padded([[*SHARED, 5, 6], [*SHARED, 7]], side)
    batch = pack_rows(body(), ids, mask)
    # Longest row first.
    assert batch.input_ids.tolist() == [[*SHARED, 5, 6, 7]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 8]]
    seen = batch.visible[0, 0].int().tolist()
    assert seen[:8] == [[1] * (place + 1) + [0] * (10 - place) for place in range(8)]
    assert seen[8:] == [[1] * 8 + [1, 0, 0], [1] * 8 + [1, 1, 0], [1] * 8 + [0, 0, 1]]


def test_the_token_before_the_first_own_one_is_not_shared():
    ids, mask = padded([[*SHARED, 5, 5, 6], [*SHARED, 5, 5, 7]], "right")
    own = torch.zeros_like(ids, dtype=torch.bool)
    own[:, 10] = True
    # All ten are alike, but the label at 10 is told at 9.
    assert pack_rows(body(), ids, mask, own).input_ids.tolist() == [[*SHARED, 5, 5, 6, 5, 7]]
    assert pack_rows(body(), ids, mask).input_ids.tolist() == [[*SHARED, 5, 5, 6, 7]]


@pytest.mark.parametrize("side", ["left", "right", "mixed"])
@pytest.mark.parametrize("hidden", [1, 8, 512])
@pytest.mark.parametrize("opening", [[], SHARED])
def test_each_token_sees_its_own_row_and_nothing_else(side, hidden, opening):
    generator = random.Random(0)
    rows = [[*opening, *(generator.randrange(1, 30) for _ in range(generator.randint(2, 40)))] for _ in range(9)]
    ids, mask = padded(rows, side)
    batch = pack_rows(body(hidden), ids, mask)
    # Each token is there once; what is shared, once a pack, and of the first row.
    own = mask.bool() & (mask.cumsum(dim=1) > len(opening))
    own[0] = mask[0].bool()
    assert set(batch.source.flatten().tolist()) - {FILLER} == set(own.flatten().nonzero().flatten().tolist())
    assert int((batch.source != FILLER).sum()) == int(own.sum()) + (len(batch.source) - 1) * len(opening)
    found = []
    for pack in range(len(batch.source)):
        for place, source in enumerate(batch.source[pack].tolist()):
            seen = batch.visible[pack, 0, place].nonzero().flatten()
            if source == FILLER:
                # Something has to be seen, or softmax has no sum.
                assert len(seen)
                continue
            row = source // ids.shape[1]
            position = int(batch.position_ids[pack, place])
            assert batch.input_ids[pack, seen].tolist() == rows[row][: position + 1]
            assert batch.position_ids[pack, seen].tolist() == list(range(position + 1))
            found.append((row, position))
    last = {row for row, position in found if position == len(rows[row]) - 1}
    assert last == set(range(len(rows)))


def test_there_and_back():
    ids, mask = padded([[*SHARED, 5, 6, 9], [*SHARED, 7], [*SHARED, 8, 8]], "mixed")
    batch = pack_rows(body(), ids, mask)
    assert torch.equal(batch.take(ids, PAD), batch.input_ids)
    states = batch.input_ids.unsqueeze(-1).double()
    back = batch.give_back(states, ids.shape).squeeze(-1).long()
    own = (mask.cumsum(dim=1) > len(SHARED)) & mask.bool()
    own[0] = mask[0].bool()
    assert torch.equal(back, torch.where(own, ids, 0))


def test_continuations_do_not_see_one_another():
    ids, mask = padded([[*SHARED, 5, 6, 7, 8], [*SHARED, 9, 6, 7, 8]], "right")
    branch = torch.tensor([[0] * 9 + [1, 1, 2]] * 2)
    batch = pack_rows(body(), ids, mask, branch > 0, branch)
    assert batch.input_ids.tolist() == [[*SHARED, 5, 6, 7, 8, 9, 6, 7, 8]]
    # Both continuations begin where the row itself ends.
    assert batch.position_ids[0, 8:].tolist() == [8, 9, 10, 9] * 2
    one = [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 0, 0, 1]]
    nothing = [0, 0, 0, 0]
    expected = [row + nothing for row in one] + [nothing + row for row in one]
    assert batch.visible[0, 0, 8:].int().tolist() == [[1] * 8 + row for row in expected]


def test_packs_are_short_where_attention_would_cost_more():
    generator = random.Random(0)
    rows = [[*SHARED, *(generator.randrange(1, 30) for _ in range(length))] for length in (30, 10, 20, 20)]
    ids, mask = padded(rows, "right")
    assert pack_rows(body(hidden=4096), ids, mask).input_ids.shape == (1, 8 + 80)
    # 2 · 48 · (1 + 48 / 96) = 144, where one pack costs 169 and three cost 159.
    assert pack_rows(body(hidden=16), ids, mask).input_ids.shape == (2, 8 + 40)


def test_packs_have_a_largest_width(monkeypatch):
    monkeypatch.setattr(packing, "MAX_WIDTH", 25)
    ids, mask = padded([[n] * length for n, length in ((1, 30), (2, 10), (3, 12))], "right")
    # A row that is longer by itself stays whole.
    assert pack_rows(body(hidden=4096), ids, mask).input_ids.shape == (2, 30)
    ids, mask = padded([[n] * length for n, length in ((1, 20), (2, 10), (3, 12))], "right")
    assert pack_rows(body(hidden=4096), ids, mask).input_ids.shape == (2, 22)


def test_one_row():
    ids, mask = padded([[*SHARED, 5]], "left")
    assert pack_rows(body(), ids, mask).input_ids.tolist() == [[*SHARED, 5]]


def test_what_cannot_be_packed():
    assert can_pack(body(), 100)
    flash = body()
    flash.config._attn_implementation = "flash_attention_2"
    assert not can_pack(flash, 100)
    windowed = SimpleNamespace(config=MistralConfig(sliding_window=64, attn_implementation="sdpa"), training=False)
    assert can_pack(windowed, 32)
    assert not can_pack(windowed, 33)
    ids, mask = padded([[*SHARED, 5], [*SHARED, 6]], "left")
    assert pack_rows(flash, ids, mask) is None


@pytest.mark.parametrize("where", ["configuration", "module"])
def test_dropout_is_drawn_for_each_row(where):
    values = {"vocab_size": 8, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    dropped = 0.1 if where == "configuration" else 0.0
    model = LlamaModel(LlamaConfig(**values, num_attention_heads=1, attention_dropout=dropped))
    if where == "module":
        model.layers[0].mlp.act_fn = nn.Sequential(nn.SiLU(), nn.Dropout(0.1))
    assert not can_pack(model.train(), 16)
    assert can_pack(model.eval(), 16)
    drops_by_default = SimpleNamespace(config=GPT2Config(attn_implementation="sdpa"), training=True)
    assert not can_pack(drops_by_default, 16)
