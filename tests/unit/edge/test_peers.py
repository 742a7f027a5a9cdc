from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import httpx
import numpy as np
import pytest

from skerry.comms.download import download
from skerry.comms.peering import is_peer_url, prove
from skerry.core.chunks import Chunks
from skerry.core.clock import FakeClock, SystemClock
from skerry.core.documents import Json
from skerry.core.errors import LinkError, TrustError, UsageError
from skerry.core.release import Blob
from skerry.edge.neighbours import Neighbours, read_neighbourhood
from skerry.edge.peers import MOST_STREAMS, PeerService, open_peers
from tests.links import run

CONTENT = np.random.default_rng(1).bytes(300_000)
BLOB = Blob.of(CONTENT)
KEYS = (bytes(range(32)), bytes(32))
RNG = np.random.default_rng(0)
PROOF = f"Bearer {prove(KEYS[0], BLOB.sha256)}"
YESTERDAYS = f"Bearer {prove(KEYS[1], BLOB.sha256)}"
OTHERS = f"Bearer {prove(KEYS[0], 'b' * 64)}"


class Hub:
    """What a hub says of a site, and the blob itself."""

    def __init__(self, *peers: str) -> None:
        self.peers = list(peers)
        self.n_asked = 0
        self.error: LinkError | None = None
        self.offsets: list[int] = []

    async def ask(self) -> Mapping[str, Json]:
        self.n_asked += 1
        if self.error is not None:
            raise self.error
        return {"keys": [key.hex() for key in KEYS], "peers": [*self.peers]}

    async def open(self, sha256: str, *, offset: int = 0, end: int | None = None):  # noqa: ANN201
        assert sha256 == BLOB.sha256
        self.offsets.append(offset)
        yield CONTENT[offset:end]


def with_peers(
    folder: Path, content: bytes, case: Callable[[Neighbours, Hub], Awaitable[None]]
) -> None:
    """Run a case beside a neighbour that has a blob of this content."""
    path = folder / "blob"
    path.write_bytes(content)

    async def whole() -> None:
        hub = Hub()
        async with open_peers(
            lambda sha256: path if sha256 == BLOB.sha256 else None,
            hub.ask,
            host="127.0.0.1",
            port=0,
            clock=SystemClock(),
            rng=RNG,
        ) as other:
            hub.peers.append(other.own)
            await case(Neighbours(hub.ask, clock=FakeClock(), rng=RNG), hub)

    run(whole())


def test_a_neighbour_gives_what_the_hub_need_not(tmp_path: Path) -> None:
    """The whole blob, checked by its chunks; the hub is not asked for a byte of it."""

    async def case(mine: Neighbours, hub: Hub) -> None:
        peers = await mine.find(BLOB.sha256)
        assert len(peers) == 1
        chunks = Chunks.cut(CONTENT)
        await download(hub, BLOB, tmp_path / "x", chunks=chunks, peers=peers)
        assert not hub.offsets

    with_peers(tmp_path, CONTENT, case)
    assert (tmp_path / "x").read_bytes() == CONTENT


def test_a_neighbour_that_lies_is_not_asked_again(tmp_path: Path) -> None:
    """What it gave right is kept, the hub gives the rest; it stays avoided for good."""
    clock = FakeClock()

    async def case(_: Neighbours, hub: Hub) -> None:
        mine = Neighbours(hub.ask, clock=clock, rng=RNG)
        peers = await mine.find(BLOB.sha256)
        chunks = Chunks.cut(CONTENT)
        await download(hub, BLOB, tmp_path / "x", chunks=chunks, peers=peers)
        assert 90_000 < hub.offsets[0] <= 100_000
        clock.advance(wall_s=1e9)
        assert await mine.find(BLOB.sha256) == ()

    with_peers(tmp_path, CONTENT[:100_000] + bytes(200_000), case)
    assert (tmp_path / "x").read_bytes() == CONTENT


def test_one_that_fails_is_left_alone_for_a_while() -> None:
    """Then it is asked again: it may have been asleep."""
    clock, hub = FakeClock(), Hub("http://127.0.0.1:1", "http://8.8.8.8:1")

    async def story() -> None:
        mine = Neighbours(hub.ask, clock=clock, rng=RNG)
        (peer,) = await mine.find(BLOB.sha256)
        with pytest.raises(LinkError):
            await anext(peer.open(BLOB.sha256))
        peer.give_up(LinkError("gone", hint="-"))
        assert await mine.find(BLOB.sha256) == ()
        clock.advance(wall_s=601)
        assert len(await mine.find(BLOB.sha256)) == 1
        peer.give_up(TrustError("a lie", hint="-"))
        clock.advance(wall_s=1e6)
        assert await mine.find(BLOB.sha256) == ()

    asyncio.run(story())


def test_a_hub_that_does_not_say_is_not_asked_at_each_blob() -> None:
    """There are no neighbours then; after some minutes it is asked again."""
    clock, hub = FakeClock(), Hub("http://10.0.0.1:1")
    hub.error = LinkError("down", hint="-")

    async def story() -> None:
        mine = Neighbours(hub.ask, clock=clock, rng=RNG)
        for _ in range(3):
            assert await mine.find(BLOB.sha256) == ()
        assert hub.n_asked == 1
        hub.error = None
        clock.advance(wall_s=301)
        assert len(await mine.find(BLOB.sha256)) == 1
        mine.own = "http://10.0.0.1:1"
        assert await mine.find(BLOB.sha256) == ()

    asyncio.run(story())


@pytest.mark.parametrize(
    ("asked", "sent", "status"),
    [
        (f"GET {BLOB.sha256}", {"Authorization": PROOF}, 200),
        (f"GET {BLOB.sha256}", {"Authorization": PROOF, "Range": "bytes=5-9"}, 206),
        (f"GET {BLOB.sha256}", {"Authorization": PROOF, "Range": "bytes=x"}, 200),
        (
            f"GET {BLOB.sha256}",
            {"Authorization": PROOF, "Range": "bytes=999999-"},
            416,
        ),
        (f"GET {BLOB.sha256}", {"Authorization": YESTERDAYS}, 200),
        (f"GET {BLOB.sha256}", {"Authorization": OTHERS}, 401),
        (f"GET {BLOB.sha256}", {"Authorization": f"Bearer {KEYS[0].hex()}"}, 401),
        (f"GET {BLOB.sha256}", {}, 401),
        (f"GET {'b' * 64}", {"Authorization": OTHERS}, 404),
        (f"GET {'B' * 64}", {"Authorization": OTHERS}, 404),
        (f"PUT {BLOB.sha256}", {"Authorization": PROOF}, 405),
    ],
)
def test_who_may_have_what(
    tmp_path: Path, asked: str, sent: dict[str, str], status: int
) -> None:
    """Only a blob that is here, only with the proof for that very blob."""
    method, _, sha256 = asked.partition(" ")

    async def case(_: Neighbours, hub: Hub) -> None:
        async with httpx.AsyncClient(base_url=hub.peers[0]) as client:
            got = await client.request(method, f"/v1/blobs/{sha256}", headers=sent)
        assert got.status_code == status
        expected = {200: CONTENT, 206: CONTENT[5:10]}.get(status, b"")
        assert got.content == expected

    with_peers(tmp_path, CONTENT, case)


def test_it_gives_no_faster_than_it_may_and_not_to_all_at_once(tmp_path: Path) -> None:
    """By the clock: so many bytes a second; one neighbour too many is sent away."""
    (tmp_path / "blob").write_bytes(CONTENT)
    clock, statuses = FakeClock(), []

    async def keys() -> tuple[bytes, ...]:
        return KEYS

    async def story() -> float:
        service = PeerService(
            lambda _: tmp_path / "blob", keys, clock=clock, bytes_per_s=100_000.0
        )
        token = f"Bearer {prove(KEYS[0], BLOB.sha256)}".encode()
        scope = {
            "type": "http",
            "method": "GET",
            "path": f"/v1/blobs/{BLOB.sha256}",
            "headers": [(b"authorization", token)],
        }

        async def send(message: Mapping[str, object]) -> None:
            if "status" in message:
                statuses.append(message["status"])

        async def receive() -> dict[str, object]:
            return {}

        asked = [
            asyncio.create_task(service(scope, receive, send))
            for _ in range(MOST_STREAMS + 1)
        ]
        while not all(task.done() for task in asked):
            for _ in range(20):
                await asyncio.sleep(0)
            wake_s = clock.next_wake_s()
            if wake_s is not None:
                clock.advance(wall_s=wake_s - clock.wall_s())
        assert service.given_bytes == MOST_STREAMS * len(CONTENT)
        return clock.wall_s()

    took_s = asyncio.run(story())
    assert sorted(statuses) == [200] * MOST_STREAMS + [503]
    assert took_s == pytest.approx(MOST_STREAMS * len(CONTENT) / 1e5 - 0.25, abs=0.01)


@pytest.mark.parametrize("host", ["0.0.0.0", "8.8.8.8", "example.org", "169.254.1.1"])  # noqa: S104
def test_a_host_that_neighbours_cannot_reach_is_refused(host: str) -> None:
    """They are sent there by number, and only within their site."""

    async def story() -> None:
        async with open_peers(
            lambda _: None,
            Hub().ask,
            host=host,
            port=0,
            clock=SystemClock(),
            rng=RNG,
        ):
            pass

    with pytest.raises(UsageError, match="no private address"):
        asyncio.run(story())


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://192.168.1.7:8760", True),
        ("http://[fd00::1]:80", True),
        ("http://127.0.0.1:5", True),
        ("http://192.168.1.7", False),
        ("https://192.168.1.7:1", False),
        ("http://u:p@192.168.1.7:1", False),
        ("http://192.168.1.7:1/path", False),
        ("http://192.168.1.7:1?q", False),
        ("http://169.254.169.254:80", False),
        ("http://192.168.1.7:99999999", False),
        ("http://0.0.0.0:1", False),
        ("http://224.0.0.1:1", False),
        ("http://[::", False),
        (None, False),
    ],
)
def test_where_nobody_is_sent(url: object, expected: bool) -> None:  # noqa: FBT001
    """Only to private addresses by number, with a port and no more."""
    assert is_peer_url(url) is expected


def test_what_makes_no_sense_of_a_site_is_left_out() -> None:
    """The rest holds."""
    read = read_neighbourhood(
        {
            "keys": [1, "zz", "00", KEYS[0].hex()],
            "peers": [None, 3, "http://10.0.0.1:2"],
        }
    )
    assert (read.keys, read.peers) == ((KEYS[0],), ("http://10.0.0.1:2",))
    assert read_neighbourhood({"keys": 5}).keys == ()
