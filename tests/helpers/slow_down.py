"""A proxy before an S3 server that asks to slow down, as real stores do under load."""

from __future__ import annotations

import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SLOW_DOWN = (
    b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>SlowDown</Code>'
    b"<Message>Please reduce your request rate.</Message></Error>"
)


class Proxy:
    """Answers 503 to the next ``refuse`` requests, and passes all others on.

    ``sent`` holds path, range header and number of bytes of each object that was read.
    """

    def __init__(self, port):
        self.refuse = self.refused = self.passed = 0
        self.sent = []
        lock, proxy = threading.Lock(), self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def _any(self):
                body = self._body()
                with lock:
                    refuse = proxy.refuse > 0
                    proxy.refuse -= refuse
                    proxy.refused += refuse
                    proxy.passed += not refuse
                if refuse:
                    self._answer(503, {"Content-Type": "application/xml"}, SLOW_DOWN)
                    return
                server = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
                gone = {"transfer-encoding", "content-length", "expect", "connection"}
                sent = {k: v for k, v in self.headers.items() if k.lower() not in gone}
                server.request(self.command, self.path, body, sent)
                answer = server.getresponse()
                content = answer.read()
                headers = dict(answer.getheaders())
                if self.command == "GET" and "?" not in self.path:
                    with lock:
                        where = self.headers.get("Range", "")
                        proxy.sent.append((self.path, where, len(content)))
                length = headers.pop("Content-Length", None)
                self._answer(
                    answer.status, headers, content, length if self.command == "HEAD" else None
                )
                server.close()

            def _body(self):
                if "chunked" not in self.headers.get("Transfer-Encoding", ""):
                    return self.rfile.read(int(self.headers.get("Content-Length") or 0))
                parts = []
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                while self.rfile.readline().strip():
                    pass
                return b"".join(parts)

            def _answer(self, status, headers, content, length=None):
                self.send_response_only(status)
                dropped = {"connection", "transfer-encoding", "content-length"}
                for name, value in headers.items():
                    if name.lower() not in dropped:
                        self.send_header(name, value)
                self.send_header("Content-Length", length or str(len(content)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _any

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()
