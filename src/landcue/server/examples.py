"""Examples of every endpoint, for the OpenAPI description: requests to the demo archive."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("examples.json")


def add_examples(described: dict[str, Any]) -> None:
    """Add the examples to a description: of parameters, bodies and answers."""
    for name, example in json.loads(FILE.read_text(encoding="utf-8")).items():
        method, path = name.split(" ")
        operation = described["paths"][path][method.lower()]
        parameters = example.get("parameters", {})
        for parameter in operation.get("parameters", ()):
            if parameter["name"] in parameters:
                # A parameter that holds JSON has its example where its schema is.
                at = parameter.get("content", {}).get("application/json", parameter)
                at["example"] = parameters[parameter["name"]]
        if "body" in example:
            operation["requestBody"]["content"]["application/json"]["example"] = example["body"]
        if "answer" in example:
            good = next(one for code, one in operation["responses"].items() if code[0] == "2")
            next(iter(good["content"].values()))["example"] = example["answer"]
