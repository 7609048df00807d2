"""Consul as it runs in production: several servers and an agent beside the service, ACLs, TLS."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.integration.programs import Consul, Program, free_ports, program_path

MANAGEMENT_TOKEN = "b16c0ffe-e000-4000-8000-000000000001"


class Member(Program):
    """One agent of a cluster, at an address of its own; a server keeps what it knows in its folder."""

    def __init__(self, folder: Path, host: str, ports: Ports, *, join: Sequence[str], servers: int = 0) -> None:
        self.name = folder.name
        role = {"server": True, "bootstrap_expect": servers} if servers else {}
        config = {
            "node_name": self.name,
            "data_dir": str(folder / "data"),
            "bind_addr": host,
            "client_addr": host,
            "ports": {**ports._asdict(), "serf_wan": -1, "dns": -1, "grpc": -1},
            "retry_join": list(join),
            "retry_interval": "500ms",
            "disable_update_check": True,
            "performance": {"raft_multiplier": 2},
            # A server that lost its peers would otherwise leave them, and never elect a leader again.
            "leave_on_terminate": False,
            **role,
        }
        (folder / "agent.json").write_text(json.dumps(config))
        command: list[str | Path] = [program_path("consul"), "agent", f"-config-file={folder / 'agent.json'}"]
        super().__init__(command, ports.http, folder, host)

    def ready(self) -> bool:
        return bool(json.loads(self.get("/v1/agent/self")))

    def members(self) -> set[str]:
        """Give the names of the cluster's agents that this one takes for alive."""
        return {each["Name"] for each in json.loads(self.get("/v1/agent/members")) if each["Status"] == 1}

    def leader(self) -> str:
        """Give the RPC address of the leader, or nothing while there is none."""
        return str(json.loads(self.get("/v1/status/leader")))

    def passing(self, service: str) -> list[str]:
        """Give the ids of a service's instances whose checks pass, in this server's own copy of the catalog."""
        listed = json.loads(self.get(f"/v1/health/service/{service}", stale="", passing="1"))
        return sorted(each["Service"]["ID"] for each in listed)


class Ports(NamedTuple):
    """Where an agent listens."""

    http: int
    server: int
    serf_lan: int


class Cluster:
    """Three servers and an agent without data of its own, on 127.0.0.2 to 127.0.0.5.

    Attributes:
        servers: The servers; those that a test ended are still among them.
        agent: The agent beside the service.
    """

    def __init__(self, folder: Path) -> None:
        hosts = [f"127.0.0.{last}" for last in range(2, 6)]
        ports = [Ports(*free_ports(3, host)) for host in hosts]
        join = [f"{host}:{port.serf_lan}" for host, port in zip(hosts[:3], ports, strict=False)]
        members = []
        for name, host, port in zip(("one", "two", "three", "agent"), hosts, ports, strict=True):
            (folder / name).mkdir()
            members.append(Member(folder / name, host, port, join=join, servers=0 if name == "agent" else 3))
        self._rpc = {f"{host}:{port.server}": member for host, port, member in zip(hosts, ports, members, strict=True)}
        self.servers, self.agent = members[:3], members[3]

    def formed(self) -> bool:
        """Tell whether all know of each other and of a leader."""
        whole = {each.name for each in (*self.servers, self.agent)}
        return all(each.members() == whole and each.leader() for each in (*self.servers, self.agent))

    def leader(self, servers: Sequence[Member]) -> Member | None:
        """Give the server that leads, where these know of one and are at one about it."""
        named = {each.leader() for each in servers}
        return self._rpc.get(named.pop()) if len(named) == 1 else None


class Guarded(Consul):
    """An agent that denies whatever no token allows."""

    def __init__(self, folder: Path) -> None:
        acl = {"enabled": True, "default_policy": "deny"}
        tokens = {"master": MANAGEMENT_TOKEN, "agent": MANAGEMENT_TOKEN}
        (folder / "acl.json").write_text(json.dumps({"acl": {**acl, "tokens": tokens}}))
        super().__init__(folder, f"-config-file={folder / 'acl.json'}", token=MANAGEMENT_TOKEN)

    def grant(self, rules: str) -> Token:
        """Make a token with a policy of its own."""
        name = f"policy-{len(self._asked('GET', '/v1/acl/policies'))}"
        self._asked("PUT", "/v1/acl/policy", {"Name": name, "Rules": rules})
        made = self._asked("PUT", "/v1/acl/token", {"Policies": [{"Name": name}]})
        return Token(made["SecretID"], made["AccessorID"])

    def revoke(self, token: Token) -> None:
        """Take a token out of use."""
        self.request("DELETE", f"/v1/acl/token/{token.accessor}")

    def _asked(self, method: str, path: str, payload: object = None) -> Any:
        return json.loads(self.request(method, path, json.dumps(payload).encode() if payload else b""))


class Token(NamedTuple):
    """A token, and the name by which Consul lists it."""

    secret: str
    accessor: str


class Certificate(NamedTuple):
    """The files of a certificate and its key."""

    cert: Path
    key: Path


class Authority:
    """A certificate authority, made by Consul itself."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._consul("ca", "create")
        self.cert = folder / "consul-agent-ca.pem"

    def issue(self, kind: str) -> Certificate:
        """Give a new certificate of a kind (`server` or `client`), good for 127.0.0.1 and localhost."""
        before = set(self._folder.glob("*-key.pem"))
        self._consul("cert", "create", f"-{kind}")
        (key,) = set(self._folder.glob("*-key.pem")) - before
        return Certificate(key.with_name(key.name.replace("-key.pem", ".pem")), key)

    def _consul(self, *command: str) -> None:
        subprocess.run([program_path("consul"), "tls", *command], cwd=self._folder, check=True, capture_output=True)


class Encrypted(Consul):
    """An agent that also speaks HTTPS, there only with those who show a certificate of its authority.

    Attributes:
        https_url: Where it does.
    """

    def __init__(self, folder: Path, authority: Authority) -> None:
        (https_port,) = free_ports(1)
        own = authority.issue("server")
        config = {"ca_file": authority.cert, "cert_file": own.cert, "key_file": own.key}
        text = json.dumps(config | {"verify_incoming_https": True, "ports": {"https": https_port}}, default=str)
        (folder / "tls.json").write_text(text)
        super().__init__(folder, f"-config-file={folder / 'tls.json'}")
        self.https_url = f"https://127.0.0.1:{https_port}"
