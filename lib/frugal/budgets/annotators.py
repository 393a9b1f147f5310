"""Who gives labels here: people at a price, and a local model that ranks the choices.

A server's model is in `endpoint`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from frugal import moved, peft
from frugal.budgets.source import Answer, Answers, Source
from frugal.costs import check
from frugal.engine import digests
from frugal.engine.backbones import Backbone
from frugal.fewshot import choices, encoding, icl, probe
from frugal.fewshot.encoding import EncodedExample
from frugal.tasks.templates import Example

__getattr__ = moved.names(
    __name__,
    {
        "Endpoint": "frugal.budgets.endpoint",
        "KEY": "frugal.budgets.replies",
        "parse": "frugal.budgets.replies",
    },
)


Text = tuple[str, tuple[str, ...]]  # a prompt, and its choices in one order


@dataclass(frozen=True)
class HumanPool(Source):
    """People who give the task's own labels, at `usd` a label (`costs.prices` lists some)."""

    usd: float
    batch: int = 64
    name = "people"

    def __post_init__(self) -> None:
        check.amount("usd", self.usd)

    def identity(self) -> Mapping[str, Any]:
        return {"people": self.name, "usd": self.usd}

    def most_usd(self, example: Example) -> float:
        return self.usd

    def ask(self, examples: Sequence[Example], attempt: int) -> Answers:
        for place, example in enumerate(examples):
            yield place, Answer(example.label, self.usd, example.choices[example.label])


@dataclass(frozen=True)
class LocalModel(Source):
    """A backbone here, which answers with its best-ranked choice: prompted, or a tuned teacher.

    shots: solved examples in front of every prompt; what is attached to the model is its own
    usd_per_1k_tokens: for every token of prompt and shots, as an API bills them, and one answered
    """

    backbone: Backbone
    usd_per_1k_tokens: float
    shots: tuple[Example, ...] = ()
    batch: int = 64
    _known: dict[Text, EncodedExample] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        check.amount("usd (of 1,000 tokens)", self.usd_per_1k_tokens)

    @property
    def name(self) -> str:
        return self.backbone.name

    def identity(self) -> Mapping[str, Any]:
        tuned = peft.of(self.backbone.model)
        vectors = tuned.named_parameters() if tuned else ()
        return {
            "model": self.name,
            "content": digests.backbone(self.name),
            "tuned": digests.weights((n, v.float()) for n, v in vectors) if tuned else None,
            "shots": [[s.prompt, s.choices[s.label]] for s in self.shots],
            "usd_per_1k_tokens": self.usd_per_1k_tokens,
        }

    def ready(self) -> None:
        probe.packs(self.backbone)

    def _encoded(self, examples: Sequence[Example]) -> list[EncodedExample]:
        """The examples behind the shots, in tokens: each text is read once, whoever asks for it.

        Choices stand in one order, whatever theirs is: so is a tie, and the last digit.
        """
        texts = [(e.prompt, tuple(sorted(e.choices))) for e in examples]
        if new := [text for text in dict.fromkeys(texts) if text not in self._known]:
            asked = [Example(prompt=prompt, choices=said, label=0) for prompt, said in new]
            found = encoding.encode(self.backbone, icl.prompted(asked, self.shots))
            self._known.update(zip(new, found, strict=True))
        return [self._known[text] for text in texts]

    def tokens(self, example: Example) -> int:
        """Tokens of the prompt, shots included, and one for the answer."""
        (encoded,) = self._encoded([example])
        return (len(encoded.read) or encoded.start) + 1

    def most_usd(self, example: Example) -> float:
        return self.tokens(example) * self.usd_per_1k_tokens / 1000

    def ask(self, examples: Sequence[Example], attempt: int) -> Answers:
        scores = choices.score(self.backbone, self._encoded(examples))
        for place, best in enumerate(scores.predictions.tolist()):
            example = examples[place]
            said = sorted(example.choices)[best]
            usd, tokens = self.most_usd(example), self.tokens(example)
            yield place, Answer(example.choices.index(said), usd, said, tokens)
