"""An environment with a secret in every place where one can be, and a Consul whose error pages quote the request."""

import html
import json
from pathlib import Path
from urllib.parse import quote

from stator.config import Config
from stator.settings.declare import iter_settings
from tests.fakes import Agent, Request

MASK = "--redacted--"
# Settings of texts that hold none: names, paths and patterns.
WITHOUT_SECRETS = {
    "STTR_CHILD_STOPSIGNAL",
    "STTR_CLIENT_CAFILE",
    "STTR_CLIENT_CERTFILE",
    "STTR_CLIENT_KEYFILE",
    "STTR_CLIENT_REDACTHEADERS",
    "STTR_CLIENT_USER",
    "STTR_COLLECTORS",
    "STTR_CONSUL_NAMESPACE",
    "STTR_CONSUL_PARTITION",
    "STTR_DISKUSAGE_PATHS",
    "STTR_FILE_PATH",
    "STTR_HOST_COLLECTORS",
    "STTR_HOST_DISKSTATS_DEVICEEXCLUDE",
    "STTR_HOST_FILESYSTEM_FSTYPESEXCLUDE",
    "STTR_HOST_FILESYSTEM_MOUNTPOINTSEXCLUDE",
    "STTR_HOST_NETCLASS_IGNOREDDEVICES",
    "STTR_HOST_NETDEV_DEVICEEXCLUDE",
    "STTR_HOST_NETSTAT_FIELDS",
    "STTR_HOST_PROCFS",
    "STTR_HOST_ROOTFS",
    "STTR_HOST_SYSFS",
    "STTR_HOST_UDEV",
    "STTR_HOST_VMSTAT_FIELDS",
    "STTR_LOGGER_QUIETPATHS",
    "STTR_METRICS_BUCKETS",
    "STTR_METRICS_GROUP",
    "STTR_PLUGINS_PATH",
    "STTR_ROSTER_REGISTRAR",
    "STTR_ROSTER_SERVICE_ID",
    "STTR_ROSTER_SERVICE_IPADDRESS",
    "STTR_ROSTER_SERVICE_NAME",
    "STTR_ROSTER_SERVICE_TAGGEDADDRESSES",
    "STTR_SCRAPE_CONFIGFILE",
    "STTR_SERVER_ALLOW",
    "STTR_SERVER_CERTFILE",
    "STTR_SERVER_CLIENTCAFILE",
    "STTR_SERVER_CLIENTNAMES",
    "STTR_SERVER_ENDPOINTS",
    "STTR_SERVER_HOST",
    "STTR_SERVER_KEYFILE",
    "STTR_SERVER_OPENPATHS",
    "STTR_SERVER_TOKENSFILE",
    "STTR_SERVER_TRUSTEDPROXIES",
    "STTR_SERVER_USERSFILE",
    "STTR_SERVER_WEBCONFIG",
    "STTR_TEXTFILE_PATHS",
}
NAMES_OF_CODE = {"STTR_PLUGINS_PATH", "STTR_ROSTER_REGISTRAR"}
# A URI with a user is refused here: `mistaken` has it.
REFUSED = {"STTR_CLIENT_BASEURI"}


class Places:
    """Places where secrets are, and the secrets: each is written in no two ways alike, and has a core that is.

    Attributes:
        cores: The part of each secret that no way to write it changes, by place.
    """

    def __init__(self) -> None:
        self.cores: dict[str, str] = {}

    def secret(self, place: str) -> str:
        """Returns the secret of a place, with letters that JSON, HTML, URIs and headers write in ways of their own."""
        return f"\"\\{self.plain(place)}<&ü'"

    def plain(self, place: str) -> str:
        """Returns the secret of a place as letters and digits."""
        return self.cores.setdefault(place, f"geheim{len(self.cores):03}x")

    def uri(self, place: str, host: str, path: str = "") -> str:
        """Returns a URI with three of them."""
        user, query, token = (self.plain(f"{place}, {part}") for part in ("user", "query", "token"))
        return f"https://me:{user}@{host}{path}?key={query}&{token}&collect[]=wave"

    def environment(self, folder: Path | None = None) -> dict[str, str]:
        """Returns variables; secrets come from files where there is a folder."""
        variables = {"STTR_CLIENT_USER": "me"}
        for each in iter_settings(Config, "STTR"):
            if each.secret and folder:
                file = folder / each.name
                file.write_text(self.secret(each.name))
                variables[f"{each.name}_FILE"] = str(file)
            elif each.secret:
                variables[each.name] = self.secret(each.name)
            elif each.name == "STTR_CHILD_HEALTH":
                variables[each.name] = f"exec:true {self.plain(f'{each.name}, argument')}"
            elif each.name == "STTR_MONITOR_CHECKS":
                variables[each.name] = f"disk=exec:true {self.plain(f'{each.name}, argument')}"
            elif each.name == "STTR_SCRAPE_TARGETS":
                # One with a user is refused.
                query = f"key={self.plain(f'{each.name}, query')}&{self.plain(f'{each.name}, token')}"
                variables[each.name] = f"http://127.0.0.1:9/a?{query},b=http://127.0.0.1:9/b?{query}"
            elif each.hidden:
                pairs = ("X-Key", self.secret(f"{each.name}, X-Key"), "Cookie", self.plain(f"{each.name}, Cookie"))
                variables[each.name] = ",".join((*pairs, "Accept-Language", "klingon"))
            elif each.name == "STTR_ROSTER_SERVICE_MONITORSPEC":
                variables[each.name] = self.uri(each.name, "%s:%d", "/monitor").replace("https", "http")
            elif each.type == tuple[tuple[str, str], ...] and each.name not in WITHOUT_SECRETS:
                variables[each.name] = f"docs={self.uri(each.name, 'docs')}"
            elif each.type == tuple[str, ...] and each.name not in WITHOUT_SECRETS:
                variables[each.name] = f"docs,{self.uri(each.name, 'docs')}"
            elif each.type is str:
                known = each.name in WITHOUT_SECRETS | REFUSED
                assert known, f"{each.name} is new: say in tests/secret_places.py whether it can hold a secret"
        return variables

    def mistaken(self) -> dict[str, str]:
        """Returns variables that are wrong, with secrets; not those that name code, which is loaded by that name."""
        variables = {}
        for each in iter_settings(Config, "STTR"):
            if each.secret:
                variables[each.name] = self.secret(each.name)
                variables[f"{each.name}_FILE"] = self.plain(f"{each.name}, in place of a path")
            elif each.hidden:
                variables[each.name] = f"X-Key,{self.secret(f'{each.name}, X-Key')},Odd"
            elif each.type in (str, tuple[tuple[str, str], ...]) and each.name not in NAMES_OF_CODE:
                variables[each.name] = self.uri(each.name, "a/../b", "(").removeprefix("https://")
        return variables

    def holds_none(self, **outputs: str) -> None:
        """Asserts that no secret is in any of these texts."""
        found = {
            f"{place}, in {where}: {text[max(0, text.find(core) - 300) : text.find(core) + 50]!r}"
            for where, text in outputs.items()
            for place, core in self.cores.items()
            if core in text
        }
        if found:
            raise AssertionError("\n".join(sorted(found)))


class EchoingAgent(Agent):
    """Answers with error pages that quote the request in all ways that error pages do, while `is_failing`."""

    is_failing = True

    def answer(self, request: Request) -> tuple[int, bytes]:
        if not self.is_failing:
            return super().answer(request)
        headers, body = dict(request.headers), request.body.decode()
        text = "\n".join([request.path, *headers.values(), body])
        # Some of it comes early enough for the errors that quote only the beginning of a body.
        token = headers.get("X-Consul-Token", "")
        pages = [f"{token} {json.dumps(headers)}", repr(headers), html.escape(text), quote(text), text]
        pages.append(json.dumps({"error": text}, ensure_ascii=False))
        page = "\n".join(pages[len(self.requests) % len(pages) :] + pages[: len(self.requests) % len(pages)])
        # 200 with what is no JSON is another error than 500.
        return (200 if request.method == "GET" else 500), page.encode()
