"""``landcue models``."""

from __future__ import annotations

from typing import Annotated

import typer

from landcue.cli.console import print_json

models_app = typer.Typer(
    name="models", help="List models and show their cards.", no_args_is_help=True
)


@models_app.command("list")
def list_models(
    pattern: Annotated[str, typer.Argument(help="Pattern, such as resnet* or *mobilenet*.")] = "*",
    json_: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """List the available backbones."""
    from landcue.models.load import list_backbones

    names = list_backbones(pattern)
    if json_:
        print_json({"backbones": names})
    else:
        print("\n".join(names))


@models_app.command()
def show(
    model: Annotated[
        str, typer.Argument(help="Run folder, exported .onnx file, or builtin.")
    ] = "builtin",
    json_: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Print the card of a trained model."""
    from landcue.models.load import describe_model

    text, facts = describe_model(model)
    print_json(facts) if json_ else print(text)
