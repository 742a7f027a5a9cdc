"""An sshd of the test's own: on a free port of this machine, with keys made for it."""

from __future__ import annotations

import contextlib
import getpass
import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PATHS = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """A machine that is reached by ssh: this one, seen through an sshd.

    Attributes:
        url: Where it is.
        folder: Its folder for temporary files.
        path: A PATH whose `ssh` knows the key.
    """

    url: str
    folder: Path
    path: str

    def left(self) -> list[str]:
        """What lies in its folder for temporary files."""
        return [path.name for path in self.folder.iterdir()]


@contextlib.contextmanager
def sshd(folder: Path, *, path: str = "") -> Iterator[Board]:
    """Run an sshd while the context is open.

    Args:
        folder: Where its keys and settings lie.
        path: Folders that its PATH begins with; that of this Python by default.
    """
    program, client = (shutil.which(name, path=PATHS) for name in ("sshd", "ssh"))
    if program is None or client is None:
        pytest.skip("needs openssh-server and openssh-client")
    for name in ("host", "user"):
        make = ("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name)
        subprocess.run(make, check=True)
    temporary = folder / "tmp"
    temporary.mkdir()
    if os.geteuid() == 0:  # where it keeps root's privileges apart
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    places = f"{path or Path(sys.executable).parent}:{os.environ['PATH']}"
    # What comes by ssh begins with a login shell's own PATH.
    forced = (
        f"PATH={shlex.quote(places)} TMPDIR={shlex.quote(str(temporary))}; "
        'export PATH TMPDIR; eval "$SSH_ORIGINAL_COMMAND"'
    )
    settings = [
        f"Port {port}",
        "ListenAddress 127.0.0.1",
        f"HostKey {folder / 'host'}",
        f"AuthorizedKeysFile {folder / 'user.pub'}",
        "PidFile none",
        "StrictModes no",
        "UsePAM no",
        "PasswordAuthentication no",
        f"ForceCommand {forced}",
    ]
    (folder / "sshd_config").write_text("\n".join(settings) + "\n")
    known = [
        "Host *",
        f"IdentityFile {folder / 'user'}",
        "IdentitiesOnly yes",
        f"UserKnownHostsFile {folder / 'known'}",
        "StrictHostKeyChecking accept-new",
    ]
    (folder / "ssh_config").write_text("\n".join(known) + "\n")
    (folder / "bin").mkdir()
    wrapper = folder / "bin" / "ssh"
    wrapper.write_text(f'#!/bin/sh\nexec {client} -F {folder / "ssh_config"} "$@"\n')
    wrapper.chmod(0o755)
    argv = (program, "-D", "-e", "-f", folder / "sshd_config")
    with subprocess.Popen(argv, stderr=subprocess.DEVNULL) as daemon:
        try:
            _wait_for(port, daemon)
            yield Board(
                url=f"ssh://{getpass.getuser()}@127.0.0.1:{port}",
                folder=temporary,
                path=f"{folder / 'bin'}:{os.environ['PATH']}",
            )
        finally:
            daemon.kill()


def _wait_for(port: int, daemon: subprocess.Popen[bytes]) -> None:
    until_s = time.monotonic() + 30
    while time.monotonic() < until_s and daemon.poll() is None:
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", port), 1),
        ):
            return
        time.sleep(0.05)
    raise AssertionError("sshd does not listen")
