"""What whoever gives labels must be able to do: a person, a model here, a model at a server."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from frugal.errors import FrugalError
from frugal.tasks.templates import Example


@dataclass(frozen=True)
class Answer:
    """What came back for one example.

    choice: index of the chosen answer; None where the text names none ("malformed")
    usd:    what it cost; where no answer came the most that can have been billed
    state:  "answered"; "lost", sent and perhaps billed, but nothing came; "declined", the same, and
            to ask again would not help; "refused", and no other would fare better
    text:   what the source said, or why it refused
    tokens: read and written; cached: those of them that the source had read before; reasoning:
            those that it wrote to think, and not as an answer
    """

    choice: int | None
    usd: float
    text: str = ""
    tokens: int = 0
    state: Literal["answered", "lost", "declined", "refused"] = "answered"
    cached: int = 0
    reasoning: int = 0


Answers = Generator[tuple[int, Answer], None, None]  # an example's place, and what came for it


class NotMade(FrugalError):
    """A server has made no batch, and nothing can be billed for it."""


class Batches(Protocol):
    """Where a source is asked about many examples together, and answers hours later, for less.

    Each example has a name, which comes back with its answer. Every call raises FrugalError where
    the server cannot be asked; nothing is lost by that.

    size:  examples in a batch, at most
    share: of the price that an answer costs there; None where none is to be made
    ready: whether it is known in which form the source can be asked
    """

    size: int

    @property
    def share(self) -> float | None: ...
    @property
    def ready(self) -> bool: ...

    def upload(self, name: str, asked: Mapping[str, Example], attempt: int) -> str:
        """Hand in what is to be asked, which costs nothing; what the server calls it."""
        ...

    def create(self, name: str, file: str) -> str:
        """Have it answered; what the server calls the batch. Raises NotMade where it refuses."""
        ...

    def find(self, name: str, file: str) -> str | None:
        """What the server calls a batch that was made under this name; None if it knows of none."""
        ...

    def results(self, number: str, asked: Mapping[str, Example]) -> Iterator[tuple[str, Answer]]:
        """Wait for the batch; then an answer to each, at the full price."""
        ...


class Source(Protocol):
    """Where labels come from; see `annotators` and `endpoint` for those there are.

    batch:  examples it is asked about at a time
    remote: whether a request can be billed without its answer arriving
    hint:   what may help where its answers cannot be read
    batches: of many examples, where it takes them
    """

    @property
    def name(self) -> str: ...
    @property
    def batch(self) -> int: ...
    @property
    def remote(self) -> bool:
        return False

    @property
    def hint(self) -> str:
        return ""

    @property
    def batches(self) -> Batches | None:
        return None

    def identity(self) -> Mapping[str, Any]:
        """What its answers and prices depend on, as JSON; answers of another are not mixed in."""
        ...

    def ready(self) -> None:
        """Raise FrugalError where it cannot be asked at all, before anything is written down."""
        return

    def most_usd(self, example: Example) -> float:
        """What one answer can cost at most."""
        ...

    def expected_usd(self, example: Example) -> float:
        """What one answer will cost, as far as that is known before."""
        return self.most_usd(example)

    def ask(self, examples: Sequence[Example], attempt: int) -> Answers:
        """The answer to each example, with its place among them, as soon as it is there.

        attempt: counts from 0
        """
        ...
