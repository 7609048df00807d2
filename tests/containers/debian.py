"""Debian systems in folders, unpacked from the packages of the mirror that this machine's own apt uses."""

import fcntl
import hashlib
import json
import os
import shutil
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.integration.fetch import FOLDER, Apt, FetchError, mirror
from tests.program import cannot

SUITE = "trixie"
SYSTEMS = FOLDER / "containers"
# What dockerd and its clients need to run.
ENGINE = (
    *("?essential", "mount", "docker.io", "docker-cli", "docker-compose", "docker-buildx"),
    *("iptables", "iproute2", "procps", "slirp4netns", "busybox-static"),
)
# What is in python:3.13-slim-trixie: Debian's smallest system with Python and pip.
PYTHON = (
    *("?essential", "apt", "mount", "passwd", "ca-certificates", "netbase", "tzdata"),
    *("python3", "python3-pip", "python3-venv"),
)
# Settings of pip that say where packages come from, and mean the same in a container.
PIP = ("index-url", "extra-index-url", "trusted-host", "timeout", "default-timeout", "retries")
CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"


def engine_system() -> Path:
    """The root folder of a system with Docker in it. It is made once, and then kept."""
    with _kept("engine", ENGINE) as (root, packages):
        if packages:
            _unpack(packages, root)
            # Packages' scripts, which would make these, have not run.
            shutil.rmtree(root / "var/run")
            (root / "var/run").symlink_to("../run")
            for name in ("iptables", "ip6tables"):
                (root / "usr/sbin" / name).symlink_to("xtables-nft-multi")
            (root / "etc/resolv.conf").symlink_to("/run/resolv.conf")
    return SYSTEMS / "engine"


def python_system() -> tuple[Path, str]:
    """The root folder of a system with Python in it, and a stamp that changes with what is in it.

    It takes packages from where this machine takes them.
    """
    with _kept("python", PYTHON) as (root, packages):
        if packages:
            _unpack(packages, root)
            _install(packages, root)
    root = SYSTEMS / "python"
    stamp = hashlib.sha256(str((SYSTEMS / "python.json").stat().st_mtime_ns).encode())
    for path, text in _machine_settings().items():
        (root / path).write_text(text)
        stamp.update(text.encode())
    return root, stamp.hexdigest()[:12]


@contextmanager
def _kept(name: str, packages: Sequence[str]) -> Iterator[tuple[Path, list[Path]]]:
    """A folder to make a system in, and its packages; none if the system is there already.

    Whoever comes while one is made waits. A system that is not made to its end is not kept.
    """
    SYSTEMS.mkdir(parents=True, exist_ok=True)
    stamp = SYSTEMS / f"{name}.json"
    wanted = json.dumps([SUITE, *packages])
    with (FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if stamp.exists() and stamp.read_text() == wanted:
            yield SYSTEMS / name, []
            return
        stamp.unlink(missing_ok=True)
        shutil.rmtree(SYSTEMS / name, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=SYSTEMS, prefix="new-") as scratch:
            root = Path(scratch, "root")
            yield root, _download(packages, Path(scratch, "packages"))
            root.rename(SYSTEMS / name)
        stamp.write_text(wanted)


def _download(packages: Sequence[str], folder: Path) -> list[Path]:
    try:
        apt = Apt(FOLDER / "apt")
        apt.update([SUITE])
        return apt.download(packages, folder)
    except FetchError as error:
        cannot(f"the packages of a container engine can't be had: {error}")


def _unpack(packages: Sequence[Path], root: Path) -> None:
    for folder in ("dev", "etc", "proc", "run", "sys", "tmp", "var/lib"):
        (root / folder).mkdir(parents=True)
    # base-files has the links between folders (/bin to /usr/bin) that the others unpack through.
    for package in sorted(packages, key=lambda path: not path.name.startswith("base-files_")):
        subprocess.run(("dpkg-deb", "--extract", package, root), check=True)


def _install(packages: Sequence[Path], root: Path) -> None:
    """Runs the packages' own scripts, in namespaces of its own."""
    (root / "packages").mkdir()
    for package in packages:
        shutil.copy(package, root / "packages")
    script = """
        mount --bind "$1" "$1"
        mount -t proc proc "$1/proc"
        mount --rbind /dev "$1/dev"
        exec chroot "$1" sh -c 'dpkg --install --force-depends /packages/*.deb'
    """
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    own = ("unshare", "--mount", "--pid", "--fork", "--kill-child")
    done = subprocess.run(
        (*own, "sh", "-euc", script, "sh", root), env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    shutil.rmtree(root / "packages")


def _machine_settings() -> dict[str, str]:
    """What this machine's apt and pip take packages from, and trust, as files of a Debian system."""
    sources = {
        "Types": "deb",
        "URIs": mirror(),
        "Suites": SUITE,
        "Components": "main",
        "Signed-By": "/usr/share/keyrings/debian-archive-keyring.pgp",
    }
    pip = {"cert": f"/{CERTIFICATES}"}
    for line in _printed(sys.executable, "-m", "pip", "config", "list").splitlines():
        name, _, value = line.partition("=")
        if (key := name.rpartition(".")[2]) in PIP and "file:" not in value:
            pip[key] = value.strip("'")
    return {
        "etc/apt/sources.list.d/debian.sources": "".join(f"{key}: {value}\n" for key, value in sources.items()),
        "etc/apt/apt.conf.d/90machine": _printed("apt-config", "dump", "Acquire"),
        "etc/pip.conf": "".join(["[global]\n", *(f"{key} = {value}\n" for key, value in pip.items())]),
        CERTIFICATES: _certificates().read_text(),
    }


def _printed(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _certificates() -> Path:
    named = (os.environ.get(name) for name in ("PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"))
    candidates = (*named, f"/{CERTIFICATES}", ssl.get_default_verify_paths().cafile)
    return next(Path(path) for path in candidates if path and Path(path).is_file())
