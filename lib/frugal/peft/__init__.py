"""Chapter 2: (IA)³ and the other ways to tune a few parameters of a frozen model.

tuned = peft.attach(model, "ia3")
… train tuned.parameters() …
tuned.save(folder)
tuned.detach()                  # the model is what it was, bit for bit
peft.load(model, folder)
"""

from frugal.peft.tuned import METHODS, Tuned, attach, load

__all__ = ["METHODS", "Tuned", "attach", "load"]
