"""What gateways of a site need to give each other blobs: addresses and proofs.

The hub gives all gateways of a site a key of the day. Who asks a neighbour for a blob
shows an HMAC of the blob's hash under that key: what others on the network overhear
opens nothing but the very blob that they overhear, too.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from urllib.parse import urlsplit

LONGEST_URL = 100


def prove(key: bytes, sha256: str) -> str:
    """What opens one blob at a neighbour of the same site.

    Args:
        key: The site's key of the day.
        sha256: Of the blob.
    """
    return hmac.new(
        key, b"skerry.peer/1 " + sha256.encode(), hashlib.sha256
    ).hexdigest()


def is_peer_url(url: object) -> bool:
    """Whether a text may be a neighbour's address: a private one, by number.

    Nobody is sent to ask elsewhere: not beyond the site, and not at a link-local
    address, where clouds keep what a machine may tell nobody.

    Example:
        >>> is_peer_url("http://192.168.1.7:8760"), is_peer_url("http://10.0.0.1/x")
        (True, False)
    """
    if not isinstance(url, str) or len(url) > LONGEST_URL:
        return False
    try:
        parts = urlsplit(url)
        address = ipaddress.ip_address(parts.hostname or "")
        has_port = parts.port is not None
    except ValueError:
        return False
    is_bare = url == f"http://{parts.netloc}" and "@" not in parts.netloc
    is_near = address.is_private and not (
        address.is_link_local or address.is_multicast or address.is_unspecified
    )
    return is_bare and has_port and is_near
