"""An encoder–decoder of two tiny BERTs with random weights, as nano-t0 is one of two large ones."""

from transformers import BertConfig, EncoderDecoderConfig, EncoderDecoderModel

from frugal.engine import backbones

TOKENIZER = backbones.load("tiny-t5").tokenizer
PAD, END = TOKENIZER.pad_token_id, TOKENIZER.eos_token_id


def two_berts():
    encoder = BertConfig(
        vocab_size=len(TOKENIZER), hidden_size=24, num_hidden_layers=2, num_attention_heads=3,
        intermediate_size=40, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    decoder = BertConfig(**{**encoder.to_dict(), "num_hidden_layers": 3})
    config = EncoderDecoderConfig.from_encoder_decoder_configs(
        encoder, decoder, pad_token_id=PAD, decoder_start_token_id=PAD
    )
    return EncoderDecoderModel(config)
