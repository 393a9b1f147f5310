"""Small random models of every supported kind, a batch for each, and one way to run them."""

import torch
import transformers as t

IDS = torch.tensor([[3, 7, 11, 2, 9, 4], [1, 4, 1, 5, 9, 2], [6, 5, 3, 5, 8, 9]])
# fmt: off
SIZES = {
    "vocab_size": 50, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
T5 = {
    "vocab_size": 50, "d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 2,
    "num_decoder_layers": 3, "num_heads": 3, "decoder_start_token_id": 0, "dropout_rate": 0.0,
}
GPT2 = {
    "vocab_size": 50, "n_embd": 16, "n_layer": 2, "n_head": 4, "n_inner": 24, "n_positions": 64,
}
# fmt: on
BERT = SIZES | {"max_position_embeddings": 64}


def llama(**more):
    return t.LlamaForCausalLM(t.LlamaConfig(**SIZES | {"num_key_value_heads": 2} | more))


def t5(projection, **more):
    return t.T5ForConditionalGeneration(t.T5Config(feed_forward_proj=projection, **T5 | more))


def bert(**more):
    return t.BertModel(t.BertConfig(**BERT | more))


def roberta(**more):
    return t.RobertaModel(t.RobertaConfig(**BERT | {"pad_token_id": 0} | more))


def gpt2(**more):
    return t.GPT2LMHeadModel(t.GPT2Config(**GPT2 | more))


def bert2bert():
    decoder = t.BertConfig(**BERT, is_decoder=True, add_cross_attention=True)
    model = t.EncoderDecoderModel(encoder=bert(), decoder=t.BertLMHeadModel(decoder))
    model.config.decoder_start_token_id, model.config.pad_token_id = 1, 0
    return model


MODELS = {
    "llama": llama, "gpt2": gpt2, "t5-v1.0": lambda: t5("relu"),
    "t5-v1.1": lambda: t5("gated-gelu"), "bert": bert, "roberta": roberta, "bert2bert": bert2bert,
}  # fmt: skip


def build(name):
    """The same model every time; its biases and norms are not what they start as."""
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return model


def inputs(model, ids=IDS, mask=None):
    batch = {"input_ids": ids}
    if mask is not None:
        batch["attention_mask"] = mask
    if model.config.is_encoder_decoder:
        batch["decoder_input_ids"] = ids[:, :3].flip(1)
    return batch


def run(model, ids=IDS, mask=None):
    """Logits, or an encoder's last states: (rows, tokens, …)."""
    return model(**inputs(model, ids, mask))[0]


def loss(model):
    return run(model).float().log_softmax(-1)[..., 3].mean().neg()


def randomise(parameters, scale=0.3):
    """Somewhere else than at the start."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in parameters:
            p.add_(scale * torch.randn(p.shape, generator=generator).to(p.device))
