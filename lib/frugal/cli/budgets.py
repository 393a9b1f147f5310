"""`frugal plan` and `frugal budgets`: what to do with a budget, on your task and in the paper."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from frugal.cli.fewshot import finish
from frugal.cli.options import (
    DryRun,
    Json,
    Mfu,
    OnRay,
    Precision,
    Preset,
    Seed,
    Template,
    Truncate,
    UsdPerHour,
    amount,
    changes,
    there,
)
from frugal.cli.options import count as number
from frugal.cli.output import Outputs, emit, remark
from frugal.costs import prices
from frugal.costs.scenario import Scenario
from frugal.engine import stderr
from frugal.errors import FrugalError, first_problem

app = typer.Typer(help="Distill or annotate: the paper's model, and a study of our own.")

FEVER_USD = prices.get("label", "fever").usd  # the least a label costs in the paper


@app.command()
def buy(
    task: Annotated[str, typer.Option(help="WLP, STANCEOSAURUS or FEVER.")],
    budget: Annotated[float, amount(help="USD on top of the labels there are.")],
    labels: Annotated[int, number(help="Labels there are, 1,000 to 5,000.")] = 1000,
    as_json: Json = False,
) -> None:
    """What a budget buys in Distill or Annotate, by its table 3, and what it scores there."""
    from frugal.papers import purchases as paper

    bought = [paper.buy(task, s, labels=labels, budget=budget) for s in paper.STRATEGIES]
    winner = paper.winner(*bought)
    emit(
        {
            "task": task,
            "labels": labels,
            "budget": budget,
            "winner": winner,
            "options": list(map(asdict, bought)),
        },
        as_json,
    )


@app.command()
def label(
    task: Annotated[
        str, typer.Argument(callback=there, metavar="TASK|FILE", help="What to label.")
    ],
    by: Annotated[str, typer.Option(help="people, a backbone, or a server's model.")],
    cap: Annotated[float, amount(help="USD that are never passed, in this folder.")],
    folder: Annotated[Path, typer.Option(help="Keeps every answer; a killed run goes on there.")],
    count: Annotated[int, number(help="Examples to label.")] = 100,
    shots: Annotated[int, number(help="Solved examples a model is shown.", least=0)] = 0,
    seed: Seed = 0,
    template: Template = "",
    base_url: Annotated[
        str | None, typer.Option(help="Of an OpenAI-compatible server; its key: OPENAI_API_KEY.")
    ] = None,
    usd: Annotated[
        float, amount(help="Of a label (people), or of 1,000 tokens read (models).")
    ] = FEVER_USD,
    usd_out: Annotated[
        float | None, amount(help="Of 1,000 tokens a server writes; else as --usd.")
    ] = None,
    usd_cached: Annotated[
        float | None, amount(help="Of 1,000 tokens a server had in its cache; else as --usd.")
    ] = None,
    usd_write: Annotated[
        float | None, amount(help="Of 1,000 tokens its cache takes in; else as --usd.")
    ] = None,
    batch_share: Annotated[
        float | None,
        amount(help="Ask in batches (a day at most), for so much of the price: OpenAI's is 0.5."),
    ] = None,
    answer_tokens: Annotated[
        int | None,
        number(help="Of a server's answer, thoughts included; else a choice's."),
    ] = None,
    form: Annotated[
        str, typer.Option(help="Of a server's answer: auto, schema, logprobs or text.")
    ] = "auto",
    effort: Annotated[
        str | None, typer.Option(help="reasoning_effort of a server's model that thinks first.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="JSONL of what has a label now.")] = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Buy labels under a cap: from people (the task's own), a local model, or a server."""
    from frugal import tasks
    from frugal.budgets import annotators, labels

    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
    outputs = Outputs({"--out": out}, {"--folder": folder}, reads=(task,))
    whole = tasks.load(task, template=template)
    remark(whole)
    drawn = whole.draw(shots + count, seed)
    shown, wanted = tuple(drawn[:shots]), drawn[shots:]
    source: labels.Source
    if by == "people":
        source = annotators.HumanPool(usd)
    elif base_url:
        from frugal.budgets.endpoint import Endpoint

        written = usd if usd_out is None else usd_out
        # Whoever may think for long is given time for ten tokens in a second.
        seconds = max(60.0, (answer_tokens or 0) / 10)
        source = Endpoint(
            by,
            usd,
            written,
            base_url,
            shown,
            seconds=seconds,
            answer_tokens=answer_tokens,
            form=form,
            usd_per_1k_cached=usd_cached,
            usd_per_1k_write=usd_write,
            batch_share=batch_share,
            effort=effort,
        )
    else:
        from frugal.engine import backbones

        source = annotators.LocalModel(backbones.load(by), usd, shown)
    planned = asdict(labels.quote(source, wanted))
    if dry_run:
        emit({"by": by, "dry_run": True, "cap_usd": cap, **planned}, as_json)
        return
    bought = labels.buy(
        source,
        wanted,
        folder,
        cap_usd=cap,
        progress=lambda n, spent: stderr.say(f"{n}: ${spent:.4f}"),
    )
    labelled = bought.labelled(wanted)
    text = "".join(e.model_dump_json() + "\n" for e in labelled)
    outputs.write("--out", lambda file: file.write_text(text, encoding="utf-8"))
    own = dict(zip(map(labels.key, wanted), wanted, strict=True))
    agree = [e.label == own[labels.key(e)].label for e in labelled]
    counts = {k: v for k, v in asdict(bought).items() if k not in ("labels", "quote")}
    result = {"by": by, "cap_usd": cap, "labelled": len(labelled), **counts, **planned}
    agreement = sum(agree) / len(agree) if agree else None
    emit({**result, "agreement": agreement}, as_json, outputs)


@app.command()
def study(
    preset: Preset = "laptop",
    out: Annotated[Path | None, typer.Option(help="CSV for all runs, a row a model.")] = None,
    store: Annotated[
        Path,
        typer.Option("--store", "--work", help="Folder to go on from; it holds one a setting."),
    ] = Path("runs/budgets"),
    change: Annotated[
        list[str] | None, typer.Option("--set", help="NAME=VALUE of the preset's budgets.")
    ] = None,
    precision: Precision = None,
    ray: OnRay = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Human labels, distillation and an LLM's labels at the same dollars, over seeds."""
    from pydantic import ValidationError

    from frugal import tasks
    from frugal.budgets import compare
    from frugal.budgets import study as live
    from frugal.engine import backbones, presets, sweep
    from frugal.engine.runs import Store

    values = presets.named(preset).budgets.model_dump() | changes(change)
    if precision:
        values["precision"] = precision
    try:
        setting = live.Setting(**values)
    except ValidationError as error:
        raise FrugalError(f"--set {first_problem(error)}") from error
    before = live.begun(setting, store)
    own = {
        "precision": backbones.resolved(
            setting.precision, begun=lambda: getattr(before, "precision", None)
        ),
        "training": backbones.trained(
            precision or setting.training, begun=lambda: getattr(before, "training", None)
        ),
    }
    setting = setting.model_copy(update=own)
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
    outputs = Outputs({"--out": out}, {"--store": store}, reads=(setting.task,))
    remark(tasks.load(setting.task))
    runs = Store(store / setting.id)
    wanted = live.specs(setting, runs.folder)
    about = {"setting": setting.id, "preset": setting.preset, "store": str(runs.folder)}
    about |= {"precision": setting.precision, "training": setting.training}
    if dry_run:
        plan = live.cost(setting, wanted, runs)
        cost = {"runs": plan.runs, "done": plan.done, "flops": plan.flops, "hours": plan.hours}
        emit({"dry_run": True, **about, **cost}, as_json)
        return
    sweep.run(wanted, runs, ray=ray)
    found = live.table(setting, runs, wanted)
    record = {
        **about,
        "runs": len(found),
        "out": str(out) if out else None,
        "summary": compare.summary(found).to_dict("records"),
    }
    finish(record, outputs, as_json, {"--out": lambda file: found.to_csv(file, index=False)})


def plan(
    task: Annotated[
        str, typer.Option("--task", callback=there, help="FILE (JSONL, CSV, TSV), or a task.")
    ],
    budget: Annotated[float, amount(help="USD for labels, training and serving.")],
    labels: Annotated[int | None, number(help="Labelled examples; else the preset's.")] = None,
    queries: Annotated[float, amount(help="Queries to serve.")] = 1e6,
    usd_per_label: Annotated[
        float, amount(help=f"Of one label; {FEVER_USD:g} is FEVER's.")
    ] = FEVER_USD,
    gpu: Annotated[str, typer.Option(help="Where it will run; see data/gpus.csv.")] = prices.GPU,
    usd_per_hour: UsdPerHour = None,
    mfu: Mfu = Scenario.mfu,
    limit: Annotated[
        int | None, number(help="Examples to score, at most; else the preset's.", least=2)
    ] = None,
    seed: Seed = 0,
    template: Template = "",
    precision: Precision = None,
    preset: Preset = "laptop",
    truncate: Truncate = False,
    api: Annotated[
        str, typer.Option(help="A server's model to ask as well; its key: OPENAI_API_KEY.")
    ] = "",
    api_cap: Annotated[float, amount(help="USD that it may cost; kept answers in runs/api.")] = 0.0,
    api_usd: Annotated[float | None, amount(help="Of 1,000 tokens that it reads.")] = None,
    api_usd_out: Annotated[
        float | None, amount(help="Of 1,000 tokens that it writes; else as --api-usd.")
    ] = None,
    base_url: Annotated[str | None, typer.Option(help="Of its OpenAI-compatible server.")] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Say which ways will be tried, and why no other; stop."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Try every way of classifying on your task, price it, and recommend one."""
    from frugal import tasks
    from frugal.budgets.endpoint import Endpoint
    from frugal.choice import recommend
    from frugal.choice import ways as every
    from frugal.choice.options import Prices
    from frugal.choice.served import Served
    from frugal.choice.trials import Attempt, Ways
    from frugal.engine import backbones, digests, presets

    chosen = presets.named(preset, precision=precision)
    source = tasks.load(task, template=template)
    remark(source)
    if labels is None:
        labels = max(1, min(chosen.labels, source.drawable // 2))
    if not source.test_size and labels >= source.drawable:
        raise FrugalError(
            f"--labels: {task} has {source.drawable} lines, and some must be left to score"
        )
    price = Prices(usd_per_label, gpu, usd_per_hour, mfu)
    if usd_per_hour is None:
        for line in prices.get("gpu", gpu).warnings():
            stderr.note(line)
    served = None
    if api:
        if api_usd is None:
            raise FrugalError("--api: say what it costs (--api-usd, of 1,000 tokens read)")
        written = api_usd if api_usd_out is None else api_usd_out
        asked = Endpoint(api, api_usd, written, base_url)
        served = Served(asked, api_cap, Path("runs/api") / digests.of(asked.identity())[:12])
    lm = backbones.load(chosen.backbone, precision=chosen.precision, truncate=truncate)
    ways = Ways.of(chosen, labels, seed)
    small = backbones.load(chosen.budgets.encoder)
    how: dict[str, Any] = {
        "labels": labels,
        "limit": limit or chosen.capstone.limit,
        "unlabelled": chosen.capstone.unlabelled,
        "seed": seed,
    }
    if dry_run:
        of = Attempt.on(source, lm, small, ways, **how)
        tries, left_out = every.planned(of, served)
        scored = {"task": source.name, "labels": labels, "scored": len(of.scored)}
        emit({"dry_run": True, **scored, "tries": tries, "left_out": left_out}, as_json)
        return
    found = recommend.plan(
        source,
        lm,
        small,
        ways,
        budget=budget,
        queries=queries,
        price=price,
        served=served,
        progress=stderr.say,
        **how,
    )
    result = found.record()
    result |= {"usd_per_label": usd_per_label, "gpu": gpu, "mfu": mfu, "preset": chosen.name}
    result |= {"precision": lm.precision, "training": ways.small.precision}
    emit(result, as_json)
