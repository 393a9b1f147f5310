"""What methods, models, tasks and data sets are called where a person reads of them: one table.

Files, parameters and code have identifiers ("ia3", "smollm2-135m"). Titles, headings, labels and
sentences pass through `said` (see `style`), table headers and cells through `tables.readable`.
"""

import re

# Letters that no prose would have: they are replaced wherever they stand as a whole.
NAMES = {
    # methods
    "ia3": "(IA)³",
    "lora": "LoRA",
    "bitfit": "BitFit",
    "layernorm": "LayerNorm",
    "compacter": "Compacter",
    "compacter++": "Compacter++",
    "prompt-10": "prompt of 10",
    "prompt-100": "prompt of 100",
    "fish 0.2 %": "FISH (0.2 %)",
    "fish 0.02 %": "FISH (0.02 %)",
    "said 500K": "SAID (500K)",
    "said 20K": "SAID (20K)",
    # ways to answer
    "t-few": "T-Few",
    "icl-cached": "ICL, cached",
    "icl-ensemble": "ICL, ensemble",
    "icl-many": "ICL, many shots",
    "zero-shot-calibrated": "zero-shot, calibrated",
    "linear-head": "linear head on MiniLM",
    "setfit": "SetFit",
    "small-full": "all of MiniLM",
    "small-s4": "S4 in MiniLM",
    "small-distilled": "distilled MiniLM",
    "pairs-head": "head on pairs",
    "pairs-full": "all of MiniLM on pairs",
    # models
    "smollm2-135m": "SmolLM2-135M",
    "smollm2-360m": "SmolLM2-360M",
    "smollm2-1.7b": "SmolLM2-1.7B",
    "minilm-l6": "MiniLM-L6",
    "t5-small": "T5-Small",
    "t5-base": "T5-base",
    "t5-large": "T5-large",
    "t5-3b": "T5-3B",
    "t5-11b": "T5-11B",
    "t5-v1_1-small": "T5+LM small",
    "t5-v1_1-base": "T5+LM base",
    "t5-v1_1-large": "T5+LM large",
    "t5-v1_1-xl": "T5+LM 3B",
    "t5-v1_1-xxl": "T5+LM 11B",
    "t0-3b": "T0-3B",
    "t0-11b": "T0-11B",
    "bigscience/T0_3B": "T0-3B",
    "bigscience/T0": "T0-11B",
    "gpt3-6.7b": "GPT-3 6.7B",
    "gpt3-13b": "GPT-3 13B",
    "gpt3-175b": "GPT-3 175B",
    "roberta-base": "RoBERTa-base",
    "roberta-large": "RoBERTa-large",
    "llama3-8b": "Llama-3 8B",
    "llama3-70b": "Llama-3 70B",
    "gpt-6.1-sol": "GPT-6.1 Sol",
    "gpt-6.1-terra": "GPT-6.1 Terra",
    "claude-opus-5-5": "Claude Opus 5.5",
    "claude-haiku-5-5": "Claude Haiku 5.5",
    "gemini-4-argon": "Gemini 4 Argon",
    "deepseek-flash": "DeepSeek Flash",
    # accelerators
    "l4": "L4",
    "t4": "T4",
    "a40": "A40",
    "h100-80gb": "H100 (80 GB)",
    "a100-80gb": "A100 (80 GB)",
    "a100-40gb": "A100 (40 GB)",
    # tasks
    "movie-reviews": "movie reviews",
    "amazon-reviews": "Amazon reviews",
    "nyt-editorials": "NYT editorials",
    "tweets-rating": "rated tweets",
    "intent-recognition": "intents",
    "step-inference": "steps of a goal",
    "discourse-markers": "discourse markers",
    "social-iqa": "Social IQa",
    "entailed-polarity": "entailed polarity",
    "first-letter": "first letter",
    "vitaminc": "VitaminC",
    "multiemo": "MultiEmo",
    "MULTIPIT_Id": "MultiPIT-Id",
    "MULTIPIT_Gen": "MultiPIT-Gen",
    "STANCEOSAURUS": "Stanceosaurus",
    "NATURAL QUESTIONS": "Natural Questions",
    # numbers of a run
    "train_flops": "FLOPs of training",
    "test_flops": "FLOPs of testing",
    "flops_per_query": "FLOPs of a query",
    "flops_per_second": "FLOP/s",
    "ours_flops": "FLOPs of a T-Few query",
    "theirs_flops": "FLOPs of an ICL query",
    "trainable_params": "trained numbers",
    "gpu_hours": "GPU hours",
    "train_seconds": "seconds of training",
    "first_loss": "first loss, nats",
    "last_loss": "last loss, nats",
    "length_normalized": "L_LN",
    "adafactor": "Adafactor",
    "adamw": "AdamW",
}
# Words of their own as well: they are names in a column of methods or ways, not in a sentence.
WORDS = {
    "full": "full fine-tuning",
    "prefix": "prefix tuning",
    "icl": "ICL",
    "fever": "FEVER",
    "usd": "USD",
    "lm": "L_LM",
    "unlikelihood": "L_UL",
}
# Not within a path, a command's option or a longer identifier.
_EDGE = r"[\w/.`-]"
RAW = re.compile(
    rf"(?<!{_EDGE})(?:{'|'.join(map(re.escape, sorted(NAMES, key=len, reverse=True)))})"
    rf"(?![\w/`+-]|\.\w)"
)


_POWER = re.compile(r"(?<![\w.])(\d(?:\.\d+)?)e\+0?(\d+)\b")


def name(identifier: str) -> str:
    """What an identifier is called; itself, where it has no other name."""
    return NAMES.get(identifier) or WORDS.get(identifier) or said(identifier)


def said(text: str) -> str:
    """A text with names in place of identifiers, and powers of ten as the papers print them.

    "1.44e+15" becomes "1.44e15"; an identifier that is part of a path or command stays.
    """
    return _POWER.sub(r"\1e\2", RAW.sub(lambda found: NAMES[found[0]], text))
