"""``landcue models``."""

from __future__ import annotations

from typing import Annotated

import typer

from landcue.cli.console import print_json

models_app = typer.Typer(name="models", help="Look at models.", no_args_is_help=True)


@models_app.command("list")
def list_models(
    pattern: Annotated[str, typer.Argument(help="Such as resnet* or *mobilenet*.")] = "*",
    json_: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """List the backbones that can be trained."""
    import fnmatch

    import timm

    from landcue.models.backbones import OWN

    names = [name for name in [*OWN, *timm.list_models()] if fnmatch.fnmatch(name, pattern)]
    if json_:
        print_json({"backbones": names})
    else:
        print("\n".join(names))


@models_app.command()
def show(
    model: Annotated[
        str, typer.Argument(help="A run folder, an exported .onnx file, or builtin.")
    ] = "builtin",
    json_: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Print a trained model's card."""
    from dataclasses import asdict

    from landcue.models.builtin import find_model
    from landcue.models.checkpoint import load_checkpoint

    folder = find_model(model)
    if folder.suffix.lower() == ".onnx":
        from landcue.models.onnx.card import describe
        from landcue.models.onnx.runtime import OnnxEncoder

        exported = OnnxEncoder(folder)
        if json_:
            print_json({"fingerprint": exported.fingerprint, **asdict(exported.card)})
        else:
            print(describe(exported.card))
        return
    checkpoint = load_checkpoint(folder)
    if json_:
        encoder = checkpoint.encoder
        print_json(
            {
                "fingerprint": encoder.fingerprint,
                "model": asdict(encoder.config),
                "provenance": checkpoint.provenance,
            }
        )
    else:
        print((folder / "README.md").read_text(encoding="utf-8"))
