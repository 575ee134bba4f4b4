"""Steps of generation are unpadded too: the stock model's words, and scores with the bits of each text by itself."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

import yanma
from models.builders import FAMILIES, SEQ2SEQ, SMALL, build
from models.measured import sharpened
from models.pairs import generator
from models.test_cache import kept, step
from yanma.models import steps
from yanma.models.family import Family

pytestmark = pytest.mark.filterwarnings("ignore:`past_key_values` is deprecated:FutureWarning")
BY_TYPE = {family.model_type: family for family in (*FAMILIES, *SEQ2SEQ)}
WRITERS = [
    (family, name)
    for family in (*FAMILIES, *SEQ2SEQ)
    for name in family.heads
    if name.endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration", "MTModel"))
]
"""Windows of those that have some are shorter than the texts here."""
COUNTS_PADDING = ("BartForCausalLM", "MBartForCausalLM", "MarianForCausalLM", "PegasusForCausalLM")
"""Their stock models count padding on the left as positions, so that a text has other numbers in company."""
LENGTHS = (7, 1, 20, 12)
SEARCHES = {"greedy": {}, "beam": {"num_beams": 3}}
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])


def each(cases: list[tuple[Family, str]]):
    return pytest.mark.parametrize(("family", "name"), cases, ids=[name for _, name in cases])


def model_of(family: Family, name: str, dtype: torch.dtype = torch.float32, **settings: Any) -> nn.Module:
    return sharpened(build(family, name, **settings)).to(dtype)


def texts(family: Family, name: str, lengths: tuple[int, ...] = LENGTHS) -> list[Tensor]:
    draw = torch.Generator().manual_seed(2)
    ends = torch.tensor([2] * family.heads[name].decodes, dtype=torch.long)
    return [torch.cat([torch.randint(5, 99, (length,), generator=draw), ends]) for length in lengths]


def rectangle(family: Family, name: str, given: list[Tensor], side: str = "left") -> dict[str, Tensor]:
    """Arguments for rows padded as the stock model wants them to write on."""
    side = "right" if family.heads[name].decodes else side
    pad = SMALL[family.model_type].pad_token_id
    ones = [torch.ones_like(ids) for ids in given]
    return {
        "input_ids": pad_sequence(given, True, pad, side),
        "attention_mask": pad_sequence(ones, True, 0, side),
    }


def written(model: nn.Module, inputs: dict[str, Tensor], **ways: Any) -> Any:
    ways = {"max_new_tokens": 4, "do_sample": False, "output_scores": True, "output_logits": True} | ways
    return model.generate(**inputs, return_dict_in_generate=True, **ways)


def scores(found: Any, row: int, beams: int, count: int | None = None) -> Tensor:
    """(steps, 2, beams, V): scores and logits of one row; sampled ones have one beam."""
    rows = slice(row * beams, (row + 1) * beams)
    return torch.stack(
        [torch.stack([a[rows], b[rows]]) for a, b in zip(found.scores, found.logits, strict=True)]
    )[:count]


@pytest.fixture
def stock_calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The arguments of each call that goes through the stock forward."""
    calls: list[dict[str, Any]] = []

    def noted(model: Any, family: Any, head: Any, kwargs: Any) -> Any:
        found = known(model, family, head, kwargs)
        if found is None:
            calls.append(dict(kwargs))
        return found

    known = steps.step
    monkeypatch.setattr(steps, "step", noted)
    return calls


def test_all_that_write_are_here():
    assert len(WRITERS) >= 29 and {family for family, _ in WRITERS} >= {f for f in FAMILIES if f.caches} - {
        BY_TYPE["clip_text_model"]
    }


def scored() -> Iterator[Any]:
    """Each that writes, greedily, and those that are made to write in all ways."""
    for family, name in WRITERS:
        if name not in COUNTS_PADDING:
            yield pytest.param(family, name, "greedy", torch.float32, id=f"{name}-greedy-fp32")
            if family.caches or family.heads[name].decodes:
                yield pytest.param(family, name, "greedy", torch.bfloat16, id=f"{name}-greedy-bf16")
                yield pytest.param(family, name, "beam", torch.float32, id=f"{name}-beam-fp32")


@pytest.mark.parametrize(("family", "name", "search", "dtype"), [*scored()])
def test_of_thousands_of_scores_none_has_other_bits_alone_than_in_company(
    family: Family, name: str, search: str, dtype: torch.dtype, stock_calls
):
    stock, given, ways = model_of(family, name, dtype), texts(family, name), SEARCHES[search]
    model, beams = yanma.unpad(copy.deepcopy(stock)), ways.get("num_beams", 1)
    together = written(model, rectangle(family, name, given), **ways)
    compared = 0
    for row, ids in enumerate(given):
        inputs = rectangle(family, name, [ids])
        alone = written(model, inputs, **ways)
        own = scores(alone, row=0, beams=beams)
        assert torch.equal(own, scores(together, row, beams, len(own))), f"row {row}"
        compared += own.numel()
        if dtype == torch.float32:
            expected = written(stock, inputs, **ways)
            assert torch.equal(alone.sequences, expected.sequences), f"row {row}"
            theirs = scores(expected, row=0, beams=beams)
            torch.testing.assert_close(own, theirs, rtol=1e-4, atol=1e-4)
    assert compared >= 2_000 and not stock_calls


@each(
    [(family, name) for family, name in WRITERS if family.heads[name].decodes or name == "LlamaForCausalLM"]
)
def test_without_a_cache_too(family: Family, name: str, stock_calls):
    model, given = yanma.unpad(model_of(family, name)), texts(family, name, (7, 1, 12))
    with_one, without = (
        written(model, rectangle(family, name, given), use_cache=keeps, max_new_tokens=3)
        for keeps in (True, False)
    )
    assert torch.equal(with_one.sequences, without.sequences) and not stock_calls
    for row, ids in enumerate(given):
        alone = written(model, rectangle(family, name, [ids]), use_cache=False, max_new_tokens=3)
        own = scores(alone, 0, 1)
        assert torch.equal(own, scores(without, row, 1, len(own)))


@each([(BY_TYPE["llama"], "LlamaForCausalLM"), (BY_TYPE["bart"], "BartForConditionalGeneration")])
def test_samples_are_drawn_from_scores_that_are_a_texts_own(family: Family, name: str):
    model, given = yanma.unpad(model_of(family, name)), texts(family, name)
    ways = {
        "do_sample": True,
        "temperature": 0.7,
        "top_k": 20,
        "top_p": 0.9,
        "min_p": 0.01,
        "max_new_tokens": 1,
    }
    together = written(model, rectangle(family, name, given), **ways)
    for row, ids in enumerate(given):
        alone = written(model, rectangle(family, name, [ids]), **ways)
        assert torch.equal(scores(alone, 0, 1), scores(together, row, 1))


ROWWISE = {
    "softmax": lambda x: x.softmax(-1),
    "log_softmax": lambda x: torch.nn.functional.log_softmax(x, dim=-1),
    "temperature": transformers.TemperatureLogitsWarper(0.7),
    "top k": transformers.TopKLogitsWarper(30),
    "top p": transformers.TopPLogitsWarper(0.8),
    "min p": transformers.MinPLogitsWarper(0.02),
    "typical p": transformers.TypicalLogitsWarper(0.8),
    "epsilon": transformers.EpsilonLogitsWarper(1e-3),
    "eta": transformers.EtaLogitsWarper(1e-3),
    "cumulative sums": lambda x: x.softmax(-1).sort().values.cumsum(-1),
}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("way", ROWWISE)
def test_what_comes_after_the_model_gives_rows_their_own_bits(way: str, threads: int):
    """What `generate` computes of logits, by torch and by transformers."""
    draw, before = torch.Generator().manual_seed(0), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for size in (97, 32000):
            logits, ids = 3 * torch.randn(9, size, generator=draw), torch.zeros(9, 1, dtype=torch.long)

            def run(rows: slice, logits: Tensor = logits, ids: Tensor = ids) -> Tensor:
                warper, own = ROWWISE[way], logits[rows].clone()
                return (
                    warper(ids[rows], own)
                    if isinstance(warper, transformers.LogitsProcessor)
                    else warper(own)
                )

            whole = run(slice(None))
            for rows in (slice(0, 1), slice(3, 4), slice(8, 9), slice(2, 7)):
                assert torch.equal(run(rows), whole[rows]), (
                    f"{size} scores, rows {rows.start} to {rows.stop - 1}"
                )
    finally:
        torch.set_num_threads(before)


HAS_NO_WINDOWS = ("gpt2", "llama", "opt", "gpt_neox", "gemma")


def continued(
    model: nn.Module, inputs: dict[str, Tensor], more: Tensor, by_position: bool, cut: tuple[int, ...]
) -> list[Tensor]:
    """Logits of the last token of each row's text, and of `more` (N, n), given in steps of these sizes."""
    mask, lengths = inputs["attention_mask"], inputs["attention_mask"].sum(1)
    places = {"position_ids": (mask.cumsum(1) - 1).clamp(min=0)} if by_position else {}
    with torch.no_grad():
        output = model(**inputs, **places, use_cache=True)
        last = (mask * torch.arange(mask.shape[1])).argmax(1)
        found = [output.logits[torch.arange(len(last)), last][:, None]]
        for ids in more.split(list(cut), 1):
            mask = torch.cat([mask, torch.ones_like(ids)], 1)
            if by_position:
                places = {"position_ids": lengths[:, None] + torch.arange(ids.shape[1])}
                lengths = lengths + ids.shape[1]
            output = step(model, ids, kept(output), attention_mask=mask, use_cache=True, **places)
            found.append(output.logits)
    return found


@DTYPES
@pytest.mark.parametrize("side", ["right", "left"])
@each([(family, name) for family, name in WRITERS if family.model_type in HAS_NO_WINDOWS])
def test_a_hand_written_loop_of_padded_rows_has_bits_of_texts_alone(
    family: Family, name: str, side: str, dtype: torch.dtype, stock_calls
):
    """Right padding stands between the text and what is written; a step may have several tokens."""
    stock, given = model_of(family, name, dtype), texts(family, name, (7, 1, 12))
    model, more = yanma.unpad(copy.deepcopy(stock)), torch.stack(texts(family, name, (6, 6, 6)))
    found = continued(model, rectangle(family, name, given, side), more, True, (1, 4, 1))
    assert not stock_calls
    for row, ids in enumerate(given):
        inputs = {"input_ids": ids[None], "attention_mask": torch.ones_like(ids)[None]}
        alone, expected = (continued(m, inputs, more[row, None], True, (1, 4, 1)) for m in (model, stock))
        for own, theirs, company in zip(alone, expected, found, strict=True):
            assert torch.equal(own[0], company[row])
            if dtype == torch.float32:
                torch.testing.assert_close(own, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("side", ["right", "left"])
@each([(family, name) for family, name in WRITERS if not family.heads[name].decodes])
def test_a_loop_without_positions_is_the_stock_models_on_the_same_rows(family: Family, name: str, side: str):
    """Stock models then count hidden slots, in positions and in windows; where windows do, they compute it."""
    stock, given = model_of(family, name), texts(family, name, (7, 1, 12))
    model, more = yanma.unpad(copy.deepcopy(stock)), torch.stack(texts(family, name, (6, 6, 6)))
    inputs = rectangle(family, name, given, side)
    found, expected = (continued(m, inputs, more, False, (1, 4, 1)) for m in (model, stock))
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


@each([(BY_TYPE[kind], generator(BY_TYPE[kind])) for kind in ("bart", "t5", "m2m_100")])
def test_a_hand_written_loop_of_pairs_has_bits_of_pairs_alone(family: Family, name: str, stock_calls):
    stock, given = model_of(family, name), texts(family, name, (7, 1, 12))
    model, targets = yanma.unpad(copy.deepcopy(stock)), torch.stack(texts(family, name, (6, 6, 6)))

    def loop(model: nn.Module, sources: list[Tensor], targets: Tensor) -> Tensor:
        inputs, found = rectangle(family, name, sources), []
        with torch.no_grad():
            output = model(**inputs, decoder_input_ids=targets[:, :2], use_cache=True)
            found.append(output.logits)
            for ids in targets[:, 2:].split([1, 3, 1], 1)[:3]:
                more = {
                    "decoder_input_ids": ids,
                    "attention_mask": inputs["attention_mask"],
                    "use_cache": True,
                }
                states = output.encoder_last_hidden_state
                output = model(encoder_outputs=(states,), past_key_values=kept(output), **more)
                found.append(output.logits)
        return torch.cat(found, 1)

    together = loop(model, given, targets)
    assert not stock_calls
    for row, source in enumerate(given):
        alone, expected = (loop(m, [source], targets[row, None]) for m in (model, stock))
        assert torch.equal(alone[0], together[row])
        torch.testing.assert_close(alone, expected, rtol=1e-4, atol=1e-4)


def test_rows_that_have_ended_may_be_hidden_while_others_go_on(stock_calls):
    family, name = BY_TYPE["llama"], "LlamaForCausalLM"
    model, given = yanma.unpad(model_of(family, name)), texts(family, name, (7, 1, 12))
    inputs, more = rectangle(family, name, given), torch.tensor([[7], [8], [9]])
    alive = torch.tensor([[1], [0], [1]])
    with torch.no_grad():
        first = model(**inputs, use_cache=True)
        mask = torch.cat([inputs["attention_mask"], alive], 1)
        places = (mask.cumsum(1) - 1)[:, -1:]
        second = step(model, more, kept(first), attention_mask=mask, position_ids=places)
        whole = torch.cat([given[2], more[2]])[None]
        expected = model(input_ids=whole).logits[:, -1]
    torch.testing.assert_close(second.logits[2], expected, rtol=1e-4, atol=1e-4)
    assert not second.logits[1].any() and not stock_calls


def fallbacks() -> Iterator[tuple[str, dict[str, Any]]]:
    ids, mask = torch.arange(7, 15).view(2, 4), torch.tensor([[0, 1, 1, 1], [1, 1, 1, 1]])
    plain = {"input_ids": ids, "attention_mask": mask, "use_cache": True}
    seen = torch.ones(4, 4, dtype=torch.bool).tril()[None, None].expand(2, 1, 4, 4)
    yield "attention weights", plain | {"output_attentions": True}
    yield "a mask of all pairs", plain | {"attention_mask": seen}
    yield "a mask that hides the last slot", plain | {"attention_mask": mask.flip(1), "logits_to_keep": 1}
    yield "the same with all logits", plain | {"attention_mask": mask.flip(1), "logits_to_keep": 0}
    yield "slots by number", plain | {"logits_to_keep": torch.tensor([1, 3])}
    yield "labels", plain | {"labels": ids}
    yield "a cache of another kind", plain | {"past_key_values": "static"}
    yield "a mask of the new tokens alone", plain | {"past_key_values": "filled", "attention_mask": mask}


FALLBACKS = dict(fallbacks())


@pytest.mark.parametrize("way", FALLBACKS)
@pytest.mark.parametrize("name", ["LlamaForCausalLM", "GPT2LMHeadModel", "MistralForCausalLM"])
def test_what_is_not_known_how_to_leave_out_goes_through_the_stock_forward(name: str, way: str, stock_calls):
    family = next(family for family, own in WRITERS if own == name)
    stock = model_of(family, name, sliding_window=2) if name.startswith("Mistral") else model_of(family, name)
    model, found = yanma.unpad(copy.deepcopy(stock)), []
    if way == "attention weights":
        stock.set_attn_implementation("eager")
    for each_model in (model, stock):
        call = dict(FALLBACKS[way])
        if call.get("past_key_values") == "static":
            call["past_key_values"] = transformers.StaticCache(config=stock.config, max_cache_len=8)
        with torch.no_grad():
            if call.get("past_key_values") == "filled":
                call["past_key_values"] = kept(stock(input_ids=call["input_ids"], use_cache=True))
            found.append(each_model(**call).logits)
    assert len(stock_calls) == 1 and torch.equal(*found)


def test_training_goes_through_the_stock_forward(stock_calls):
    family, name = BY_TYPE["llama"], "LlamaForCausalLM"
    stock = model_of(family, name).train()
    model, ids = yanma.unpad(copy.deepcopy(stock)), torch.arange(7, 15).view(2, 4)
    assert (
        torch.equal(*(m(input_ids=ids, use_cache=True).logits for m in (model, stock)))
        and len(stock_calls) == 1
    )


@pytest.mark.parametrize("name", ["LlamaForCausalLM", "T5ForConditionalGeneration"])
def test_a_step_that_is_asked_for_gradients_has_the_stock_models(name: str):
    family = next(family for family, own in WRITERS if own == name)
    stock, gradients = model_of(family, name), []
    model, inputs = yanma.unpad(copy.deepcopy(stock)), rectangle(family, name, texts(family, name, (7, 1)))
    for each_model in (model, stock):
        if family.heads[name].decodes:
            first = each_model(**inputs, decoder_input_ids=torch.tensor([[3], [3]]), use_cache=True)
            more = {
                "encoder_outputs": (first.encoder_last_hidden_state,),
                "decoder_input_ids": torch.tensor([[7], [8]]),
            }
            second = each_model(attention_mask=inputs["attention_mask"], past_key_values=kept(first), **more)
        else:
            first = each_model(**inputs, use_cache=True)
            mask = torch.cat([inputs["attention_mask"], torch.ones(2, 1)], 1)
            second = step(each_model, torch.tensor([[7], [8]]), kept(first), attention_mask=mask)
        second.logits.square().sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in each_model.parameters() if p.grad is not None]))
    assert (gradients[0] - gradients[1]).norm() <= 1e-5 * gradients[1].norm()


@each([(BY_TYPE["gpt2"], "GPT2LMHeadModel"), (BY_TYPE["gemma3_text"], "Gemma3ForCausalLM")])
def test_caches_are_transformers_own_and_any_model_goes_on_from_them(family: Family, name: str):
    stock, given = model_of(family, name), texts(family, name, (7, 3))
    model, inputs = yanma.unpad(copy.deepcopy(stock)), rectangle(family, name, given)
    mask = torch.cat([inputs["attention_mask"], torch.ones(2, 1, dtype=torch.long)], 1)
    with torch.no_grad():
        caches = [kept(m(**inputs, use_cache=True)) for m in (model, stock, model, stock)]
        assert type(caches[0]) is type(caches[1]) is transformers.DynamicCache
        found = [
            step(m, torch.tensor([[7], [8]]), past, attention_mask=mask).logits
            for m, past in zip((model, model, stock, stock), caches, strict=True)
        ]
        given_cache = transformers.DynamicCache(config=stock.config)
        assert kept(step(model, inputs["input_ids"], given_cache)) is given_cache
    for other in found[:3]:
        torch.testing.assert_close(other, found[3], rtol=1e-4, atol=1e-4)


@each([(BY_TYPE["llama"], "LlamaForCausalLM"), (BY_TYPE["bart"], "BartForConditionalGeneration")])
def test_hidden_states_of_steps_are_the_stock_models(family: Family, name: str, stock_calls):
    stock, given = model_of(family, name), texts(family, name, (7, 1, 12))
    ours, inputs = yanma.unpad(copy.deepcopy(stock)), rectangle(family, name, given)
    field = "decoder_hidden_states" if family.heads[name].decodes else "hidden_states"
    found, expected = (getattr(written(m, inputs, output_hidden_states=True), field) for m in (ours, stock))
    assert len(found) == len(expected) == 4 and not stock_calls
    valid = inputs["attention_mask"].bool()
    for mine, theirs in zip(found, expected, strict=True):
        for a, b in zip(mine, theirs, strict=True):
            some = valid if a.shape[:2] == valid.shape else torch.ones(a.shape[:2], dtype=torch.bool)
            torch.testing.assert_close(a[some], b[some], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "way",
    [{"prompt_lookup_num_tokens": 3}, {"prefill_chunk_size": 4}, {"num_return_sequences": 2, "num_beams": 2}],
    ids=str,
)
@each([(BY_TYPE["llama"], "LlamaForCausalLM"), (BY_TYPE["mistral"], "MistralForCausalLM")])
def test_other_ways_to_write_give_the_stock_models_words(family: Family, name: str, way: dict[str, Any]):
    stock, given = (
        model_of(family, name),
        texts(family, name, (12,) if "prompt_lookup_num_tokens" in way else (7, 1, 12)),
    )
    ours, inputs = yanma.unpad(copy.deepcopy(stock)), rectangle(family, name, given)
    sequences = []
    for model in (ours, stock):
        more = (
            {"past_key_values": transformers.DynamicCache(config=stock.config)}
            if "prefill_chunk_size" in way
            else {}
        )
        sequences.append(model.generate(**inputs, max_new_tokens=8, do_sample=False, **way, **more))
    assert torch.equal(*sequences)
