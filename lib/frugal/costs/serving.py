"""A query in dollars: through an API, cached, uncached and in a batch, and on a GPU of one's own.

A prompt is a prefix of P tokens that all queries share (the examples) and Q tokens of its own; the
answer has O. With the prices of `prices.api`, in USD a token,

    uncached   (P + Q) input + O output
    hit        P cached_input + Q input + O output
    miss       P cache_write + Q input + O output

A cache lives for L after its last use. Queries come at random, λ an hour (a Poisson process), so
the time since the last one is exponential, and a query finds the cache alive with the chance

    h = 1 - exp(-λ L)

The expected price is h hit + (1 - h) miss. It is that of an uncached query where the prefix costs
h cached_input + (1 - h) cache_write = input, so a cache pays for more than

    λ = ln((cache_write - cached_input) / (input - cached_input)) / L

queries an hour: 0 where writing costs no more than reading anew. No vendor promises a hit, and a
crowd of queries may be spread over several caches: it is the least that one pays.
"""

import math
from dataclasses import dataclass

from frugal.costs import check
from frugal.costs.prices import ApiPrice

# Where a price list does not say: the shortest lifetime that is sold (Anthropic's; OpenAI's is half
# an hour), and from how many tokens on most vendors cache (docs.litellm.ai/docs/completion/
# prompt_caching, 2026-10-07: 512 to 4,096 by model; unverified).
ASSUMED_MINUTES = 5.0
ASSUMED_LEAST = 1024


def saving(prefix_tokens: int, query_tokens: int, share: float = 0.0) -> float:
    """How many times less a query costs behind a cached prefix: (P + Q) / (share P + Q).

    share: what a cached token costs of one that is read anew; 0 is the rule of FLOPs, by which it
    costs nothing (T-Few, section 4.2). The answer is not counted.
    """
    check.whole("prefix_tokens", prefix_tokens)
    check.whole("query_tokens", query_tokens, least=1)
    share = check.amount("share", share)
    return (prefix_tokens + query_tokens) / (share * prefix_tokens + query_tokens)


@dataclass(frozen=True, kw_only=True)
class ApiQuery:
    """One query to a language model behind an API; FrugalError that names a field of nonsense.

    price:         what its tokens cost (`prices.api`)
    prefix_tokens: those that all queries share, and that can be cached
    query_tokens, output_tokens: its own, and those of the answer with the thoughts before it
    cache_minutes, cache_least: as `ApiPrice` has them; its own, or what is assumed, unless given
    """

    price: ApiPrice
    prefix_tokens: int
    query_tokens: int
    output_tokens: int = 0
    cache_minutes: float | None = None
    cache_least: int | None = None

    def __post_init__(self) -> None:
        for name, least in (("prefix_tokens", 0), ("query_tokens", 1), ("output_tokens", 0)):
            check.whole(name, getattr(self, name), least=least)
        if self.cache_minutes is not None:
            check.number("cache_minutes", self.cache_minutes, above=0)
        if self.cache_least is not None:
            check.whole("cache_least", self.cache_least)

    @property
    def lifetime(self) -> float:
        """Hours that a cache lives after its last use."""
        given = self.cache_minutes or self.price.cache_minutes or ASSUMED_MINUTES
        return given / 60

    @property
    def cacheable(self) -> bool:
        """Whether the prefix is long enough; a vendor that finds it too short says nothing."""
        listed = (self.cache_least, self.price.cache_least, ASSUMED_LEAST)
        return self.prefix_tokens >= next(least for least in listed if least is not None)

    def assumed(self) -> list[str]:
        """What of the cache nobody lists, and is assumed here."""
        found = []
        if self.cache_minutes is None and self.price.cache_minutes is None:
            found.append(f"a cache is assumed to live {ASSUMED_MINUTES:g} minutes")
        if self.cache_least is None and self.price.cache_least is None:
            found.append(f"caches are assumed from {ASSUMED_LEAST:,} tokens on")
        return found

    def uncached(self) -> float:
        """USD where every token is read anew."""
        tokens = self.prefix_tokens + self.query_tokens
        return self.price.cost(input=tokens, output=self.output_tokens)

    def batch(self) -> float:
        """USD in a batch, whose answers may take a day; uncached: nobody promises it hits."""
        return self.uncached() * self.price.of("batch")

    def hit(self) -> float:
        """USD where the prefix is read from a cache; of an uncached query where it is too short."""
        if not self.cacheable:
            return self.uncached()
        return self.price.cost(
            input=self.query_tokens, cached_input=self.prefix_tokens, output=self.output_tokens
        )

    def miss(self) -> float:
        """USD where the prefix is written to one; of an uncached query where it is too short."""
        if not self.cacheable:
            return self.uncached()
        return self.price.cost(
            input=self.query_tokens, cache_write=self.prefix_tokens, output=self.output_tokens
        )

    def hit_share(self, arrivals: float) -> float:
        """The share of queries that find the cache alive: 1 - exp(-λ L).

        arrivals: λ, queries an hour, at random
        """
        return -math.expm1(-check.amount("arrivals", arrivals) * self.lifetime)

    def cached(self, arrivals: float) -> float:
        """Expected USD with a cache: h hit + (1 - h) miss, at so many queries an hour."""
        share = self.hit_share(arrivals)
        return share * self.hit() + (1 - share) * self.miss()

    def total(self, queries: int, arrivals: float | None = None) -> float:
        """Expected USD of so many queries with a cache, which the first of them writes.

        arrivals: queries an hour; None: one right after the other, so that all others are hits
        """
        if not check.whole("queries", queries):
            return 0.0
        other = self.hit() if arrivals is None else self.cached(arrivals)
        return self.miss() + (queries - 1) * other

    def pays_from(self) -> float | None:
        """Queries an hour above which the cache is cheaper than none; None for never."""
        plain, hit, miss = self.uncached(), self.hit(), self.miss()
        if hit >= plain:
            return None
        if miss <= plain:
            return 0.0
        # What query and answer cost is in all three, so that only the prefix is left.
        return math.log((miss - hit) / (plain - hit)) / self.lifetime


@dataclass(frozen=True, kw_only=True)
class OwnGpu:
    """A GPU of one's own that answers with a tuned model, and is paid for while it waits.

    mfu:             the share of its peak that it reaches while it works
    hours_per_query: in which one query keeps it busy, at that share
    training_usd:    what was spent before the first query
    """

    gpu: str
    usd_per_hour: float
    mfu: float
    hours_per_query: float
    training_usd: float

    def query_usd(self, utilisation: float = 1.0) -> float:
        """USD of a query; utilisation: the share of all hours in which the GPU is busy."""
        check.number("utilisation", utilisation, above=0, most=1)
        return self.usd_per_hour * self.hours_per_query / utilisation

    def total(self, queries: int, utilisation: float = 1.0) -> float:
        """USD of so many queries, training included."""
        return self.training_usd + check.whole("queries", queries) * self.query_usd(utilisation)

    def cheaper_from(self, usd_per_query: float) -> float | None:
        """Queries an hour from which on it costs less than so many USD each, training apart.

        None where even a GPU that never waits costs more.
        """
        check.number("usd_per_query", usd_per_query, above=0)
        return self.usd_per_hour / usd_per_query if self.query_usd() <= usd_per_query else None
