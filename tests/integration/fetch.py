"""Gets the real programs that the tests in this folder run against, without root.

    python tests/integration/fetch.py [name ...]

Each comes as a Debian package of the suite that has the wanted version, from the mirror that this machine's
own apt uses, and is unpacked into a folder of its own, `.peers/<name>/`, some with libraries; systemd with all
that it depends on, as a root to boot from. What is already there, or on PATH where any version serves, is left
as it is. What can't be had is said; with CI=true it is also a failure.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / ".peers"


class FetchError(Exception):
    """A peer can't be had; the arguments are the reasons."""

    def __str__(self) -> str:
        return str(self.args[0])


@dataclass(frozen=True)
class Peer:
    """A real program, and the Debian package that it comes in."""

    name: str
    suite: str
    package: str
    any_version: bool = False  # then one on PATH is as good
    default: bool = True  # fetched without being named
    # Packages beside it. With these all that they depend on comes too: the folder is a root, which needs nothing of
    # this machine's.
    root_with: tuple[str, ...] = ()
    program: str = ""  # the main one, where it is not named like the package
    programs: str = "usr/bin"  # the folder that they are in
    version_flag: str = "--version"
    libraries: tuple[str, ...] = ()  # packages that are unpacked into the same folder, without what they depend on
    has_library_path: bool = False  # whether its programs must be told where these are
    architecture: str = ""  # as Debian names it, where it is not this machine's

    @property
    def pin(self) -> str:
        """What is asked of apt. What was fetched under another pin is fetched anew."""
        return " ".join(self.packages)

    @property
    def packages(self) -> list[str]:
        """The packages with their suites, the main one first."""
        return [f"{each}/{self.suite}" for each in (self.package, *self.root_with, *self.libraries)]

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return FOLDER / self.name

    def find(self, program: str = "") -> Path | None:
        """Give the path of one of this peer's programs, by default the main one."""
        program = program or self.program or self.package
        if self.any_version and (on_path := shutil.which(program)):
            return Path(on_path)
        path = FOLDER / self.name / self.programs / program
        stamp = FOLDER / self.name / "stamp"
        return path if path.is_file() and stamp.is_file() and stamp.read_text() == self.pin else None

    def environ(self, folder: Path | None = None) -> dict[str, str]:
        """Give the environment in which its programs find the libraries that came with them."""
        folders = sorted({str(each.parent) for each in (folder or FOLDER / self.name).rglob("lib*.so*")})
        return {**os.environ, "LD_LIBRARY_PATH": ":".join(folders)} if self.has_library_path else {**os.environ}

    def fetch(self, apt: Apt) -> str:
        """Put the package's files into this peer's folder, all or none of them, and give their version.

        Raises:
            FetchError: where apt doesn't give them, or the program doesn't run here.
        """
        with tempfile.TemporaryDirectory(dir=FOLDER) as scratch:
            fresh = Path(scratch) / self.name
            version = apt.unpack_root(self.packages, fresh) if self.root_with else apt.unpack(self.packages, fresh)
            self.finish(fresh)
            (fresh / "stamp").write_text(self.pin)
            if (FOLDER / self.name).exists():
                (FOLDER / self.name).rename(Path(scratch) / "outdated")
            fresh.rename(FOLDER / self.name)
        return version

    def finish(self, folder: Path) -> None:
        """Do what is left to do in the unpacked folder.

        Raises:
            FetchError: where the program doesn't run here.
        """
        # Tells at once, and once, that a shared library is missing or that this machine's is too old.
        program = self.program or self.package
        command = inside(folder, program) if self.root_with else [folder / self.programs / program]
        _run(*map(str, command), self.version_flag, env=self.environ(folder))


PEERS = {
    peer.name: peer
    for peer in (
        Peer("consul", "bullseye", "consul", any_version=True),
        Peer("prometheus-2.24", "bullseye", "prometheus"),  # the last that Debian builds with consul_sd_configs
        Peer("prometheus-2.42", "bookworm", "prometheus"),  # the last whose package has promtool
        Peer("prometheus-2.53", "trixie", "prometheus"),
        Peer("prometheus-3", "sid", "prometheus"),
        Peer("victoria-metrics", "sid", "victoria-metrics", any_version=True),
        Peer("node-exporter", "trixie", "prometheus-node-exporter"),
        # The one whose web configuration file knows rate_limit.
        Peer("node-exporter-1.11", "sid", "prometheus-node-exporter", program="prometheus-node-exporter"),
        Peer(
            *("openssl", "bookworm", "openssl"),
            any_version=True,
            version_flag="version",
            libraries=("libssl3",),
            has_library_path=True,
        ),
        Peer("systemd", "trixie", "systemd", program="systemctl", root_with=("python3", "base-files")),
        Peer("nginx", "bookworm", "nginx", programs="usr/sbin", version_flag="-v"),
        Peer(
            *("redis", "bookworm", "redis-server"),
            libraries=("redis-tools", "libatomic1", "libjemalloc2", "liblzf1"),
            has_library_path=True,
        ),
        Peer(
            *("postgresql", "bookworm", "postgresql-15"),
            program="postgres",
            programs="usr/lib/postgresql/15/bin",
            has_library_path=True,
            libraries=(
                *("libicu72", "libxml2", "libpq5", "libldap-2.5-0", "libsasl2-2", "libgssapi-krb5-2", "libkrb5-3"),
                *("libk5crypto3", "libkrb5support0", "libkeyutils1"),
            ),
        ),
        # All that its programs load but the C library. A font, since a page without one has no letters.
        Peer(
            *("chromium", "bookworm", "chromium"),
            programs="usr/lib/chromium",
            has_library_path=True,
            libraries=(
                *("chromium-common", "chromium-driver", "fonts-dejavu-core"),
                *("libasound2", "libasyncns0", "libatk-bridge2.0-0", "libatk1.0-0", "libatspi2.0-0"),
                *("libavahi-client3", "libavahi-common3", "libblkid1", "libbrotli1", "libbsd0", "libcairo2"),
                *("libcap2", "libcom-err2", "libcups2", "libdatrie1", "libdav1d6", "libdbus-1-3"),
                *("libdouble-conversion3", "libdrm2", "libexpat1", "libffi8", "libflac12", "libfontconfig1"),
                *("libfreetype6", "libfribidi0", "libgbm1", "libgcc-s1", "libgcrypt20", "libglib2.0-0"),
                *("libgmp10", "libgnutls30", "libgpg-error0", "libgraphite2-3", "libgssapi-krb5-2"),
                *("libharfbuzz-subset0", "libharfbuzz0b", "libhogweed6", "libidn2-0", "libjpeg62-turbo"),
                *("libk5crypto3", "libkeyutils1", "libkrb5-3", "libkrb5support0", "liblcms2-2", "liblz4-1"),
                *("liblzma5", "libmd0", "libminizip1", "libmount1", "libmp3lame0", "libmpg123-0", "libnettle8"),
                *("libnspr4", "libnss3", "libnss3-tools", "libogg0", "libopenh264-7", "libopenjp2-7"),
                *("libopus0", "libp11-kit0", "libpango-1.0-0", "libpcre2-8-0", "libpixman-1-0", "libpng16-16"),
                *("libpulse0", "libselinux1", "libsndfile1", "libsqlite3-0", "libstdc++6", "libsystemd0"),
                *("libtasn1-6", "libthai0", "libudev1", "libunistring2", "libvorbis0a", "libvorbisenc2"),
                *("libwayland-server0", "libx11-6", "libx11-xcb1", "libxau6", "libxcb-render0", "libxcb-shm0"),
                *("libxcb1", "libxcomposite1", "libxdamage1", "libxdmcp6", "libxext6", "libxfixes3", "libxi6"),
                *("libxkbcommon0", "libxnvctrl0", "libxrandr2", "libxrender1", "libzstd1", "zlib1g"),
            ),
        ),
    )
}

_CONF = """\
Dir::State "{home}/state";
Dir::State::status "{home}/state/status";
Dir::Cache "{home}/cache";
Dir::Cache::pkgcache "pkgcache.bin";
Dir::Cache::srcpkgcache "";
Dir::Etc::sourcelist "{home}/peers.sources";
Dir::Etc::sourceparts "-";
Dir::Etc::preferences "-";
Dir::Etc::preferencesparts "-";
Acquire::Languages "none";
Acquire::http::Timeout "30";
Acquire::https::Timeout "30";
// Without this, a mirror that can't be reached is a warning.
APT::Update::Error-Mode "any";
// As root, apt would download as a user who can't enter a private folder.
APT::Sandbox::User "root";
// What the machine does after its own updates (refresh a software catalogue, clean caches) isn't for these.
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
"""


def inside(root: Path, program: str) -> list[str | Path]:
    """Give the command that runs a program of an unpacked root, with that root's libraries and not this machine's."""
    (loader,) = root.glob("usr/lib/*-linux-gnu*/ld-linux*.so.*")
    libraries = f"{loader.parent}:{loader.parent / 'systemd'}"
    return [loader, "--library-path", libraries, root / "usr/bin" / program]


class Apt:
    """apt with sources, lists and caches in a folder of its own, so that it touches none of the machine's.

    All else (proxies, credentials, and the architecture unless one is named) is as the machine's configuration says.
    """

    def __init__(self, home: Path, architecture: str = "") -> None:
        """Set up the folder.

        Raises:
            FetchError: where there is no apt, or it knows no mirror.
        """
        if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
            msg = "there is no apt-get and dpkg-deb on this machine"
            raise FetchError(msg)
        for folder in ("state/lists/partial", "cache/archives/partial"):
            (home / folder).mkdir(parents=True, exist_ok=True)
        (home / "state/status").touch()
        conf = _CONF.format(home=home)
        if architecture:
            conf += f'APT::Architecture "{architecture}";\n#clear APT::Architectures;\n'
            conf += f'APT::Architectures {{ "{architecture}"; }};\n'
        (home / "apt.conf").write_text(conf)
        self._home = home
        self._mirror = mirror()
        # Where a machine has no Debian keyring, the keys that its apt trusts for everything decide.
        self._keyrings = _keyrings(Path("/usr/share/keyrings"))
        self._complaints: list[str] = []

    def update(self, suites: Sequence[str]) -> None:
        """Get these suites' package lists; one that can't be had shows when a package is asked of it."""
        if self._update(suites):
            return
        # This machine's keyring can be older than a suite, or so new that it has dropped an old suite's keys.
        # Signature checks stay on: each suite that *can* be verified has a keyring package, with the keys of
        # its neighbours too, so trust goes on from there. All the table's suites take part, to reach further.
        every_suite = sorted({peer.suite for peer in PEERS.values()})
        self._update(every_suite)
        found = [keyring for suite in every_suite for keyring in self._keyring_package(suite)]
        if found:
            self._keyrings += found
            self._update(every_suite)

    def _keyring_package(self, suite: str) -> list[Path]:
        folder = self._home / "keyrings" / suite
        try:
            self.unpack([f"debian-archive-keyring/{suite}"], folder)
        except FetchError:
            return []
        return _keyrings(folder / "usr/share/keyrings")

    def unpack(self, packages: Sequence[str], folder: Path) -> str:
        """Download packages (`name/suite`), unpack them into a folder and give the first one's version.

        Raises:
            FetchError: with what apt says about the suite's list, or else about the package.
        """
        with tempfile.TemporaryDirectory(dir=self._home) as scratch:
            try:
                self._get("download", *packages, cwd=scratch)
            except FetchError as error:
                suites = {package.partition("/")[2] for package in packages}
                about = [line for line in self._complaints if suites & {*line.replace("/", " ").split()}]
                raise FetchError(*about, *error.args) from None
            name = packages[0].partition("/")[0]
            (main,) = Path(scratch).glob(f"{name}_*.deb")
            folder.mkdir(parents=True, exist_ok=True)
            for deb in sorted(Path(scratch).glob("*.deb")):
                _run("dpkg-deb", "-x", str(deb), str(folder))
            return _run("dpkg-deb", "-f", str(main), "Version").strip()

    def unpack_root(self, packages: Sequence[str], folder: Path) -> str:
        """Download packages and all that they depend on, unpack them into a folder, and give the first one's version.

        Raises:
            FetchError: with what apt says.
        """
        with tempfile.TemporaryDirectory(dir=self._home) as archives:
            debs = self.download(packages, Path(archives))
            found = {_run("dpkg-deb", "-f", str(deb), "Package").strip(): deb for deb in debs}
            # First, what makes /lib a link to /usr/lib.
            for name in sorted(found, key=lambda name: (name != "base-files", name)):
                folder.mkdir(parents=True, exist_ok=True)
                _run("dpkg-deb", "-x", str(found[name]), str(folder))
            return _run("dpkg-deb", "-f", str(found[packages[0].partition("/")[0]]), "Version").strip()

    def download(self, packages: Sequence[str], folder: Path) -> list[Path]:
        """Download packages with all that they depend on, whatever this machine has of it, and give their files.

        Raises:
            FetchError: with what apt says.
        """
        (folder / "partial").mkdir(parents=True)
        # Nothing is installed as far as apt knows, so that nothing is left out.
        options = ["--yes", "--no-install-recommends", "--download-only", f"-oDir::Cache::archives={folder}"]
        # What they depend on is to come from their suite too, whichever others are known.
        options += [f"--target-release={suite}" for suite in {each.partition("/")[2] for each in packages} if suite]
        self._get("install", *options, *packages, cwd=self._home)
        return sorted(folder.glob("*.deb"))

    def _update(self, suites: Sequence[str]) -> bool:
        fields = {
            "Types": "deb",
            "URIs": self._mirror,
            "Suites": " ".join(suites),
            "Components": "main",
            "Targets": "Packages",
        }
        if self._keyrings:
            fields["Signed-By"] = " ".join(map(str, self._keyrings))
        (self._home / "peers.sources").write_text("".join(f"{key}: {value}\n" for key, value in fields.items()))
        try:
            self._get("update", cwd=self._home)
        except FetchError as error:
            self._complaints = list(error.args)
            return False
        self._complaints = []
        return True

    def _get(self, *arguments: str, cwd: str | Path) -> None:
        _run("apt-get", "-qq", f"--config-file={self._home}/apt.conf", *arguments, cwd=cwd)


def _keyrings(folder: Path) -> list[Path]:
    """Give Debian's keyring in a folder, under its older (.gpg) or its newer name (.pgp), if it is there."""
    return sorted(folder.glob("debian-archive-keyring.[gp]*"))[:1]


def mirror() -> str:
    """Give the URI that this machine's apt takes Debian from; apt itself reads both forms of its sources."""
    names = {"stable", "testing", "unstable", "sid"}
    for line in Path("/etc/os-release").read_text().splitlines():
        if line.startswith("VERSION_CODENAME="):
            names.add(line.partition("=")[2].strip('"'))
    targets = _run("apt-get", "indextargets", "--no-release-info", "--format", "$(RELEASE) $(COMPONENT) $(REPO_URI)")
    for target in targets.splitlines():
        suite, component, uri = target.split(" ", maxsplit=2)
        if suite in names and component == "main":
            return uri
    msg = "apt's configuration on this machine names no Debian mirror"
    raise FetchError(msg)


def _run(*command: str, cwd: str | Path | None = None, env: Mapping[str, str] = os.environ) -> str:
    """Run a command and give what it prints.

    Raises:
        FetchError: with apt's errors, or else the last line that the command prints.
    """
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**env, "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"{command[0]} ended with status {done.returncode}"]
        errors = [line.removeprefix("E: ") for line in lines if line.startswith("E: ")] or lines[-1:]
        raise FetchError(*errors)
    return done.stdout


@contextmanager
def _alone() -> Iterator[None]:
    """Wait until no other run of this program works in the folder."""
    FOLDER.mkdir(exist_ok=True)
    with (FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _fetch(peers: Sequence[Peer]) -> None:
    """Fetch these peers, of one architecture, and say, for each, its version or why it can't be had."""
    architecture = peers[0].architecture
    try:
        apt = Apt(FOLDER / "-".join(filter(None, ("apt", architecture))), architecture)
        apt.update(sorted({peer.suite for peer in peers}))
    except FetchError as error:
        for peer in peers:
            _say(peer, f"can't be had: {error}")
        return
    for peer in peers:
        try:
            _say(peer, f"fetched {peer.fetch(apt)} from {peer.suite}")
        except FetchError as error:
            _say(peer, f"can't be had: {error}")


def _say(peer: Peer, what: object) -> None:
    sys.stdout.write(f"{peer.name}: {what}\n")
    sys.stdout.flush()


def get(names: Sequence[str], peers: Mapping[str, Peer] = PEERS) -> list[str]:
    """Get peers, say a line for each, and give the names of those that can't be had."""
    wanted = [peers[name] for name in dict.fromkeys(names)]
    with _alone():
        for peer in wanted:
            if path := peer.find():
                _say(peer, path)
        missing = [peer for peer in wanted if not peer.find()]
        for architecture in sorted({peer.architecture for peer in missing}):
            _fetch([peer for peer in missing if peer.architecture == architecture])
    return [peer.name for peer in wanted if not peer.find()]


def main() -> int:
    """Get the peers that are named, or all that are to be had by default, and say a line for each."""
    parser = argparse.ArgumentParser(description="Get the real programs that tests/integration runs against.")
    parser.add_argument("names", nargs="*", metavar="name", help=f"one of {', '.join(PEERS)}")
    names = parser.parse_args().names or [name for name, peer in PEERS.items() if peer.default]
    if unknown := [name for name in names if name not in PEERS]:
        parser.error(f"no peer is named {', '.join(unknown)}; there are {', '.join(PEERS)}")
    return 1 if get(names) and os.environ.get("CI") == "true" else 0


if __name__ == "__main__":
    sys.exit(main())
