"""Requests over HTTP: the token, retries when the service is busy, and errors of one line."""

from __future__ import annotations

import contextlib
import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlencode, urlsplit

from landcue import __version__
from landcue.client.asking import Content
from landcue.errors import ServiceError, UsageError

_BUSY = 429
_LARGEST_PROBLEM = 1 << 20
_FAILED = (OSError, http.client.HTTPException)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Redirects would carry the token to wherever they lead; the service sends none."""

    def redirect_request(
        self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: Any
    ) -> None:
        """Follow nothing."""


class Transport:
    """Sends requests to one service."""

    def __init__(
        self, url: str, token: str | None, timeout: float, retries: int, longest_wait: float
    ) -> None:
        self._url = _checked(url)
        if token is not None and not (token.isascii() and token.isprintable() and token.strip()):
            raise UsageError("the token must be printable ASCII: check where it was copied from")
        self._token = token
        self._timeout, self._retries, self._longest = timeout, retries, longest_wait
        self._opener = urllib.request.build_opener(_NoRedirects())

    @property
    def url(self) -> str:
        """The service's address, without a slash at its end."""
        return self._url

    def send(
        self, method: str, path: str, query: Mapping[str, Any], content: Content | None = None
    ) -> bytes:
        """Return the body of an answer.

        Raises:
            ServiceError: There is no good one; a busy service is asked again before.
        """
        given = {name: value for name, value in query.items() if value is not None}
        address = f"{self._url}{path}" + (f"?{urlencode(given)}" if given else "")
        headers = {"Accept": "*/*", "User-Agent": f"landcue/{__version__}"}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        if content is not None:
            headers["Content-Type"] = content.media_type
        data = None if content is None else content.data
        request = urllib.request.Request(address, data, headers, method=method)
        tried = 0
        while True:
            try:
                with self._opener.open(request, timeout=self._timeout) as answer:
                    return answer.read()
            except urllib.error.HTTPError as error:
                with error:
                    wait = _seconds(error.headers.get("Retry-After"), 2.0**tried)
                    if error.code != _BUSY or tried >= self._retries or wait > self._longest:
                        raise self._problem(error) from None
                time.sleep(wait)
                tried += 1
            except _FAILED as error:
                raise self._away(error) from None

    def json(
        self, method: str, path: str, query: Mapping[str, Any], content: Content | None = None
    ) -> dict[str, Any]:
        """Return an answer that is a JSON object.

        Raises:
            ServiceError: As :meth:`send`, and when it is none.
        """
        try:
            value = json.loads(self.send(method, path, query, content))
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise self.strange()
        return value

    def strange(self) -> ServiceError:
        """Return what is raised when somebody else than LandCue answers."""
        detail = "the answer is not LandCue's: check the address, and that both versions fit"
        return ServiceError(f"{self._url}: {detail}", detail=detail)

    def _away(self, error: Exception) -> ServiceError:
        reason = getattr(error, "reason", error)
        late = isinstance(reason, TimeoutError)
        what = f"no answer within {self._timeout:g} s" if late else str(reason) or repr(reason)
        detail = f"the service cannot be reached ({what}): is it running there?"
        return ServiceError(f"{self._url}: {detail}", detail=detail)

    def _problem(self, error: urllib.error.HTTPError) -> ServiceError:
        try:
            value = json.loads(error.read(_LARGEST_PROBLEM))
        except (*_FAILED, ValueError):
            value = None
        known: dict[str, Any] = value if isinstance(value, dict) else {}
        detail = str(known.get("detail") or known.get("title") or error.reason)
        id_ = error.headers.get("X-Request-ID")
        named = f" (request {id_})" if id_ else ""
        errors: list[Any] = known.get("errors") or []
        return ServiceError(
            f"{self._url}: {error.code}: {detail}{named}",
            detail=detail,
            status=error.code,
            request_id=id_,
            errors=[one for one in errors if isinstance(one, dict)],
        )


def _checked(url: str) -> str:
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
