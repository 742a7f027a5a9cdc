"""A report's page in a real Chromium: its text is there, and it asks for nothing."""

from __future__ import annotations

import http.server
import subprocess
import threading
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from skerry.app.report_page import report_page
from tests.reports import FULL

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"),
    *("--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--hide-scrollbars"),
    *("--enable-logging=stderr", "--log-level=0"),
)
pytestmark = pytest.mark.system
Browse = Callable[..., subprocess.CompletedProcess[str]]


class Site(http.server.BaseHTTPRequestHandler):
    """Serves one page and notes what is asked for."""

    content = b""
    asked: list[str]

    def do_GET(self) -> None:
        """Answer with the page."""
        self.asked.append(self.path)
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(self.content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def site() -> Iterator[tuple[str, list[str]]]:
    """The address of a report's page, and the list of what is asked for."""
    Site.content = report_page(FULL).encode()
    Site.asked = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/page", Site.asked
    server.shutdown()
    thread.join()
    server.server_close()


class Words(HTMLParser):
    """The text of a page, less its style."""

    def __init__(self, page: str) -> None:
        """Read the page."""
        super().__init__()
        self.text = ""
        self.feed(page)

    def handle_data(self, text: str) -> None:
        """Keep the text."""
        self.text += text


@pytest.fixture
def browse(chromium: str, tmp_path: Path) -> Browse:
    """Run the browser with a profile of its own."""

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [chromium, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", *words],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )

    return run


def test_a_page_shows_its_figures_and_asks_for_nothing(
    site: tuple[str, list[str]], browse: Browse
) -> None:
    """The browser shows the text, logs no error, and asks for the page alone."""
    address, asked = site
    seen = browse("--dump-dom", address)
    text = Words(seen.stdout).text
    for words in ("3.5 × smaller", "lines <b>&.onnx", "alone it costs 3.1 points"):
        assert words in text
    assert "CONSOLE" not in seen.stderr
    assert set(asked) <= {"/page", "/favicon.ico"}


@pytest.mark.parametrize(
    ("scheme", "brightness"), [("0", range(80)), ("1", range(200, 256))]
)
def test_both_colour_schemes(
    scheme: str,
    brightness: range,
    site: tuple[str, list[str]],
    browse: Browse,
    tmp_path: Path,
) -> None:
    """The page is dark where the reader prefers dark, and light elsewhere."""
    from skerry.tasks._image import read_picture

    picture = tmp_path / "page.png"
    browse(
        f"--blink-settings=preferredColorScheme={scheme}",
        f"--screenshot={picture}",
        "--window-size=1200,2000",
        site[0],
    )
    shown = read_picture(picture)
    assert int(shown[2, 2].mean()) in brightness
    # Not one colour: text, cards and charts were drawn.
    assert len({tuple(pixel) for row in shown[::9, ::9] for pixel in row}) > 20
