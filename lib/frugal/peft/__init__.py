"""Chapter 2: (IA)³ and the other ways to tune a few parameters of a frozen model.

tuned = peft.attach(model, "ia3")                   # or "lora", {"rank": 4}; see METHODS
… train tuned.parameters() …
tuned.save(folder)
tuned.merge(); tuned.unmerge()                      # exact
tuned.detach()                                      # the model is what it was, bit for bit
peft.load(model, folder)                            # ours, Hugging Face peft's, or T-Few's

Methods combine, on all layers, on some, or each layer by itself:

peft.attach(model, {"lora": {"rank": 4}, "layernorm": {}})
peft.attach(model, "adapter", {"size": 16}, layers=[0, 1])
peft.attach(model, {0: {"adapter": {"size": 8}, "bitfit": {}}, 3: {"prefix": {"tokens": 4}}})

Layers count from 0, an encoder–decoder's decoder after its encoder; those not named are frozen.

mixed = peft.mixed(model, {"a": folder_a, "b": folder_b})
with mixed.tasks(["a", None, "b"]):                 # the task of each row of the batch
    model(**batch)
"""

from frugal.peft.mixed import Mixed, mixed
from frugal.peft.parts import METHODS, Part, precisions
from frugal.peft.tuned import Tuned, attach, load, of

__all__ = [
    "METHODS",
    "Mixed",
    "Part",
    "Tuned",
    "attach",
    "load",
    "mixed",
    "of",
    "precisions",
]
