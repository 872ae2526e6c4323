"""The error family: one clear line that names the thing and the fix."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping


class LandcueError(Exception):
    """A failure LandCue explains in one line; the command line ends with status 1."""

    exit_code = 1


class UsageError(LandcueError):
    """A value the caller gave cannot be used; the command line ends with status 2."""

    exit_code = 2


class DataError(LandcueError):
    """Images, labels or splits are missing, broken or contradict each other."""


class StoreError(DataError):
    """An object store cannot be reached, refuses, or asks to slow down for too long."""


class ModelError(LandcueError):
    """A checkpoint or weight file is missing, broken, refused, or fits another model."""


class ArchiveError(LandcueError):
    """An archive is missing, broken, locked, or was made by another model."""


class EmptyArchiveError(ArchiveError):
    """An archive holds no records, which a search needs."""


class CollectionError(LandcueError):
    """A collection of images is missing, full, of another archive, or was changed meanwhile.

    Attributes:
        status: The HTTP status with which a service answers.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class ServiceError(LandcueError):
    """A service refused a request, failed at it, or cannot be reached.

    Attributes:
        status: Of the HTTP answer; ``None`` when there was none.
        detail: The message of the service.
        request_id: Identifier of the request in the service's log.
        errors: For each wrong field of a request where (``at``) and ``what``.
    """

    def __init__(
        self,
        message: str,
        *,
        detail: str,
        status: int | None = None,
        request_id: str | None = None,
        errors: Iterable[Mapping[str, str]] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.detail = detail
        self.request_id = request_id
        self.errors = tuple(errors)


def counted(n: int, noun: str) -> str:
    """Return a number of things in words.

    >>> counted(1, "record"), counted(1200, "record")
    ('1 record', '1,200 records')
    """
    return f"{n:,} {noun}{'s' * (n != 1)}"


def did_you_mean(word: str, known: Iterable[str], most: int = 20) -> str:
    """Return `` (did you mean 'x'?)`` for near matches, or else the first ``most`` names known."""
    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=3, cutoff=0.6)
    if near:
        return " (did you mean " + " or ".join(repr(name) for name in near) + "?)"
    if not names:
        return ""
    shown = ", ".join(names[:most]) + (", …" if len(names) > most else "")
    return f" (known: {shown})"


def first_line(error: BaseException) -> str:
    """Return the first line of an error of another library, or else the name of its class."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def refusal(message: str) -> str:
    """Return why pydantic refused a value, as it follows the name of a field and a colon.

    >>> refusal("Value error, use 1 to 9"), refusal("Input should be a valid integer")
    ('use 1 to 9', 'input should be a valid integer')
    """
    text = message.removeprefix("Value error, ")
    return text[:1].lower() + text[1:] if text[1:2].islower() else text


_EXTRAS = {
    "faiss": "ann",
    "onnx": "train",
    "onnxscript": "train",
    "open_clip": "hub",
    "openpyxl": "formats",
    "pymilvus": "milvus",
    "ray": "ray",
    "scipy": "formats",
    "tensorboard": "train",
    "timm": "train",
    "torch": "train",
    "torchgeo": "hub",
    "torchvision": "train",
    "transformers": "hub",
    "wandb": "wandb",
}


def explain_missing(error: ModuleNotFoundError) -> UsageError | None:
    """Return the error that names the extra of a package that is not installed, if one holds it.

    >>> str(explain_missing(ModuleNotFoundError(name="torch")))
    "this needs torch: pip install 'landcue[train]'"
    """
    package = (error.name or "").partition(".")[0]
    if package not in _EXTRAS:
        return None
    return UsageError(f"this needs {package}: pip install 'landcue[{_EXTRAS[package]}]'")


def missing_extra(extra: str, what: str) -> UsageError:
    """Return the error of a function whose optional dependencies are not installed.

    Args:
        extra: Of this package, such as ``train``.
        what: What needs it.

    >>> raise missing_extra("train", "training")
    Traceback (most recent call last):
    landcue.errors.UsageError: training needs more packages: pip install 'landcue[train]'
    """
    return UsageError(f"{what} needs more packages: pip install 'landcue[{extra}]'")
