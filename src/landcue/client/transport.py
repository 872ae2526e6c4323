"""Requests over HTTP: the token, retries when the service is busy, and errors of one line."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar
from urllib.parse import urlencode, urlsplit

import httpx
from pydantic import BaseModel, ValidationError

from landcue import __version__
from landcue.client.requests import Content
from landcue.errors import ServiceError, UsageError

M = TypeVar("M", bound=BaseModel)

_BUSY = 429


class Transport:
    """Sends requests to one service; threads may share it."""

    def __init__(
        self, url: str, token: str | None, timeout: float, retries: int, longest_wait: float
    ) -> None:
        self.url = _check_url(url)
        if token is not None and not (token.isascii() and token.isprintable() and token.strip()):
            raise UsageError("the token must be printable ASCII: check where it was copied from")
        self._timeout, self._retries, self._longest = timeout, retries, longest_wait
        headers = {"Accept": "*/*", "User-Agent": f"landcue/{__version__}"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        # A redirect would carry the token to wherever it leads; the service sends none.
        self._http = httpx.Client(headers=headers, timeout=timeout, follow_redirects=False)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def send(
        self, method: str, path: str, query: Mapping[str, Any], content: Content | None = None
    ) -> bytes:
        """Return the body of an answer; a busy service (429) is asked again before.

        Raises:
            ServiceError: There is no good answer.
        """
        given = {name: value for name, value in query.items() if value is not None}
        address = f"{self.url}{path}" + (f"?{urlencode(given)}" if given else "")
        tried = 0
        while True:
            try:
                answer = self._http.request(method, address, **_body(content))
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise self._unreachable(error) from None
            if answer.is_success:
                return answer.content
            wait = _seconds(answer.headers.get("Retry-After"), 2.0**tried)
            if answer.status_code != _BUSY or tried >= self._retries or wait > self._longest:
                raise self._problem(answer)
            time.sleep(wait)
            tried += 1

    def fetch(
        self,
        model: type[M],
        method: str,
        path: str,
        query: Mapping[str, Any],
        content: Content | None = None,
    ) -> M:
        """Return an answer as a value.

        Raises:
            ServiceError: As :meth:`send`, and when the answer does not fit the model.
        """
        data = self.send(method, path, query, content)
        try:
            return model.model_validate_json(data)
        except ValidationError:
            detail = "the answer is not LandCue's: check the address, and that both versions fit"
            raise ServiceError(f"{self.url}: {detail}", detail=detail) from None

    def _unreachable(self, error: Exception) -> ServiceError:
        late = isinstance(error, httpx.TimeoutException)
        what = f"no answer within {self._timeout:g} s" if late else str(error) or repr(error)
        detail = f"the service cannot be reached ({what}): is it running there?"
        return ServiceError(f"{self.url}: {detail}", detail=detail)

    def _problem(self, answer: httpx.Response) -> ServiceError:
        try:
            value = json.loads(answer.content)
        except ValueError:
            value = None
        known: dict[str, Any] = value if isinstance(value, dict) else {}
        detail = str(known.get("detail") or known.get("title") or answer.reason_phrase)
        id_ = answer.headers.get("X-Request-ID")
        named = f" (request {id_})" if id_ else ""
        errors: list[Any] = known.get("errors") or []
        return ServiceError(
            f"{self.url}: {answer.status_code}: {detail}{named}",
            detail=detail,
            status=answer.status_code,
            request_id=id_,
            errors=[one for one in errors if isinstance(one, dict)],
        )


def _body(content: Content | None) -> dict[str, Any]:
    if content is None:
        return {}
    if content.files:
        files = [(name, ("image", data)) for name, data in content.files]
        return {"data": {"request": content.text}, "files": files}
    return {"content": content.text, "headers": {"Content-Type": "application/json"}}


def _check_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        parts = urlsplit("")
    good = parts.scheme in ("http", "https") and parts.hostname and not parts.username
    if not good or parts.query or parts.fragment or not url.isprintable() or " " in url:
        raise UsageError(f"{url!r} is no address of a service: write http://127.0.0.1:8000")
    return url.rstrip("/")


def _seconds(text: str | None, default: float) -> float:
    """Return the seconds of a Retry-After header, which are a number or a date."""
    if text is None:
        return default
    with contextlib.suppress(ValueError):
        return max(0.0, float(int(text)))
    try:
        then = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return default
    then = then if then.tzinfo else then.replace(tzinfo=UTC)
    return max(0.0, (then - datetime.now(UTC)).total_seconds())
