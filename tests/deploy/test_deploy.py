"""The files of ``deploy/``: what they run exists, and what they promise holds."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import threading
import tomllib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
import typer
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

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
        if "LANDCUE_IMAGE" in service["image"] and "entrypoint" not in service:
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


def test_the_image_installs_pinned_packages_by_their_hashes():
    blocks = (DEPLOY / "requirements.txt").read_text().replace("\\\n", "").splitlines()
    pins = {}
    for line in blocks:
        if not line.startswith("#"):
            requirement, *hashes = line.split()
            assert hashes, line
            assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", one) for one in hashes), line
            name, version = requirement.split("==")
            pins[canonicalize_name(name)] = version
    allowed = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().split() if "==" in line
    )
    allowed = {canonicalize_name(name): version for name, version in allowed.items()}
    assert pins.items() <= allowed.items()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = list(project["dependencies"])
    for extra in re.search(r'^ARG EXTRAS="([\w,]+)"', DOCKERFILE, re.MULTILINE)[1].split(","):
        wanted += project["optional-dependencies"][extra]
    for one in map(Requirement, wanted):
        if one.marker is None or one.marker.evaluate({"python_version": "3.12", "extra": ""}):
            assert pins[canonicalize_name(one.name)] in one.specifier, one
    assert "--require-hashes" in DOCKERFILE


class Registry(BaseHTTPRequestHandler):
    """What scripts/pin_images.py needs of a registry of images, with tokens."""

    digests: ClassVar[dict[str, str]] = {}

    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"token": "secret"}')

    def do_HEAD(self):
        here = "http://" + self.headers["Host"]
        if self.headers["Authorization"] != "Bearer secret":
            self.send_response(401)
            self.send_header("WWW-Authenticate", f'Bearer realm="{here}/token",service="s"')
        elif (digest := self.digests.get(self.path)) is None:
            self.send_response(404)
        else:
            self.send_response(200)
            self.send_header("Docker-Content-Digest", digest)
        self.end_headers()

    def log_message(self, *_):
        pass


def test_images_are_pinned_by_the_digest_that_their_registry_names(tmp_path):
    digest = "sha256:" + "ab" * 32
    with ThreadingHTTPServer(("127.0.0.1", 0), Registry) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        host = f"127.0.0.1:{server.server_port}"
        Registry.digests = {"/v2/library/python/manifests/3.12-slim": digest}
        (tmp_path / "Dockerfile").write_text(
            f"FROM {host}/library/python:3.12-slim AS wheel\nCOPY a b\nFROM landcue:cpu\n"
            f"FROM {host}/library/python:3.12-slim\n"
        )
        compose = tmp_path / "compose.yaml"
        compose.write_text("services:\n  own:\n    image: landcue:cpu\n")
        script = [sys.executable, ROOT / "scripts/pin_images.py", "--deploy", tmp_path]
        assert subprocess.run([*script, "--check"], check=False).returncode == 1
        subprocess.run([*script, "--scheme", "http"], check=True)
        assert (tmp_path / "Dockerfile").read_text() == (
            f"FROM {host}/library/python:3.12-slim@{digest} AS wheel\nCOPY a b\nFROM landcue:cpu\n"
            f"FROM {host}/library/python:3.12-slim@{digest}\n"
        )
        assert subprocess.run([*script, "--check"], check=False).returncode == 0
        compose.write_text(f"services:\n  db:\n    image: {host}/db:1\n")
        failed = subprocess.run(
            [*script, "--scheme", "http"], check=False, capture_output=True, text=True
        )
        assert failed.returncode == 1
        assert failed.stderr.startswith(f"error: {host}/db:1: no digest")
        server.shutdown()


def test_all_images_of_others_are_found_for_pinning():
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/pin_images.py", "--check"],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    texts = [
        DOCKERFILE,
        (DEPLOY / "compose.yaml").read_text(),
        *(f.read_text() for f in KUBERNETES),
    ]
    named = re.findall(r"^(?:FROM|\s*image:) (\S+)", "\n".join(texts), re.MULTILINE)
    others = {n for n in named if not n.startswith(("landcue", "$", "YOUR-"))}
    assert len(others) == 4
    loose = {name for name in others if "@sha256:" not in name}
    assert set(re.findall(r": (\S+) has no digest", done.stdout)) == loose


def test_every_container_has_limits_of_memory_and_processes_and_milvus_wants_a_token():
    for name, service in services().items():
        assert service["mem_limit"], name
        assert service["pids_limit"], name
    milvus = services()["milvus"]
    assert milvus["environment"]["COMMON_SECURITY_AUTHORIZATIONENABLED"] == "true"
    assert "ports" not in milvus


def test_no_default_password_of_milvus_is_left():
    """``tests/milvus/test_milvus_server.py`` runs the script on a server."""
    settings = (DEPLOY / ".env.example").read_text()
    assert re.search(r"^MILVUS_PASSWORD=$", settings, re.MULTILINE)
    assert "root:Milvus" not in settings + (DEPLOY / "compose.yaml").read_text()
    change, push = services()["milvus-password"], services()["push"]
    assert change["profiles"] == services()["milvus"]["profiles"]
    assert push["depends_on"] == {
        "milvus-password": {"condition": "service_completed_successfully"}
    }
    assert change["environment"]["LANDCUE_MILVUS_PASSWORD"].startswith("${MILVUS_PASSWORD:?")
    source, target, _ = change["volumes"][0].split(":")
    assert (DEPLOY / source).is_file()
    assert change["entrypoint"][1] == target
    for given in ("", "Milvus", "short"):
        done = subprocess.run(
            [sys.executable, DEPLOY / source, "http://127.0.0.1:9"],
            env={**os.environ, "LANDCUE_MILVUS_PASSWORD": given},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 1
        assert done.stderr == (
            "error: set LANDCUE_MILVUS_PASSWORD to 6 characters or more, not the default\n"
        )


def test_volumes_that_are_mounted_are_declared():
    claims = {d["metadata"]["name"] for _, d in documents() if d["kind"] == "PersistentVolumeClaim"}
    for name, pod in pods():
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes.keys(), name
        used = {v["persistentVolumeClaim"]["claimName"] for v in volumes.values()
                if "persistentVolumeClaim" in v}  # fmt: skip
        assert used <= claims, name
