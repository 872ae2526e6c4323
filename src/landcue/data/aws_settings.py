"""The settings of an S3 store, where AWS tools keep them: environment and files below ~/.aws."""

from __future__ import annotations

import configparser
import os
from pathlib import Path

from landcue.errors import UsageError

DEFAULT_ATTEMPTS = 8
_ROLES = (
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)


_KEYS: tuple[str, ...] = (
    "aws_access_key_id",
    "aws_secret_access_key",
    "aws_session_token",
    "region",
)


def endpoint() -> str | None:
    """Return the address of the store; ``None`` for Amazon's."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None


def attempts() -> int:
    """Return how often a request is tried before a store that throttles counts as failing."""
    text = os.environ.get("AWS_MAX_ATTEMPTS") or str(DEFAULT_ATTEMPTS)
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"AWS_MAX_ATTEMPTS is {text!r}: pass a whole number of at least 1")
    return int(text)


def credentials(bucket: str) -> dict[str, str]:
    """Return keys and region from the environment or ``~/.aws``; none for a machine's role."""
    found = {name: os.environ.get(name.upper(), "") for name in _KEYS[:3]}
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or ""
    profile = os.environ.get("AWS_PROFILE") or "default"
    files = configparser.ConfigParser(default_section="")
    files.read(
        Path(os.environ.get(variable) or file).expanduser()
        for variable, file in (
            ("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"),
            ("AWS_CONFIG_FILE", "~/.aws/config"),
        )
    )
    for section in (profile, f"profile {profile}"):
        if files.has_section(section):
            stored = {name: files.get(section, name, fallback="") for name in _KEYS}
            region = region or stored["region"]
            if not found["aws_access_key_id"]:
                found = {name: stored[name] for name in _KEYS[:3]}
    known = found["aws_access_key_id"] or any(os.environ.get(name) for name in _ROLES)
    if not known and os.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
        raise UsageError(
            f"no credentials for s3://{bucket}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
            "or AWS_PROFILE"
        )
    return {**{name.removeprefix("aws_"): value for name, value in found.items()}, "region": region}
