"""A camera that speaks RTSP, with RTP inside its TCP connection, as cameras do.

RFC 2326 (RTSP), RFC 2617 (Basic), RFC 6184 (H.264 in RTP: single units and FU-A).
"""

from __future__ import annotations

import base64
import itertools
import re
import socketserver
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from skerry.core.video import Picture

LARGEST_PAYLOAD_BYTES = 1200
RATE = 90_000


@dataclass(kw_only=True)
class Stage:
    """What a camera does.

    Attributes:
        units: By path, the NAL units of each picture.
        frames_per_s: How fast pictures are sent.
        breaks_after: After so many pictures the connection breaks, at first; 0: never.
        asks_password: Whether it does.
        secret: The password of its user `admin`.
        asked: The first lines of the requests that came.
    """

    units: dict[str, list[list[bytes]]]
    frames_per_s: float = 25.0
    breaks_after: int = 0
    asks_password: bool = False
    secret: str = "s3cret"  # noqa: S105 - of a test
    asked: list[str] = field(default_factory=list)


def encode(pictures: Sequence[Picture], *, gop: int = 5) -> list[list[bytes]]:
    """Encode pictures as H.264; the NAL units of each."""
    import av

    context = av.CodecContext.create("libx264", "w")
    context.height, context.width = pictures[0].shape[:2]
    context.pix_fmt, context.framerate = "yuv420p", 25
    context.options = {"g": str(gop), "bf": "0", "tune": "zerolatency"}
    frames = [av.VideoFrame.from_ndarray(one, format="rgb24") for one in pictures]
    packets = [packet for one in (*frames, None) for packet in context.encode(one)]
    return [
        [unit for unit in re.split(rb"\x00{2,3}\x01", bytes(packet)) if unit]
        for packet in packets
    ]


@contextmanager
def serve(stage: Stage) -> Iterator[str]:
    """Serve on a free port; gives `HOST:PORT`."""

    class Camera(_Camera):
        pass

    Camera.stage = stage
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Camera) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


class _Camera(socketserver.StreamRequestHandler):
    """One connection."""

    stage: Stage

    def handle(self) -> None:
        """Answer until pictures are asked for, and send those."""
        while lines := self._request():
            method, url = lines[0].split()[:2]
            self.stage.asked.append(f"{method} {url}")
            headers = dict(line.split(": ", 1) for line in lines[1:])
            path = "/" + url.partition("://")[2].partition("/")[2]
            path = path.removesuffix("/track")
            if not self._may_ask(headers.get("Authorization", "")):
                self._answer(headers, "401 Unauthorized", 'Basic realm="camera"')
            elif path not in self.stage.units:
                self._answer(headers, "404 Not Found")
            else:
                self._answer(headers, "200 OK", body=_SDP if "DESC" in method else "")
                if method == "PLAY":
                    self._play(self.stage.units[path])
                    return

    def _may_ask(self, shown: str) -> bool:
        pair = f"admin:{self.stage.secret}".encode()
        is_right = shown == "Basic " + base64.b64encode(pair).decode()
        return is_right or not self.stage.asks_password

    def _request(self) -> list[str]:
        lines = []
        while line := self.rfile.readline().decode().strip():
            lines.append(line)
        return lines

    def _answer(
        self, headers: dict[str, str], status: str, challenge: str = "", body: str = ""
    ) -> None:
        lines = [f"RTSP/1.0 {status}", f"CSeq: {headers['CSeq']}", "Session: 1"]
        lines.append("Public: OPTIONS, DESCRIBE, SETUP, PLAY")
        if "Transport" in headers:
            lines.append("Transport: RTP/AVP/TCP;unicast;interleaved=0-1")
        if challenge:
            lines.append(f"WWW-Authenticate: {challenge}")
        lines += ["Content-Type: application/sdp", f"Content-Length: {len(body)}", ""]
        self.wfile.write("\r\n".join([*lines, body]).encode())

    def _play(self, pictures: list[list[bytes]]) -> None:
        numbers, stage = itertools.count(), self.stage
        for place, units in enumerate(itertools.cycle(pictures)):
            if stage.breaks_after and place >= stage.breaks_after:
                stage.breaks_after = 0
                return
            stamp = round(place * RATE / stage.frames_per_s) & 0xFFFFFFFF
            payloads = [part for unit in units for part in _parts(unit)]
            try:
                for left, part in zip(
                    reversed(range(len(payloads))), payloads, strict=True
                ):
                    self.wfile.write(
                        _packet(part, next(numbers), stamp, is_last=not left)
                    )
            except OSError:
                return
            time.sleep(1 / stage.frames_per_s)


def _packet(payload: bytes, number: int, stamp: int, *, is_last: bool) -> bytes:
    head = struct.pack(
        "!BBHII", 0x80, 96 | (is_last << 7), number & 0xFFFF, stamp, 0x5EE
    )
    return b"$\x00" + struct.pack("!H", len(head + payload)) + head + payload


def _parts(unit: bytes) -> Iterator[bytes]:
    """A unit as it is, or in fragments (FU-A)."""
    if len(unit) <= LARGEST_PAYLOAD_BYTES:
        yield unit
        return
    kind, rest = unit[0] & 0x1F, unit[1:]
    for start in range(0, len(rest), LARGEST_PAYLOAD_BYTES):
        part = rest[start : start + LARGEST_PAYLOAD_BYTES]
        is_end = start + len(part) == len(rest)
        flags = (start == 0) << 7 | is_end << 6 | kind
        yield bytes([unit[0] & 0xE0 | 28, flags]) + part


_SDP = """v=0
o=- 0 0 IN IP4 127.0.0.1
s=camera
t=0 0
m=video 0 RTP/AVP 96
a=rtpmap:96 H264/90000
a=fmtp:96 packetization-mode=1
a=control:track
"""
