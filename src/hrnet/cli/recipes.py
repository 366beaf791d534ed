"""`hrnet recipes`: list the training recipes, or print one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Column, Table


@dataclass(frozen=True, slots=True)
class Recipes:
    """List the training recipes with their published figures, or print one as JSON, which `hrnet train` accepts."""

    name: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="[NAME]")] = None
    """name of a recipe"""


def main(arguments: list[str]) -> int:
    options = tyro.cli(Recipes, args=arguments, prog="hrnet recipes")
    from hrnet.tasks import find_recipe, recipe_to_json, recipes

    if options.name is not None:
        print(json.dumps(json.loads(recipe_to_json(find_recipe(options.name))), indent=2))
        return 0
    names = ("name", "input", "width", "epochs", "published")
    table = Table(*(Column(name, no_wrap=True) for name in names), box=None)
    for recipe in recipes().values():
        figure = recipe.published
        table.add_row(
            recipe.name,
            "{} x {}".format(*recipe.model.input_size),
            str(recipe.model.backbone.widths[0]),
            str(recipe.train.epochs),
            f"{figure.metric} {figure.value}" if figure else "",
        )
    console = Console()
    # Where it is narrower, lines break as the terminal breaks them; nothing is left out.
    console.width = max(console.width, table.__rich_measure__(console, console.options).maximum)
    console.print(table)
    console.print("hrnet recipes NAME prints one with the source of its figure; hrnet train NAME trains it.")
    return 0
