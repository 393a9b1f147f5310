"""Prices as of a day: each with a row, a day and a state; renewed from a package, or refused."""

import csv
import io
from datetime import date, datetime, timedelta, timezone

import pytest

from frugal import data
from frugal.costs import prices, refresh
from frugal.errors import FrugalError

DAY = date(2026, 11, 27)
MODELS = [
    "gpt-6.1-sol", "gpt-6.1-terra", "claude-opus-5-5", "claude-haiku-5-5", "gemini-4-argon",
    "deepseek-flash",
]  # fmt: skip
OLD_COLUMNS = "kind,sku,provider,unit,usd,valid_from,checked_on,state,source,note"


def lines():
    return (data.ROOT / "prices.csv").read_text(encoding="utf-8").splitlines()


@pytest.fixture
def own_file(tmp_path, monkeypatch):
    """Prices in a folder of their own, where they may be changed."""
    file = tmp_path / "prices.csv"
    file.write_text("\n".join(lines()) + "\n", encoding="utf-8")
    monkeypatch.setattr(data, "ROOT", tmp_path)
    prices.all_prices.cache_clear()
    yield file
    prices.all_prices.cache_clear()


@pytest.fixture
def package():
    """genai-prices, in the version that the file's prices are from."""
    found = pytest.importorskip("genai_prices")
    if f"genai-prices {found.__version__}," not in prices.api(MODELS[0], today=DAY).row.source:
        pytest.skip("prices.csv is from another version of genai-prices")
    return found


def test_every_price_has_a_row_with_a_day_a_source_and_a_state():
    found = prices.all_prices()
    assert len(found) == len(lines()) - 1
    assert lines()[0].startswith(OLD_COLUMNS)
    assert [a.model for a in prices.apis(DAY)] == MODELS
    assert {a.row.provider for a in prices.apis(DAY)} >= {
        "OpenAI", "Anthropic", "Google", "DeepSeek",
    }  # fmt: skip
    for p in found:
        assert date.fromisoformat(f"{p.known_on}-01"[:10]) <= DAY
        assert p.source
        assert p.state in ("paper", "checked", "unverified")
        assert (p.kind == "api") == bool(p.output) == bool(p.batch or p.cached_input)
        if p.source.startswith("genai-prices"):
            assert p.state == "unverified"
            assert p.checked_on in p.source


def test_the_papers_rows_are_as_they_were():
    rows = [line.split(",,,")[0] for line in lines() if ",paper," in line]
    assert len(rows) == 8
    before, _, after = rows[0].partition(',"')
    assert before == "gpu,a100-40gb,Google Cloud,hour,3.75,2023-07,2023-07,paper"
    assert after == 'Distill or Annotate (ACL 2023)","price the paper uses"'


def test_another_day_finds_the_warnings():
    price = prices.api("claude-opus-5-5", today=DAY)
    assert price.warnings(DAY) == ["the price of claude-opus-5-5 ($4/1M tokens) is unverified"]
    seen = date.fromisoformat(price.row.known_on)
    last = seen + timedelta(days=prices.STALE_DAYS)
    assert len(price.warnings(last)) == 1
    assert price.warnings(last + timedelta(days=1))[1] == (
        "the price of claude-opus-5-5 dates from 2026-11-10, 181 days ago"
    )
    rows = [a.row for a in prices.apis(DAY)]
    assert prices.summary(rows, DAY) == [f"prices that are unverified: {', '.join(MODELS)}"]
    assert len(prices.summary(rows, last + timedelta(days=1))) == 2
    assert prices.summary([], DAY) == []


def test_an_announced_price_holds_from_its_day_on():
    def model(day):
        return prices.api("gemini-4-argon", today=day)

    eve, first = date(2026, 11, 30), date(2026, 12, 1)
    assert (model(eve).input, model(eve).output, model(eve).cached_input) == (2, 10, 0.1)
    assert (model(first).input, model(first).output, model(first).cached_input) == (4, 20, 0.2)
    announced = "the price of gemini-4-argon changes on 2026-12-01, to $4/1M tokens"
    assert announced in model(eve).warnings(eve)
    assert announced not in model(first).warnings(first)


def test_a_longer_prompt_is_of_a_dearer_tier():
    for tokens, wanted in ((0, 2), (272_000, 2), (272_001, 4), (10**7, 4)):
        found = prices.api("gpt-6.1-sol", tokens, DAY)
        assert found.input == wanted
        assert found.output == (10 if wanted == 2 else 15)
    assert prices.get("api", "GPT-6.1_Sol", DAY).usd == 2


def test_a_missing_price_is_an_error():
    price = prices.api("deepseek-flash", today=DAY)
    assert price.batch is None
    with pytest.raises(FrugalError, match=r"deepseek-flash: no batch is listed \(genai-prices"):
        price.cost(input=1, batch=True)
    assert price.cost(input=10**6, cached_input=10**6, output=10**6) == pytest.approx(0.753)
    whole = prices.api("claude-opus-5-5", today=DAY)
    assert whole.cost(input=500, cache_write=100, output=5, batch=True) == pytest.approx(
        (500 * 4 + 100 * 5 + 5 * 20) / 2e6
    )


@pytest.mark.parametrize("cells", [{"output": ""}, {"usd": "0"}, {"usd": ""}, {"output": "-1"}])
def test_a_row_without_a_price_is_refused(own_file, cells):
    rows = list(csv.DictReader(lines()))
    out = io.StringIO()
    writer = csv.DictWriter(out, rows[0])
    writer.writeheader()
    writer.writerows(r | cells if r["sku"] == "claude-opus-5-5" else r for r in rows)
    own_file.write_text(out.getvalue(), encoding="utf-8")
    with pytest.raises(FrugalError, match=f"{next(iter(cells))} of claude-opus-5-5"):
        prices.api("claude-opus-5-5", today=DAY)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: prices.api("gpt-6.1-sun", today=DAY), "did you mean 'gpt-6.1-sol'"),
        (lambda: prices.api("gpt-6.1-sol", -1, DAY), "tokens"),
        (lambda: prices.api("gemini-4-argon", today=DAY).cost(input=-1), "input"),
        (lambda: prices.api("gemini-4-argon", today=DAY).cost(output=float("nan")), "output"),
        (lambda: prices.cost("api", "gpt-6.1-sol", 5), "a price for each kind of token"),
    ],
)
def test_nonsense_is_refused(call, message):
    with pytest.raises(FrugalError, match=message):
        call()


def test_the_package_renews_what_comes_from_it_and_nothing_else(package, own_file):
    before = own_file.read_text(encoding="utf-8")
    assert refresh.renewed() == (before, MODELS)
    # A price that went, and one that a person has checked.
    changed = before.replace(
        "api,gpt-6.1-sol,OpenAI,1M tokens,2,", "api,gpt-6.1-sol,OpenAI,1M tokens,9,"
    )
    mine = (
        "api,claude-opus-5-5,Anthropic,1M tokens,3,,2026-11-20,checked,the vendor's page,,,,,15,,,"
    )
    rows = [mine if r.startswith("api,claude-opus") else r for r in changed.splitlines()]
    own_file.write_text("\n".join(rows) + "\n", encoding="utf-8")
    prices.all_prices.cache_clear()
    text, models = refresh.renewed()
    assert models == [m for m in MODELS if m != "claude-opus-5-5"]
    assert mine in text.splitlines()
    assert sorted(text.splitlines()) == sorted(
        mine if r.startswith("api,claude-opus") else r for r in before.splitlines()
    )


def test_the_package_bills_as_its_rows_say(package):
    """Each row against what the package itself asks for a prompt, a cache and a batch."""
    for model in MODELS:
        for tokens in (4_000, 300_000):
            price = prices.api(model, tokens, DAY)
            kinds = {"input": {}, "cached_input": {"cache_read_tokens": tokens}}
            kinds["cache_write"] = {"cache_write_tokens": tokens}
            for kind, more in kinds.items():
                for batch in (False, True) if price.batch else (False,):
                    asked = package.calc_price(
                        package.Usage(input_tokens=tokens, output_tokens=70, **more),
                        model,
                        # Noon, outside the hours for which a row's note says another price.
                        genai_request_timestamp=datetime(2026, 11, 27, 12, tzinfo=timezone.utc),
                        price_context={"processing": "batch"} if batch else None,
                    )
                    ours = price.cost(**{kind: tokens, "output": 70, "batch": batch})
                    assert ours == pytest.approx(float(asked.total_price)), (model, kind, batch)


@pytest.mark.parametrize(
    ("version", "models", "message"),
    [
        ("", ["gpt-6.1-sun"], "unknown model of genai-prices 'gpt-6.1-sun'; did you mean"),
        ("9.9.9", [], "--released: genai-prices 9.9.9 does not say when"),
    ],
)
def test_what_cannot_be_renewed_is_said(package, monkeypatch, version, models, message):
    if version:
        monkeypatch.setattr(refresh.metadata, "version", lambda _: version)
    with pytest.raises(FrugalError, match=message):
        refresh.renewed(models)


def test_a_missing_package_is_named(monkeypatch):
    def missing(name):
        raise refresh.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(refresh.metadata, "version", missing)
    with pytest.raises(FrugalError, match=r"pip install 'frugal-companion\[prices\]'"):
        refresh.renewed()
