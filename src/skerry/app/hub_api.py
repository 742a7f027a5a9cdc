"""The hub's API for people, the demo and the command line: one method an endpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from skerry.app.publish.publisher import Bundle
from skerry.comms.http import HttpBlobs, HubHttp, named_error
from skerry.core.documents import Json, parse_object
from skerry.core.errors import DataError, StateError, UsageError
from skerry.core.fleet import Device, Rollout, Shadow
from skerry.core.profile import Profile
from skerry.core.release import Manifest, ReleaseId
from skerry.evolve.ways import WayCost

NounT = TypeVar("NounT")


class HubApi:
    """A hub, as an operator sees it.

    Args:
        url: The hub's root, such as `http://127.0.0.1:8080`.
        token: An operator's token, or None for what needs none.

    Each method raises the error of our tree that the hub names, `LinkError` when the
    hub cannot be reached, and `StateError` when its answer makes no sense.
    """

    def __init__(self, url: str, token: str | None) -> None:
        self._http = HubHttp(url, token)
        self.blobs = HttpBlobs(url, token)

    @classmethod
    def of_folder(cls, folder: Path) -> HubApi:
        """The hub that runs in a folder of this machine.

        Raises:
            UsageError: None has run there, or its files cannot be read.
        """
        try:
            address, token = (
                _read_text(folder / name, key)
                for name, key in (("hub.json", "address"), ("operator.json", "token"))
            )
        except OSError as error:
            raise UsageError(
                f"there is no hub in {folder}: {error.strerror or error}",
                hint="Start one: skerry hub up.",
            ) from error
        return cls(address, token)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()
        await self.blobs.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def health(self) -> dict[str, Json]:
        """Whether the hub is up: `status`, `version`, `tenant`, `at_ms`."""
        return await self._http.get("/v1/health")

    async def create_device(
        self, name: str, *, labels: Mapping[str, str] | None = None
    ) -> str:
        """Register a device, or let one enrol anew.

        Returns:
            The one-time token for its gateway.
        """
        body: dict[str, Json] = {"name": name}
        if labels is not None:
            body["labels"] = dict(labels)
        return str((await self._http.post("/v1/devices", body)).get("token"))

    async def enrol(self, token: str, agent: Mapping[str, Json]) -> dict[str, Json]:
        """Trade a one-time token for credentials, as a gateway does."""
        return await self._http.post(
            "/v1/enrol", {"token": token, "agent": dict(agent)}
        )

    async def devices(self) -> tuple[Device, ...]:
        """All devices, by name."""
        return _nouns(Device, await self._http.get("/v1/devices"), "devices")

    async def device(self, name: str) -> Device:
        """One device."""
        return _noun(Device, await self._http.get(f"/v1/devices/{_part(name)}"))

    async def shadow(self, device: str) -> Shadow:
        """What a device should be, and what it said it is."""
        answer = await self._http.get(f"/v1/devices/{_part(device)}/shadow")
        return _noun(Shadow, answer)

    async def set_desired(
        self, device: str, patch: Mapping[str, Json], *, version: int | None = None
    ) -> Shadow:
        """Change what a device should be.

        Args:
            device: Which.
            patch: A merge patch of the desired side.
            version: The shadow's version that was read, or None to write regardless.
        """
        answer = await self._http.patch(
            f"/v1/devices/{_part(device)}/shadow",
            {"desired": dict(patch), "version": version},
        )
        return _noun(Shadow, answer)

    async def logs(
        self, device: str, *, after: int = 0, limit: int = 100
    ) -> tuple[dict[str, Any], ...]:
        """The newest lines of a device's log, oldest first."""
        query = urlencode({"after": after, "limit": limit})
        path = f"/v1/devices/{_part(device)}/logs?{query}"
        return _rows(await self._http.get(path), "events")

    async def why(self, device: str) -> str:
        """Why a device runs what it runs, in a paragraph."""
        answer = await self._http.get(f"/v1/devices/{_part(device)}/why")
        return str(answer.get("why"))

    async def ping(self, device: str, *, timeout_s: float = 5.0) -> float:
        """Ask a device for a sign of life; the round trip in milliseconds."""
        path = f"/v1/devices/{_part(device)}/ping?timeout_s={timeout_s:g}"
        answer = await self._http.post(path)
        return _noun(float, answer.get("round_trip_ms"))

    async def profile(
        self, device: str, sha256: str, *, repeats: int, threads: int
    ) -> Profile:
        """Have an idle device profile a model that is installed there.

        Raises:
            The error that the device names: it does not serve the model, or is busy.
        """
        body: Json = {"sha256": sha256, "repeats": repeats, "threads": threads}
        answer = await self._http.post(f"/v1/devices/{_part(device)}/profile", body)
        if (refusal := named_error(answer)) is not None:
            raise refusal
        return _noun(Profile, answer.get("profile"))

    async def online_key(self) -> bytes:
        """The public half of the hub's online key (PEM), which a root must name."""
        return str((await self._http.get("/v1/trust-keys")).get("online")).encode()

    async def next_online_key(self) -> bytes:
        """The public half (PEM) of the key that takes over once a root names it."""
        answer = await self._http.post("/v1/trust-keys/next")
        return str(answer.get("online")).encode()

    async def trust(self) -> tuple[dict[str, Any], ...]:
        """How long what is signed holds: see `skerry.evolve.trust.Standing`."""
        return _rows(await self._http.get("/v1/trust"), "roles")

    async def put_trust(
        self, metadata: Mapping[str, bytes], *, replace: bool = False
    ) -> str:
        """Give the hub metadata without a release, such as the first root.

        Args:
            metadata: Files by name.
            replace: Whether it forgets the publisher that it trusts.

        Returns:
            The hash of the root that new devices pin.
        """
        body: Json = {"metadata": _texts(metadata), "replace": replace}
        answer = await self._http.post("/v1/trust", body)
        return str(answer.get("root_sha256"))

    async def publish(self, bundle: Bundle) -> ReleaseId:
        """Publish a release: upload its blobs, then the metadata.

        Blobs that the hub has are uploaded all the same: one that has been damaged on
        its disk is whole again. Where signatures are lacking, only blobs are uploaded.
        """
        for sha256, content in bundle.blobs.items():
            await self.blobs.put(sha256, content)
        if not bundle.lacking:
            await self.publish_manifest(bundle.manifest_sha256, bundle.metadata)
        return bundle.manifest.id

    async def publish_manifest(
        self, sha256: str, metadata: Mapping[str, bytes]
    ) -> None:
        """Publish a release whose manifest and blobs the hub has."""
        body: Json = {"metadata": _texts(metadata), "manifests": [sha256]}
        await self._http.post("/v1/releases", body)

    async def releases(self) -> tuple[Manifest, ...]:
        """All releases, the last published first."""
        return _nouns(Manifest, await self._http.get("/v1/releases"), "releases")

    async def release(self, release: ReleaseId) -> Manifest:
        """One release."""
        return _noun(Manifest, await self._http.get(f"/v1/releases/{release}"))

    async def delta_costs(
        self, release: ReleaseId, *, make: bool = False
    ) -> tuple[WayCost, ...]:
        """What it costs to bring each version's devices to a release.

        Args:
            release: Which.
            make: Whether to have the deltas made that there are not yet.
        """
        ask = self._http.post if make else self._http.get
        return _nouns(WayCost, await ask(f"/v1/releases/{release}/deltas"), "costs")

    async def create_rollout(
        self,
        release: ReleaseId,
        *,
        waves: Sequence[Sequence[str]] = (),
        devices: Sequence[str] = (),
        **terms: Any,
    ) -> Rollout:
        """Begin a rollout.

        Args:
            release: What is delivered.
            waves: To whom, in this order.
            devices: To whom, a canary first; without waves, devices and a query, to
                everybody.
            **terms: `query`, `stages`, `gate`, `on_failure`, `approval`, `window`,
                `is_dynamic`, `id` and `supersede`, as in the API's `NewRollout`.
        """
        body = _new_rollout(release, waves, devices, terms)
        return _noun(Rollout, await self._http.post("/v1/rollouts", body))

    async def preview_rollout(
        self,
        release: ReleaseId,
        *,
        waves: Sequence[Sequence[str]] = (),
        devices: Sequence[str] = (),
        **terms: Any,
    ) -> dict[str, Json]:
        """Say what `create_rollout` would begin, and whom it would leave out."""
        body = _new_rollout(release, waves, devices, terms)
        return await self._http.post("/v1/rollouts/preview", body)

    async def rollouts(self) -> tuple[Rollout, ...]:
        """The rollouts, the last started first."""
        return _nouns(Rollout, await self._http.get("/v1/rollouts"), "rollouts")

    async def rollout(self, rollout_id: str) -> Rollout:
        """Where a rollout stands."""
        path = f"/v1/rollouts/{_part(rollout_id)}"
        return _noun(Rollout, await self._http.get(path))

    async def acts(self, rollout_id: str) -> tuple[dict[str, Any], ...]:
        """Who did what to a rollout, the oldest first."""
        path = f"/v1/rollouts/{_part(rollout_id)}/acts"
        return _rows(await self._http.get(path), "acts")

    async def pause_rollout(self, rollout_id: str) -> Rollout:
        """Send nothing until it is resumed."""
        return await self._order(rollout_id, "pause")

    async def resume_rollout(self, rollout_id: str) -> Rollout:
        """Go on with a paused rollout."""
        return await self._order(rollout_id, "resume")

    async def approve_rollout(self, rollout_id: str) -> Rollout:
        """Let the next wave begin."""
        return await self._order(rollout_id, "approve")

    async def stop_rollout(self, rollout_id: str) -> Rollout:
        """Update no more devices."""
        return await self._order(rollout_id, "stop")

    async def undo_rollout(self, rollout_id: str) -> Rollout:
        """Take each device that was told to update back to what it ran before."""
        return await self._order(rollout_id, "undo")

    async def _order(self, rollout_id: str, verb: str) -> Rollout:
        path = f"/v1/rollouts/{_part(rollout_id)}/{verb}"
        return _noun(Rollout, await self._http.post(path))

    async def samples(
        self,
        *,
        release: ReleaseId | None = None,
        labelled: bool | None = None,
        limit: int = 1000,
    ) -> tuple[dict[str, Any], ...]:
        """Field samples without their inputs, the oldest first."""
        asked = {
            "release": None if release is None else str(release),
            "labelled": None if labelled is None else str(labelled).lower(),
            "limit": str(limit),
        }
        query = urlencode({key: one for key, one in asked.items() if one is not None})
        return _rows(await self._http.get(f"/v1/samples?{query}"), "samples")

    async def sample(self, sample_id: str) -> dict[str, Json]:
        """A field sample with its inputs."""
        return await self._http.get(f"/v1/samples/{_part(sample_id)}")

    async def label_sample(self, sample_id: str, label: str) -> dict[str, Json]:
        """Say what a sample shows."""
        path = f"/v1/samples/{_part(sample_id)}/label"
        return await self._http.post(path, {"label": label})

    async def start_retraining(self, release: ReleaseId, *, replay: str) -> str:
        """Begin to learn from the labelled samples of a release.

        Args:
            release: Which.
            replay: The hash of the blob that holds old samples.

        Returns:
            The retraining's id.
        """
        body: dict[str, Json] = {"release": str(release), "replay": replay}
        return str((await self._http.post("/v1/retrainings", body)).get("id"))

    async def retrainings(self) -> tuple[dict[str, Any], ...]:
        """All retrainings, the oldest first."""
        return _rows(await self._http.get("/v1/retrainings"), "retrainings")

    async def retraining(self, retraining_id: str) -> dict[str, Any]:
        """Where a retraining stands, and what came of it."""
        return await self._http.get(f"/v1/retrainings/{_part(retraining_id)}")


def _read_text(path: Path, key: str) -> str:
    try:
        text = parse_object(path.read_bytes(), name=str(path)).get(key)
    except DataError:
        text = None
    if not isinstance(text, str):
        raise UsageError(
            f"{path} is damaged: there is no {key} in it",
            hint="Start the hub again: it writes this file anew.",
        )
    return text


def _new_rollout(
    release: ReleaseId,
    waves: Sequence[Sequence[str]],
    devices: Sequence[str],
    terms: Mapping[str, Any],
) -> dict[str, Json]:
    return {
        "release": str(release),
        "waves": [list(wave) for wave in waves],
        "devices": list(devices),
        **{key: msgspec.to_builtins(value) for key, value in terms.items()},
    }


def _part(name: str) -> str:
    return quote(name, safe="")


def _texts(metadata: Mapping[str, bytes]) -> dict[str, Json]:
    return {name: content.decode() for name, content in metadata.items()}


def _noun(kind: type[NounT], answer: object) -> NounT:
    try:
        return msgspec.convert(answer, kind)
    except (msgspec.ValidationError, ValueError) as error:
        raise StateError(
            f"the hub's answer is no {kind.__name__}: {error}",
            hint="Is the hub of a newer version? Upgrade Skerry here.",
        ) from error


def _nouns(
    kind: type[NounT], answer: Mapping[str, Json], key: str
) -> tuple[NounT, ...]:
    rows = _noun(list[Any], answer.get(key))
    return tuple(_noun(kind, row) for row in rows)


def _rows(answer: Mapping[str, Json], key: str) -> tuple[dict[str, Any], ...]:
    return _nouns(dict[str, Any], answer, key)
