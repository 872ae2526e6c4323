"""The body of a search: JSON, or a form of images beside a JSON part."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from landcue.server.problems import ProblemError
from landcue.server.schemas import SearchRequest
from landcue.server.settings import Limits

PARTS = ("image", "positive", "negative")


@dataclass(frozen=True, slots=True)
class Body:
    """What was asked, and the files that came with it.

    Attributes:
        search: The JSON.
        images: Bytes by part name, in the order they came.
    """

    search: SearchRequest
    images: dict[str, tuple[bytes, ...]]

    @property
    def any(self) -> bool:
        """Whether any image came."""
        return any(self.images.values())


class InvalidError(Exception):
    """JSON that does not fit the schema."""

    def __init__(self, error: ValidationError) -> None:
        super().__init__("the request does not fit the schema")
        self.errors: list[Any] = list(error.errors(include_url=False, include_input=False))


def parse_search(text: bytes | str) -> SearchRequest:
    """Read a search.

    Raises:
        InvalidError: It does not fit the schema.
    """
    try:
        return SearchRequest.model_validate_json(text)
    except ValidationError as error:
        raise InvalidError(error) from None


async def read_body(request: Request, limits: Limits) -> Body:
    """Read a search request.

    Raises:
        ProblemError: 400: a broken form or an unknown part; 413: too many or too large parts;
            415: another kind of content.
        InvalidError: The JSON does not fit the schema.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        return Body(parse_search(await _whole(request)), {})
    if kind != "multipart/form-data":
        raise ProblemError(415, "send application/json, or multipart/form-data with images")
    form = await _read_form(request, limits)
    try:
        images: dict[str, list[bytes]] = {}
        text = "{}"
        for name, value in form.multi_items():
            if isinstance(value, UploadFile) and name in PARTS:
                images.setdefault(name, []).append(await value.read())
            elif isinstance(value, str) and name == "request":
                text = value
            else:
                known = ", ".join(PARTS)
                raise ProblemError(
                    400, f"a part is called {name[:40]!r}: send 'request' (JSON), files {known}"
                )
    finally:
        await form.close()
    if len(images.get("image", ())) > 1:
        raise ProblemError(400, "send one part 'image'; further ones as 'positive' or 'negative'")
    return Body(parse_search(text), {name: tuple(data) for name, data in images.items()})


async def _whole(request: Request) -> bytes:
    """Return the body; ``request.body`` takes several steps for one piece."""
    data = bytearray()
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        data += message.get("body", b"")
        if not message.get("more_body", False):
            return bytes(data)


class _Form(MultiPartParser):
    """Notes whether the closing boundary came: without it a part may be missing."""

    ended = False

    def on_end(self) -> None:
        """Note the end."""
        self.ended = True


async def _read_form(request: Request, limits: Limits) -> FormData:
    charset = parse_options_header(request.headers["content-type"])[1].get(b"charset", b"utf-8")
    if charset.lower() not in (b"utf-8", b"utf8"):
        raise ProblemError(415, "send the form in UTF-8")
    async with contextlib.aclosing(request.stream()) as stream:
        parser = _Form(
            request.headers,
            stream,
            max_files=limits.images,
            max_fields=1,
            max_part_size=limits.json_bytes,
        )
        try:
            form = await parser.parse()
        except MultiPartException as error:
            raise ProblemError(400, f"the form cannot be read: {error.message}") from None
    if not parser.ended:
        await form.close()
        raise ProblemError(400, "the form is cut off: its closing boundary is missing")
    return form
