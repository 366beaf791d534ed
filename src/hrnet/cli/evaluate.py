"""`hrnet evaluate`: score a model on labeled images."""

from __future__ import annotations

import json
import sys

import tyro

USAGE = """usage: hrnet evaluate MODEL --images DIR [--annotations PATH] [--hold-out N] [--out FILE.json] [--report DIR] ...

Score a model on labeled images.

MODEL is a name that `hrnet models` lists, or a path: .safetensors, a run folder, a checkpoint of another code base (.pth).
hrnet evaluate MODEL --help lists the options of that model's task."""


def main(arguments: list[str]) -> int:
    from hrnet.io.atomic import check_free, write_text
    from hrnet.io.zoo import load
    from hrnet.runs import evaluation_options, score_model, write_evaluation_report
    from hrnet.tasks import task_of
    from hrnet.vis.report import REPORT, format_metric

    name = arguments[0]
    model = load(name)
    options = tyro.cli(evaluation_options(name, model), args=arguments[1:], prog=f"hrnet evaluate {name}")
    for path in (*options.outputs(), *([options.report / REPORT] if options.report else [])):
        check_free(path)
    scored = score_model(name, model, options, _say)
    content = {
        "task": task_of(model.spec).name,
        "model": name,
        "metrics": scored.metrics,
        "images": scored.counts["images"],
        "seconds": round(scored.seconds, 2),
    }
    # Written before anything is printed, which may fail where the output is cut short.
    if options.out:
        write_text(options.out, json.dumps(content, indent=2) + "\n")
    page = write_evaluation_report(name, options, scored) if options.report else None
    width = max([24, *map(len, scored.metrics)])
    for metric, value in scored.metrics.items():
        print(f"{metric:<{width}} {format_metric(metric, value, scored.evaluator.measures())}")
    counts = ", ".join(f"{count} {what}" for what, count in scored.counts.items())
    print(f"{counts} in {scored.seconds:.1f} s")
    if page:
        print(f"report: {page}")
    return 1 if scored.incomplete else 0


def _say(message: str) -> None:
    print(f"hrnet evaluate: {message}", file=sys.stderr)
