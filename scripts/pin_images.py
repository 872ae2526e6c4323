"""Pin the container images of ``deploy/`` by digest, or check that they are: ``make pin-images``.

Asks each image's registry which digest its tag has now, and writes ``NAME:TAG@sha256:...``. Images
that are built here (``landcue``) are left alone. With ``--check`` it asks nobody, changes nothing,
and fails where an image has no digest.
"""

from __future__ import annotations

import argparse
import functools
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import httpx

DEPLOY = Path(__file__).parents[1] / "deploy"
IMAGE = re.compile(
    r"(?P<before>^FROM |^\s*image: )(?P<name>(?!\$|landcue|YOUR-)[^\s@]+?):(?P<tag>[\w.-]+)"
    r"(?P<digest>@sha256:[0-9a-f]{64})?(?=\s|$)",
    re.MULTILINE,
)
KINDS = ", ".join(
    f"application/vnd.{kind}+json"
    for kind in (
        *("oci.image.index.v1", "docker.distribution.manifest.list.v2"),
        *("oci.image.manifest.v1", "docker.distribution.manifest.v2"),
    )
)


def digest_of(name: str, tag: str, client: httpx.Client, scheme: str = "https") -> str:
    """Return the digest that a tag has now, by the protocol of registries (OCI distribution)."""
    host, _, path = name.partition("/")
    if not path or not re.search(r"[.:]|^localhost$", host):  # Docker Hub's
        host, path = "registry-1.docker.io", name if path else f"library/{name}"
    address = f"{scheme}://{host}/v2/{path}/manifests/{tag}"
    headers = {"Accept": KINDS}
    answer = client.head(address, headers=headers)
    if answer.status_code == 401:  # a token, which anybody gets
        asked = dict(re.findall(r'(\w+)="([^"]*)"', answer.headers["www-authenticate"]))
        given = client.get(asked.pop("realm"), params=asked).raise_for_status().json()
        headers["Authorization"] = f"Bearer {given.get('token') or given['access_token']}"
        answer = client.head(address, headers=headers)
    digest = answer.raise_for_status().headers["docker-content-digest"]
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
        raise ValueError(f"{name}:{tag}: {host} answered with the digest {digest[:80]!r}")
    return digest


def _pinned(digests: Mapping[str, str], found: re.Match[str]) -> str:
    image = f"{found['name']}:{found['tag']}"
    return f"{found['before']}{image}@{digests[image]}"


def main(arguments: list[str] | None = None) -> int:
    """Pin or check all files; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--deploy", type=Path, default=DEPLOY)
    parser.add_argument("--scheme", default="https", help="of the registries")
    options = parser.parse_args(arguments)
    files = [options.deploy / "Dockerfile", *sorted(options.deploy.rglob("*.yaml"))]
    status = 0
    with httpx.Client(timeout=30, follow_redirects=True) as client:
        for file in files:
            text = file.read_text(encoding="utf-8")
            digests: dict[str, str] = {}
            for found in IMAGE.finditer(text):
                image = f"{found['name']}:{found['tag']}"
                if options.check:
                    if found["digest"] is None:
                        print(f"{file}: {image} has no digest: run 'make pin-images'")
                        status = 1
                    continue
                try:
                    digests[image] = digest_of(found["name"], found["tag"], client, options.scheme)
                except (httpx.HTTPError, KeyError, ValueError) as error:
                    print(f"error: {image}: no digest from its registry ({error})", file=sys.stderr)
                    return 1
                print(f"{file}: {image}@{digests[image]}")
            if digests:
                file.write_text(IMAGE.sub(functools.partial(_pinned, digests), text))
    return status


if __name__ == "__main__":
    sys.exit(main())
