"""`frugal costs`: what a query, a training run, a cache, an adapter and a label cost."""

from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import typer

from frugal import data
from frugal.cli.options import Json, Mfu, UsdPerHour, amount, count
from frugal.cli.output import Outputs, emit
from frugal.costs import Scenario, check, flops, memory, methods, prices, refresh, serving
from frugal.costs import arch as architectures
from frugal.engine import files, stderr
from frugal.errors import FrugalError, unknown

app = typer.Typer(help="FLOPs, bytes and dollars, from the architecture alone.")

Arch = Annotated[str, typer.Option("--arch", help="An architecture, such as t0-11b.")]
Count = Annotated[str, typer.Option(help="paper: 2N and 6N, or N and 3N, a token; exact: by part.")]
Method = Annotated[str, typer.Option(help="What is trained: full, ia3, lora, adapter, …")]
Rank = Annotated[int | None, count(help="Rank of LoRA; 4 unless given.", most=10**6)]
Dtype = Annotated[str, typer.Option(help="float32, bfloat16, float16 or int8.")]
Shots = Annotated[int, count(help="Labelled examples in front of the query.", least=0)]
ExampleTokens = Annotated[int, count(help="Tokens of one such example.", least=0)]
QueryTokens = Annotated[int, count(help="Tokens of the query.", least=0)]
Steps = Annotated[int, count(help="Training steps.", least=0)]
Batch = Annotated[int, count(help="Examples in a step.", least=0)]
Tokens = Annotated[int, count(help="Tokens of one example.", least=0)]
# The fields of a price that are numbers, and of an API alone.
API = ("above", "cached_input", "cache_write", "output", "batch", "cache_minutes", "cache_least")


def _rows(parts: dict[str, int]) -> list[dict[str, Any]]:
    return [{"part": part, "flops": count} for part, count in parts.items()]


def _say_if_too_long(a: architectures.Architecture, tokens: int) -> None:
    """Costs can be counted for a prompt that the model could not read."""
    if 0 < a.positions < tokens:
        stderr.note(
            f"{tokens} tokens are more than the {a.positions} that {a.name} has positions for"
        )


@app.command()
def query(
    arch: Annotated[str | None, typer.Option(help="An architecture, such as t0-11b.")] = None,
    shots: Shots = 0,
    example_tokens: ExampleTokens = Scenario.example_tokens,
    query_tokens: QueryTokens = Scenario.query_tokens,
    count: Count = Scenario.count,
    cached: Annotated[bool, typer.Option(help="The examples' K and V are cached.")] = False,
    api: Annotated[
        str | None, typer.Option(help="Dollars instead, at a model's API, such as gpt-6.1-sol.")
    ] = None,
    arrivals: Annotated[
        float | None, amount(help="Cached queries an hour; else each finds the cache alive.")
    ] = None,
    output_tokens: Annotated[int, count(help="Of an API's answer, thoughts too.", least=0)] = 0,
    as_json: Json = False,
) -> None:
    """FLOPs or dollars of a query: zero-shot, or behind examples. T-Few's lengths by default."""
    if (arch is None) == (api is None):
        raise FrugalError("name either --arch, for FLOPs, or --api, for dollars")
    if api is not None:
        tokens = query_tokens + shots * example_tokens
        sent = serving.ApiQuery(
            price=prices.api(api, tokens),
            prefix_tokens=shots * example_tokens,
            query_tokens=query_tokens,
            output_tokens=output_tokens,
        )
        return emit({"api": api, "shots": shots, **_through(sent, cached, arrivals)}, as_json)
    if arrivals is not None or output_tokens:
        raise FrugalError("--arrivals and --output-tokens go with --api alone")
    asked = Scenario(
        arch=architectures.get(str(arch)),
        shots=shots,
        example_tokens=example_tokens,
        query_tokens=query_tokens,
        count=count,
        cached=cached,
    )
    spent = asked.query_flops()
    _say_if_too_long(asked.arch, query_tokens + asked.context_tokens)
    tokens = query_tokens + (0 if cached else asked.context_tokens)
    result: dict[str, Any] = {"arch": arch, "count": count, "shots": shots, "cached": cached}
    result |= {"tokens": tokens, "flops": spent}
    if cached:
        result["prefix_flops"] = asked.prefix_flops()
    if count == "exact":
        result["parts"] = _rows(asked.query_parts())
    return emit(result, as_json)


def _through(sent: serving.ApiQuery, cached: bool, arrivals: float | None) -> dict[str, Any]:
    """A query to an API: dollars, when its prices are from, and what is to be known of them."""
    if arrivals is not None and not cached:
        raise FrugalError("--arrivals: how often queries come matters with --cached alone")
    price = sent.price
    assumed = [f"{price.model}: {line}" for line in sent.assumed() if cached]
    for line in price.warnings() + assumed:
        stderr.note(line)
    result: dict[str, Any] = {"cached": cached, "tokens": sent.prefix_tokens + sent.query_tokens}
    if not cached:
        usd = sent.uncached()
    else:
        if not sent.cacheable:
            stderr.note(f"{sent.prefix_tokens} tokens are too few for a cache: they are read anew")
        usd = sent.hit() if arrivals is None else sent.cached(arrivals)
        result |= {"usd_uncached": sent.uncached(), "pays_from_per_hour": sent.pays_from()}
    result |= {"usd": usd, "price_date": price.row.known_on, "state": price.row.state}
    return result | {"source": price.row.source}


@app.command()
def train(
    arch: Arch,
    steps: Steps,
    batch: Batch,
    tokens: Tokens,
    method: Method = "full",
    count: Count = Scenario.count,
    as_json: Json = False,
) -> None:
    """FLOPs of a training run."""
    asked = Scenario(
        arch=architectures.get(arch),
        steps=steps,
        batch=batch,
        query_tokens=check.whole("tokens", tokens, least=1),
        method=method,
        count=count,
    )
    result: dict[str, Any] = {"arch": arch, "count": count, "method": method}
    result |= {"tokens": steps * batch * tokens, "flops": asked.train_flops()}
    if count == "exact":
        step = flops.train_step(asked.arch, prompt_tokens=tokens, batch=batch, method=method)
        result["parts"] = _rows({part: steps * n for part, n in step.items()})
    elif method != "full":
        stderr.note("the papers' rule knows no method; --count exact does")
    emit(result, as_json)


@app.command()
def cache(
    arch: Arch,
    tokens: Annotated[int, count(help="Tokens whose K and V are kept.", least=0)],
    dtype: Dtype = "float32",
    source_tokens: Annotated[int, count(help="Tokens an encoder has read.", least=0)] = 0,
    batch: Annotated[int, count(help="Sequences.", least=0)] = 1,
    as_json: Json = False,
) -> None:
    """Bytes of a K/V cache: keys and values, of all layers."""
    a = architectures.get(arch)
    size = memory.kv_cache(a, tokens, source_tokens=source_tokens, dtype=dtype, batch=batch)
    _say_if_too_long(a, tokens)
    result: dict[str, Any] = {"arch": a.name, "tokens": tokens, "dtype": dtype, "bytes": size}
    result |= {"gb": size / memory.GB, "gib": size / memory.GIB}
    emit(result | {"fits_on": memory.fits_on(size)}, as_json)


@app.command()
def adapter(
    arch: Arch, method: Method, rank: Rank = None, dtype: Dtype = "float32", as_json: Json = False
) -> None:
    """Parameters that a method trains, and their bytes on disk."""
    a, chosen = architectures.get(arch), methods.get(method, rank=rank)
    trained = methods.trainable(a, chosen)
    size = memory.adapter(a, chosen, dtype)
    result = {"arch": a.name, "method": method, "dtype": dtype, "params": trained, "bytes": size}
    emit(result | {"share": trained / a.params}, as_json)


@app.command("memory")
def train_memory(
    arch: Arch,
    tokens: Tokens,
    batch: Batch = 8,
    method: Method = "full",
    rank: Rank = None,
    optimizer: Annotated[str, typer.Option(help="adamw, adafactor or sgd.")] = "adamw",
    dtype: Dtype = "float32",
    as_json: Json = False,
) -> None:
    """Bytes while training, by part, as a band; and the GPUs that hold its high end."""
    a, chosen = architectures.get(arch), methods.get(method, rank=rank)
    parts = memory.training(
        a, prompt_tokens=tokens, batch=batch, method=chosen, optimizer=optimizer, dtype=dtype
    )
    whole = memory.total(parts)
    result: dict[str, Any] = {"arch": a.name, "method": method, "low": whole.low}
    result |= {"high": whole.high, "fits_on": memory.fits_on(whole.high)}
    emit(result | {"parts": [{"part": p, **asdict(b)} for p, b in parts.items()]}, as_json)


@app.command("prices")
def list_prices(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME…]", help="Else all.")] = None,
    anew: Annotated[
        bool, typer.Option("--refresh", help="First read APIs' prices out of genai-prices.")
    ] = False,
    released: Annotated[
        str | None, typer.Option(help="Day of that package's release; else as in the file.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Every price that is counted with: its day, its source, and whether anybody checked it."""
    if anew:
        file = data.ROOT / "prices.csv"
        writes = Outputs({"--refresh": file})
        text, _ = refresh.renewed(names or (), _day(released))

        def save(path: Path) -> None:
            files.write(path, text)

        writes.write("--refresh", save)
        writes.done()
        prices.all_prices.cache_clear()
        stderr.note(f"{file} has {refresh.PACKAGE}'s prices")
    elif released is not None:
        raise FrugalError("--released goes with --refresh")
    rows = prices.all_prices()
    for name in names or ():
        if name not in (known := {p.sku for p in rows}):
            raise unknown("price", name, known)
    rows = tuple(p for p in rows if not names or p.sku in names)
    for line in prices.summary(rows):
        stderr.note(line)
    records = [asdict(p) | {name: _number(getattr(p, name)) for name in API} for p in rows]
    if as_json:
        told = [r | {"warnings": p.warnings()} for r, p in zip(records, rows, strict=True)]
        return emit({"prices": told}, True)
    shown = ({k: v for k, v in r.items() if v not in ("", None) and k != "note"} for r in records)
    return emit({"prices": list(shown)}, False)


def _number(text: str) -> float | None:
    return float(text) if text else None


def _day(text: str | None) -> date | None:
    try:
        day = None if text is None else date.fromisoformat(text)
    except ValueError as error:
        raise FrugalError(f"--released: {text!r} is no day like 2026-11-10") from error
    if day and day > date.today():
        raise FrugalError(f"--released: {day} is still to come")
    return day


@app.command()
def labels(
    task: Annotated[str, typer.Option(help="A task of Distill or Annotate, such as fever.")],
    count: Annotated[int, count(help="Labels to buy.", least=0)],
    as_json: Json = False,
) -> None:
    """Dollars for annotation, at the price the paper paid."""
    price = prices.get("label", task)
    usd = prices.cost("label", task, count)
    for line in price.warnings():
        stderr.note(line)
    emit(
        {
            "task": price.sku,
            "count": count,
            "usd": usd,
            "usd_per_label": price.usd,
            "price_date": price.known_on,
            "source": price.source,
        },
        as_json,
    )


@app.command()
def compare(
    arch: Arch,
    queries: Annotated[int, count(help="Queries to answer.", least=0)],
    icl_arch: Annotated[
        str | None, typer.Option(help="Another one for in-context learning.")
    ] = None,
    shots: Shots = Scenario.shots,
    example_tokens: ExampleTokens = Scenario.example_tokens,
    query_tokens: QueryTokens = Scenario.query_tokens,
    steps: Steps = Scenario.steps,
    batch: Batch = Scenario.batch,
    method: Method = Scenario.method,
    count: Count = Scenario.count,
    dtype: Dtype = Scenario.dtype,
    gpu: Annotated[str, typer.Option(help="A GPU of data/gpus.csv.")] = Scenario.gpu,
    mfu: Mfu = Scenario.mfu,
    usd_per_hour: UsdPerHour = None,
    as_json: Json = False,
) -> None:
    """In-context learning, zero-shot and fine-tuning side by side, for a number of queries."""
    asked = Scenario(
        arch=architectures.get(arch),
        icl_arch=architectures.get(icl_arch) if icl_arch else None,
        queries=queries,
        shots=shots,
        example_tokens=example_tokens,
        query_tokens=query_tokens,
        steps=steps,
        batch=batch,
        method=method,
        count=count,
        dtype=dtype,
        gpu=gpu,
        mfu=mfu,
        usd_per_hour=usd_per_hour,
    )
    options = asked.compare()
    result: dict[str, Any] = {"count": count, "queries": queries, "gpu": gpu, "mfu": mfu}
    if usd_per_hour is None:
        price = prices.get("gpu", gpu)
        for line in price.warnings():
            stderr.note(line)
        result |= {"usd_per_hour": price.usd, "price_date": price.known_on}
    else:
        result["usd_per_hour"] = usd_per_hour
    emit(result | {"options": [asdict(o) for o in options]}, as_json)
