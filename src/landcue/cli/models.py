"""``landcue models``."""

from __future__ import annotations

from typing import Annotated

import typer

from landcue.cli.console import Json, print_json, print_text

models_app = typer.Typer(
    name="models", help="List models and show their cards.", no_args_is_help=True
)


@models_app.command("list")
def list_models(
    pattern: Annotated[
        str, typer.Argument(help="Pattern, such as resnet*, timm:vit*, open_clip:* or torchgeo:*.")
    ] = "*",
    json_: Json = False,
) -> None:
    """List backbones for training, or encoders for indexing.

    Encoders are listed by patterns that start with timm:, open_clip: or torchgeo:.
    """
    from landcue.models import list_models

    names = list_models(pattern)
    if json_:
        print_json({"models": names})
    else:
        print_text("\n".join(names))


@models_app.command()
def show(
    model: Annotated[
        str,
        typer.Argument(help="Run folder, exported .onnx file, timm:NAME and others, or builtin."),
    ] = "builtin",
    json_: Json = False,
) -> None:
    """Print the card of a model."""
    from landcue.models import describe_model

    text, facts = describe_model(model)
    print_json(facts) if json_ else print_text(text)
