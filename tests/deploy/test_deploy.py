"""The files of ``deploy/``: what they run exists, and what they promise holds."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest
import typer
import yaml

from landcue.cli.main import app

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
KUBERNETES = sorted(DEPLOY.glob("kubernetes/**/*.yaml"))
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()


def documents():
    for file in KUBERNETES:
        for document in yaml.safe_load_all(file.read_text()):
            yield file.name, document


def pods():
    for name, document in documents():
        if document["kind"] in {"Deployment", "Job"}:
            yield name, document["spec"]["template"]["spec"]


def services():
    text = (DEPLOY / "compose.yaml").read_text()
    return yaml.safe_load(text)["services"]


def commands():
    """Every landcue command that a container runs."""
    for name, pod in pods():
        for container in pod["containers"]:
            yield name, container["args"]
    for name, service in services().items():
        if "LANDCUE_IMAGE" in service["image"]:
            yield f"compose {name}", service["command"]
    for file in (DEPLOY / "compose.yaml", *KUBERNETES, ROOT / "docs/how-to/deploy.md"):
        for line in re.findall(r"^(?:# )?landcue ([a-z].*)$", file.read_text(), re.MULTILINE):
            yield file.name, shlex.split(line, comments=True)


@pytest.mark.parametrize(("where", "arguments"), list(commands()))
def test_commands_and_options_exist(where, arguments):
    command = typer.main.get_command(app)
    context = command.make_context("landcue", [], resilient_parsing=True)
    while hasattr(command, "commands"):
        assert arguments[0] in command.commands, f"{where}: landcue has no {arguments[0]}"
        command = command.commands[arguments[0]]
        arguments = arguments[1:]
        context = None if hasattr(command, "commands") else context
    command.make_context("landcue", [str(a) for a in arguments])


def test_there_are_commands():
    assert len(list(commands())) >= 7


def test_probes_ask_for_what_the_service_answers(tmp_path):
    asked = set(re.findall(r"127\.0\.0\.1:8000(/\w+)", DOCKERFILE))
    for _, pod in pods():
        for container in pod["containers"]:
            for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
                if probe in container:
                    asked.add(container[probe]["httpGet"]["path"])
    assert asked == {"/healthz", "/readyz"}
    routes = (ROOT / "src/landcue/server").rglob("*.py")
    source = "".join(file.read_text() for file in routes)
    assert all(f'"{path}"' in source for path in asked)


def test_no_container_may_do_more_than_it_must():
    checked = 0
    for name, pod in pods():
        assert pod["securityContext"]["runAsNonRoot"], name
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            limits = container["securityContext"]
            assert limits["readOnlyRootFilesystem"], name
            assert not limits["allowPrivilegeEscalation"], name
            assert limits["capabilities"] == {"drop": ["ALL"]}, name
            assert container["resources"]["limits"]["memory"], name
            checked += 1
    assert checked == 5
    for name, service in services().items():
        if "LANDCUE_IMAGE" in service["image"]:
            assert service["read_only"], name
            assert service["cap_drop"] == ["ALL"], name
    assert re.search(r"^USER [1-9]", DOCKERFILE, re.MULTILINE)


def test_only_jobs_write_archives():
    writers = set()
    for name, pod in pods():
        for container in pod["containers"]:
            for mount in container["volumeMounts"]:
                if mount["name"] == "archives" and not mount.get("readOnly"):
                    writers.add(name)
    assert writers == {"index.yaml", "reembed.yaml"}


def test_no_port_is_open_to_others_and_no_secret_is_in_a_file():
    for service in services().values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    settings = (DEPLOY / ".env.example").read_text()
    assert re.search(r"^MINIO_PASSWORD=$", settings, re.MULTILINE)
    needed = set(re.findall(r"\$\{(\w+)", (DEPLOY / "compose.yaml").read_text()))
    assert needed == set(re.findall(r"^(\w+)=", settings, re.MULTILINE))


def test_the_image_installs_extras_that_exist():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = re.search(r'^ARG EXTRAS="([\w,]+)"', DOCKERFILE, re.MULTILINE)[1].split(",")
    assert set(extras) <= project["optional-dependencies"].keys()


def test_volumes_that_are_mounted_are_declared():
    claims = {d["metadata"]["name"] for _, d in documents() if d["kind"] == "PersistentVolumeClaim"}
    for name, pod in pods():
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes.keys(), name
        used = {v["persistentVolumeClaim"]["claimName"] for v in volumes.values()
                if "persistentVolumeClaim" in v}  # fmt: skip
        assert used <= claims, name
