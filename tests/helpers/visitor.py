"""Actions of a user of the page, and the errors that the browser reports meanwhile."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import expect

LOST = "Failed to load resource"
"""How Chromium logs an answer with an error status: a complaint unless the test wants one."""

AXE = Path(__file__).parents[2] / "web/node_modules/axe-core/axe.min.js"
GRAVE = ("serious", "critical")


class Visitor:
    """One browser profile with one tab."""

    def __init__(self, context, url):
        self.context = context
        self.url = url
        self.expected = [r"GL Driver Message \(OpenGL, Performance"]  # drawing in software is slow
        self.sent = []
        self._complaints = []
        self.page = context.new_page()
        context.on("request", lambda request: self.sent.append(request))
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self._complaints.append(f"error: {error}"))

    @property
    def asked(self):
        """The addresses of all requests so far."""
        return [request.url for request in self.sent]

    def _heard(self, message):
        if message.type in ("error", "warning"):
            self._complaints.append(f"{message.type}: {message.text}")

    def complaints(self):
        """Return unexpected console errors and policy violations, and foreign requests."""
        found = [
            text
            for text in self._complaints
            if not any(re.search(pattern, text) for pattern in self.expected)
        ]
        for url in self.asked:
            parts = urlsplit(url)
            if parts.scheme not in ("blob", "data") and parts.hostname != "127.0.0.1":
                found.append(f"request to {url}")
        return found

    def open(self, path=""):
        self.page.goto(self.url + path)
        # Whatever is shown at the end: the page listens by then.
        self.page.wait_for_selector(".search-page, .model-page, .trouble")

    # Where things are.

    @property
    def cards(self):
        return self.page.locator(".grid:not(.waiting) > .card")

    def card(self, place):
        return self.cards.nth(place).locator(".card-image")

    def button(self, name, within=None):
        return (within or self.page).get_by_role("button", name=name, exact=True)

    def chip(self, text):
        return self.page.locator(".chips > .chip").filter(has_text=text)

    @property
    def results(self):
        return self.page.get_by_label("Search results")

    @property
    def detail(self):
        return self.page.get_by_label("Result details")

    def ids(self):
        """Return the ids of the results, in their order."""
        labels = self.cards.locator(".card-image").evaluate_all(
            "cards => cards.map((card) => card.getAttribute('aria-label'))"
        )
        return [re.sub(r"^\d+: ", "", label.split(";")[0]) for label in labels]

    # What one does.

    def settled(self, count=None):
        """Wait until a search is answered and its results are there; returns their ids."""
        expect(self.results).to_have_attribute("aria-busy", "false")
        if count is None:
            expect(self.cards.first).to_be_visible()
        else:
            expect(self.cards).to_have_count(count)
        return self.ids()

    def ranking(self, name):
        """Open the menu of ranking methods; returns the one whose name begins so."""
        menu = self.page.locator(".modes-menu")
        if menu.get_attribute("open") is None:
            menu.locator("summary").click()
        pattern = re.compile(f"^(✓ )?{re.escape(name)}")
        return menu.get_by_role("radio", name=pattern)

    def answered(self, act, wanted):
        """Do something that sends a request; returns it and its JSON.

        Waits for the whole body: a request that the page cancels has a status but no body.
        """

        # What was sent before, such as further results while one scrolls, may arrive now.
        before = len(self.sent)

        def arrived(request):
            answer = request.existing_response
            new = request in self.sent[before:]
            return new and wanted(request) and answer is not None and answer.ok

        with self.page.expect_event("requestfinished", arrived) as waited:
            act()
        return waited.value, waited.value.response().json()

    def searching(self, act):
        """Do something that searches; returns the server's answer, which is then shown."""
        _, answer = self.answered(act, is_search)
        wanted = [hit["id"] for hit in answer["hits"]]
        self.page.wait_for_function(
            "count => document.querySelectorAll('.grid:not(.waiting) > .card').length === count",
            arg=len(wanted),
        )
        expect(self.results).to_have_attribute("aria-busy", "false")
        assert self.ids() == wanted
        return answer

    def ask_record(self, place=0):
        """Begin with a place of the archive."""
        example = self.page.locator(".example").nth(place)
        return self.searching(example.click)

    def drop(self, path):
        """Drop a file onto the page as the system's file manager does."""
        input_ = self.context.new_cdp_session(self.page)
        data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "dragOver", "drop"):
            input_.send("Input.dispatchDragEvent", {"type": kind, "x": 700, "y": 500, "data": data})
            if kind != "drop":
                expect(self.page.get_by_text("Drop to search")).to_be_visible()

    def focused(self):
        """Return the accessible name of what has the focus, or its tag."""
        return self.page.evaluate(
            "() => { const e = document.activeElement;"
            " return e.getAttribute('aria-label') || e.textContent.trim() || e.tagName; }"
        )


def small_parts(guest):
    """Return controls that are smaller than 44 pixels, and texts that are smaller than 12."""
    return guest.page.evaluate(
        """() => {
          const found = [];
          const seen = (one) => {
            const box = one.getBoundingClientRect();
            const own = one.checkVisibility({ opacityProperty: true });
            const hidden = one.closest(".hidden, .sr-only, .skip");
            return own && box.width > 1 && box.height > 1 && !hidden;
          };
          const name = (one) =>
            `${one.tagName} ${one.className} ${one.textContent.trim().slice(0, 30)}`;
          const controls = "a[href], button, input, select, summary, [role=option]";
          for (const one of document.querySelectorAll(controls)) {
            // A label extends its control; a link in a sentence is as high as the line.
            const whole = one.matches("[type=checkbox], [type=file]") ? one.closest("label") : one;
            if (!whole || !seen(whole) || getComputedStyle(whole).display === "inline") continue;
            const { width, height } = whole.getBoundingClientRect();
            if (Math.min(width, height) < 43.5) found.push(`${name(whole)}: ${width} x ${height}`);
          }
          const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
          for (let at = texts.nextNode(); at; at = texts.nextNode()) {
            const one = at.parentElement;
            const silent = one.closest("script, style, noscript, option");
            if (!at.textContent.trim() || silent || !seen(one)) continue;
            const size = Number.parseFloat(getComputedStyle(one).fontSize);
            if (size < 11.99) found.push(`${name(one)}: text of ${size} pixels`);
          }
          return found;
        }"""
    )


def is_search(request):
    """Whether a request searches, and not for further results of a search."""
    body = request.post_data_buffer or b""
    return urlsplit(request.url).path == "/v1/search" and b'"cursor"' not in body


def violations(guest, rules=()):
    """Return what axe finds grave on what is shown, one line each; by some rules, or all."""
    # Half-faded colors would be measured as they are.
    guest.page.wait_for_function(
        "() => document.getAnimations().every((one) => one.playState !== 'running')"
    )
    # The policy of the page forbids injected scripts, but not those of the debugger.
    if not guest.page.evaluate("'axe' in window"):
        guest.page.evaluate(AXE.read_text())
    options = {"resultTypes": ["violations"]}
    if rules:
        options["runOnly"] = {"type": "rule", "values": list(rules)}
    found = guest.page.evaluate("options => axe.run(document, options)", options)
    return [
        f"{one['impact']} {one['id']}: {node['target']} {node['failureSummary']}"
        for one in found["violations"]
        if one["impact"] in GRAVE
        for node in one["nodes"]
    ]


def wide_parts(guest):
    """Return what makes the page scroll sideways."""
    return guest.page.evaluate(
        """() => {
          const width = document.documentElement.clientWidth;
          if (document.documentElement.scrollWidth <= width) return [];
          return [...document.querySelectorAll("body *")]
            .filter((one) => one.getBoundingClientRect().right > width + 1)
            .map((one) => `${one.tagName} ${one.className}`);
        }"""
    )
