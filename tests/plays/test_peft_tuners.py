"""Every kind of adapter that peft has: right on unpadded models in either order, or refused by name."""

import peft
import pytest
import torch

import yanma
from models.builders import FAMILIES, SEQ2SEQ, build
from yanma.models.adapters import REFUSED

BY_TYPE = {family.model_type: family for family in (*FAMILIES, *SEQ2SEQ)}
MODELS = {
    "bert": ("BertForTokenClassification", "TOKEN_CLS", ["query", "value"]),
    "llama": ("LlamaForCausalLM", "CAUSAL_LM", ["q_proj", "v_proj"]),
    "bart": ("BartForConditionalGeneration", "SEQ_2_SEQ_LM", ["k_proj", "v_proj"]),
}
NORMS = ["LayerNorm", "input_layernorm", "self_attn_layer_norm"]
EMBEDDINGS = ["word_embeddings", "embed_tokens", "shared"]
KINDS = {
    "lora": ("LoraConfig", {"r": 4, "lora_bias": True}),
    "lora, rs": ("LoraConfig", {"r": 4, "use_rslora": True}),
    "lora of embeddings": ("LoraConfig", {"r": 4, "target_modules": EMBEDDINGS}),
    "dora": ("LoraConfig", {"r": 4, "use_dora": True}),
    "adalora": ("AdaLoraConfig", {"init_r": 4, "target_r": 2, "total_step": 10}),
    "adamss": ("AdamssConfig", {"r": 4}),
    "adaption prompt": (
        "AdaptionPromptConfig",
        {"adapter_len": 4, "adapter_layers": 1, "target_modules": None},
    ),
    "beft": ("BeftConfig", {}),
    "boft": ("BOFTConfig", {"boft_block_size": 8}),
    "c3a": ("C3AConfig", {"block_size": 8}),
    "deft": ("DeftConfig", {}),
    "delora": ("DeloraConfig", {"r": 4}),
    "fourierft": ("FourierFTConfig", {"n_frequency": 10}),
    "frod": ("FrodConfig", {"progressbar": False}),
    "glora": ("GloraConfig", {}),
    "gralora": ("GraloraConfig", {"r": 4, "gralora_k": 2}),
    "hira": ("HiraConfig", {"r": 4}),
    "hra": ("HRAConfig", {"r": 4}),
    "ia3": ("IA3Config", {"feedforward_modules": []}),
    "ln_tuning": ("LNTuningConfig", {"target_modules": NORMS}),
    "loha": ("LoHaConfig", {"r": 4}),
    "lokr": ("LoKrConfig", {"r": 4}),
    "miss": ("MissConfig", {"r": 4}),
    "oft": ("OFTConfig", {"oft_block_size": 8, "r": 0}),
    "osf": ("OSFConfig", {}),
    "peanut": ("PeanutConfig", {}),
    "psoft": ("PsoftConfig", {"r": 4}),
    "pvera": ("PveraConfig", {"r": 4}),
    "randlora": ("RandLoraConfig", {"r": 4}),
    "road": ("RoadConfig", {"group_size": 8}),
    "shira": ("ShiraConfig", {"r": 2}),
    "supertuning": ("SupertuningConfig", {}),
    "tinylora": ("TinyLoraConfig", {}),
    "trainable_tokens": (
        "TrainableTokensConfig",
        {"token_indices": list(range(5, 60)), "target_modules": ["embed_tokens"]},
    ),
    "unilora": ("UniLoraConfig", {"r": 4}),
    "vblora": ("VBLoRAConfig", {"r": 4, "vector_length": 8, "num_vectors": 8}),
    "vera": ("VeraConfig", {"r": 4}),
    "waveft": ("WaveFTConfig", {"n_frequency": 10}),
}
"""Names begin with peft's own of the kind, in small letters."""
PROMPTS = {"PROMPT_TUNING", "MULTITASK_PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "CPT", "CARTRIDGE"}
"""Those of test_peft_prompts.py."""
ONE_MODEL = {"adaption prompt": "llama", "trainable_tokens": "llama", "adamss": "bert"}
CASES = [
    (kind, model, ("unpadded peft", "peft of unpadded")[(place + number) % 2])
    for place, kind in enumerate(KINDS)
    for number, model in enumerate(MODELS)
    if ONE_MODEL.get(kind, model) == model
]
ORDERS = pytest.mark.parametrize("order", ["peft of unpadded", "unpadded peft"])


def test_every_kind_of_peft_s_is_known():
    tried = {KINDS[kind][0].removesuffix("Config").upper() for kind in KINDS}
    tried |= {kind.upper().replace(" ", "_") for kind in KINDS} | {"BONE"}
    unknown = {kind.value for kind in peft.PeftType} - tried - set(REFUSED) - PROMPTS
    assert not unknown, "a kind that nobody has tried: try it above, or refuse it in adapters.py"


def adapted(kind, model_type, order="stock", **more):
    """The same numbers in every order, none of them what an adapter begins with."""
    name, task, targets = MODELS[model_type]
    config, settings = KINDS[kind]
    config = getattr(peft, config)(**{"task_type": task, "target_modules": targets} | settings | more)
    model = build(BY_TYPE[model_type], name)
    torch.manual_seed(7)
    model = peft.get_peft_model(yanma.unpad(model) if order == "peft of unpadded" else model, config)
    draw = torch.Generator().manual_seed(3)
    for _, parameter in sorted(model.named_parameters()):
        if parameter.requires_grad:
            parameter.data.add_(0.1 * torch.randn(parameter.shape, generator=draw))
    return yanma.unpad(model) if order == "unpadded peft" else model


def sequences(seed, lengths):
    draw = torch.Generator().manual_seed(seed)
    return [torch.randint(5, 100, (length,), generator=draw) for length in lengths]


SOURCES, TARGETS = sequences(1, (5, 3, 4)), sequences(2, (4, 5, 3))


def logits(model, chosen=range(3), how="packed", **more):
    """(T, C), of the chosen documents or pairs."""
    sources, targets = ([given[i] for i in chosen] for given in (SOURCES, TARGETS))
    read, written = (
        yanma.PackedBatch.from_sequences(given, ids=list(chosen)) for given in (sources, targets)
    )
    is_pair = model.config.is_encoder_decoder
    if how == "packed":
        return model(read, **{"decoder_input_ids": written} if is_pair else {}, **more).logits
    if how == "keywords":
        return model(**yanma.PackedCollator()([{"input_ids": ids} for ids in sources]), **more).logits[0]
    kwargs = {"input_ids": read.pad(read.input_ids)}
    valid = kwargs["attention_mask"] = read.pad(torch.ones_like(read.input_ids))
    if is_pair:
        valid = written.pad(torch.ones_like(written.input_ids))
        kwargs |= {"decoder_input_ids": written.pad(written.input_ids), "decoder_attention_mask": valid}
    return model(**kwargs, **more).logits[valid.bool()]


def learned(model, out):
    model.zero_grad()
    out.square().sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def check_same(found, expected):
    assert found.keys() == expected.keys() and found
    largest = max(float(gradient.abs().max()) for gradient in expected.values())
    assert largest > 0
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=3e-6 * largest, msg=name)


@pytest.mark.filterwarnings("ignore")  # peft's own, of small ranks and the like
@pytest.mark.parametrize(("kind", "model_type", "order"), CASES)
def test_packed_documents_are_what_stock_ones_are_one_at_a_time(kind, model_type, order):
    if kind == "glora":  # peft takes no subclass of nn.Linear there
        order = "unpadded peft"
    stock, ours = adapted(kind, model_type), adapted(kind, model_type, order)
    for mode in ["eval"] if kind == "pvera" else ["eval", "train"]:  # pVeRA adds noise in training
        getattr(stock, mode)(), getattr(ours, mode)()
        expected = torch.cat([logits(stock, [i], "padded") for i in range(3)])
        found = logits(ours)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=3e-6)
    check_same(learned(ours, found), learned(stock, expected))
    ways = ["padded"] if model_type == "bart" else ["padded", "keywords"]
    with torch.no_grad():
        for how in ways:
            torch.testing.assert_close(logits(ours, how=how), expected, rtol=1e-5, atol=3e-6)
        restored = yanma.restore(ours)
        torch.testing.assert_close(logits(restored, how="padded"), expected, rtol=1e-5, atol=3e-6)
    assert not any(hasattr(type(module), "_yanma_stock") for module in restored.modules())


DROPPING = {
    "lora": "lora_dropout",
    "dora": "lora_dropout",
    "adalora": "lora_dropout",
    "deft": "deft_dropout",
    "delora": "module_dropout",
    "frod": "frod_dropout",
    "gralora": "gralora_dropout",
    "hira": "hira_dropout",
    "miss": "miss_dropout",
    "psoft": "psoft_dropout",
    "randlora": "randlora_dropout",
    "tinylora": "tinylora_dropout",
    "unilora": "unilora_dropout",
    "vblora": "vblora_dropout",
    "vera": "vera_dropout",
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("kind", "model_type"),
    [(kind, list(MODELS)[place % 3]) for place, kind in enumerate(DROPPING)] + [("dora", "bart")],
)
def test_what_an_adapter_drops_does_not_depend_on_company(kind, model_type):
    model = adapted(kind, model_type, "peft of unpadded", **{DROPPING[kind]: 0.5}).train()
    together = learned(model, logits(model, seed=5))
    parts = [learned(model, logits(model, [i], seed=5)) for i in range(3)]
    check_same(together, {name: sum(part[name] for part in parts) for name in together})
    other = learned(model, logits(model, seed=6))
    assert any(not torch.allclose(other[name], together[name]) for name in together), "nothing is dropped"
