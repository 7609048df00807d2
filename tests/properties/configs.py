"""Configs and environments of any content."""

from functools import reduce
from typing import Any, Literal, get_args, get_origin

from hypothesis import strategies as st

from stator.access.endpoints import ALL
from stator.config import Config
from stator.settings.declare import Secret, Setting, declared_fields, iter_settings, options_of
from stator.settings.duration import LONGEST, Duration
from stator.settings.types import setting_type

# What an environment can hold: no NUL, no lone surrogates.
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
WORDS = TEXTS.map(lambda text: text.replace(",", "").strip()).filter(bool)
KEYS = WORDS.map(lambda text: text.replace("=", "").strip()).filter(bool)
HEADERS = st.tuples(st.from_regex(r"[A-Za-z-]{1,8}", fullmatch=True), WORDS.filter(str.isprintable))
HEADER_LISTS = st.lists(HEADERS, max_size=2).map(lambda pairs: tuple(word for pair in pairs for word in pair))
NAMES = st.sampled_from(["", "default", "team-1"])
NETWORKS = st.lists(st.sampled_from(["10.0.0.1", "10.0.0.0/8", "fd00::/8", "::1", "unix"]), unique=True).map(tuple)
IPV4, IPV6 = st.sampled_from(["10.0.0.1:8087", "10.0.0.1"]), st.sampled_from(["[2001:db8::1]:8087", "[::1]"])
TAGS = {"lan_ipv4": IPV4, "wan_ipv4": IPV4, "lan_ipv6": IPV6, "wan_ipv6": IPV6}
# What Consul can look up, and what it keeps.
ADDRESSABLE = WORDS.map(lambda text: "".join(filter(str.isprintable, text.replace("/", ""))).strip()).filter(bool)
VALUES = TEXTS.map(lambda text: text.replace(",", "").strip())
META = st.dictionaries(st.from_regex(r"[A-Za-z0-9_]{1,8}", fullmatch=True), VALUES, max_size=4)
POSITIVE = st.floats(min_value=0, exclude_min=True, allow_infinity=False)
PAIRS = st.tuples(KEYS, VALUES)
SETTING_TYPES: dict[Any, st.SearchStrategy[Any]] = {
    bool: st.booleans(),
    int: st.integers(min_value=-(2**63), max_value=2**63 - 1),
    float: st.floats(allow_nan=False, allow_infinity=False),
    str: TEXTS,
    Duration: st.integers(min_value=0, max_value=LONGEST).map(Duration),
    tuple[str, ...]: st.lists(WORDS, max_size=4).map(tuple),
    tuple[tuple[str, str], ...]: st.lists(PAIRS, max_size=4).map(tuple),
}
PATTERNS_OF = (
    "STTR_HOST_DISKSTATS_DEVICEEXCLUDE",
    "STTR_HOST_FILESYSTEM_MOUNTPOINTSEXCLUDE",
    "STTR_HOST_FILESYSTEM_FSTYPESEXCLUDE",
    "STTR_HOST_NETCLASS_IGNOREDDEVICES",
    "STTR_HOST_NETDEV_DEVICEEXCLUDE",
    "STTR_HOST_NETSTAT_FIELDS",
    "STTR_HOST_VMSTAT_FIELDS",
)
# Settings that are bound by more than their type and constraint, and secrets, which no environment is written with.
PARTICULAR: dict[str, st.SearchStrategy[Any]] = {
    "STTR_CLIENT_BASEURI": st.sampled_from(["http://localhost:8500", "https://consul/path", "http://[::1]:1"]),
    "STTR_CLIENT_CAFILE": st.just(""),
    "STTR_CLIENT_CERTFILE": st.just(""),
    "STTR_CLIENT_KEYFILE": st.just(""),
    "STTR_CLIENT_HEADERS": HEADER_LISTS,
    "STTR_CONSUL_CHECKHEADERS": HEADER_LISTS,
    "STTR_CONSUL_NAMESPACE": NAMES,
    "STTR_CONSUL_PARTITION": NAMES,
    "STTR_ROSTER_REGISTRAR": st.sampled_from(["auto", "consul", "file", "none"]),
    "STTR_ROSTER_SERVICE_WEIGHTPASSING": st.integers(1, 65535),
    "STTR_ROSTER_SERVICE_WEIGHTWARNING": st.integers(0, 65535),
    "STTR_ROSTER_SERVICE_TAGGEDADDRESSES": st.builds(
        lambda any_tag, by_version: tuple({**any_tag, **by_version}.items()),
        st.dictionaries(KEYS, st.just("stator.example") | IPV4 | IPV6, max_size=3),
        st.fixed_dictionaries({}, optional=TAGS),
    ),
    "STTR_CLIENT_PASS": st.just(Secret()),
    "STTR_CONSUL_TOKEN": st.just(Secret()),
    "STTR_ROSTER_SERVICE_ID": ADDRESSABLE | st.just(""),
    "STTR_ROSTER_SERVICE_NAME": ADDRESSABLE,
    "STTR_ROSTER_SERVICE_META": META.map(lambda pairs: tuple(pairs.items())),
    "STTR_ROSTER_SERVICE_IPADDRESS": st.sampled_from(["lookup", "127.0.0.1", "::1", "stator.example"]),
    "STTR_ROSTER_SERVICE_MONITORSPEC": st.sampled_from(["http://%s:%d/monitor", "https://%s:%d/a b?c=d,e"]),
    "STTR_FILE_PATH": st.just("/tmp/stator.json"),
    "STTR_PLUGINS_PATH": st.just(""),
    "STTR_HOST_COLLECTORS": st.lists(st.sampled_from(["cpu", "loadavg", "stat"]), unique=True).map(tuple),
    **dict.fromkeys(PATTERNS_OF, st.sampled_from(["", "^(a|b,c)$", r"\d+ "])),
    "STTR_CHILD_HEALTH": st.sampled_from(["", "tcp://db:5432", "http://web/up", "exec:df", "shop.q:ping"]),
    "STTR_CHILD_STOPSIGNAL": st.sampled_from(["TERM", "QUIT", "SIGINT", "RTMIN"]),
    "STTR_MONITOR_CHECKS": st.lists(
        st.sampled_from([("db", "tcp://db:5432"), ("web", "http://web/up"), ("disk", "exec:df"), ("q", "shop.q:ping")]),
        unique=True,
    ).map(tuple),
    "STTR_SCRAPE_TARGETS": st.lists(
        st.sampled_from(["http://db:9187", "shop=https://shop/metrics", "http://[::1]:1/probe?target=a=b&x"]),
        unique=True,
    ).map(tuple),
    "STTR_SCRAPE_CONFIGFILE": st.just(""),
    "STTR_SERVER_CERTFILE": st.just(""),
    "STTR_SERVER_KEYFILE": st.just(""),
    "STTR_SERVER_CLIENTCAFILE": st.just(""),
    "STTR_SERVER_CLIENTNAMES": st.just(()),
    "STTR_SERVER_USERSFILE": st.just(""),
    "STTR_SERVER_WEBCONFIG": st.just(""),
    "STTR_SERVER_TOKENSFILE": st.just(""),
    **dict.fromkeys(("STTR_SERVER_ALLOW", "STTR_SERVER_TRUSTEDPROXIES"), NETWORKS),
    "STTR_SERVER_OPENPATHS": st.lists(st.sampled_from(["/monitor", "/monitor/*", "/"]), unique=True).map(tuple),
    "STTR_SERVER_ENDPOINTS": st.lists(st.sampled_from(ALL), unique=True, min_size=1).map(tuple),
    "STTR_LOGGER_QUIETPATHS": st.lists(st.sampled_from(["/metrics", "/monitor/*", "/*"])).map(tuple),
    "STTR_METRICS_BUCKETS": st.lists(POSITIVE, min_size=1, max_size=4, unique=True).map(
        lambda each: tuple(sorted(each))
    ),
    "STTR_METRICS_GROUP": NAMES,
    "STTR_COLLECTORS": st.lists(st.sampled_from(["runtime", "diskusage", "wave"])).map(tuple),
}


def _values(setting: Setting) -> st.SearchStrategy[Any]:
    if setting.name in PARTICULAR:
        return PARTICULAR[setting.name]
    if get_origin(setting.type) is Literal:
        return st.sampled_from(get_args(setting.type))
    if setting.check and setting.type is int:
        return st.integers(1, 65535)
    values = SETTING_TYPES[setting.type]
    return values.filter(setting.check.holds) if setting.check else values


def _configs(config: Any, settings: dict[tuple[str, ...], Setting], path: tuple[str, ...]) -> st.SearchStrategy[Any]:
    fields = {}
    for attribute in declared_fields(config):
        here = (*path, attribute.name)
        is_section = options_of(attribute).is_section
        fields[attribute.name] = _configs(attribute.type, settings, here) if is_section else _values(settings[here])
    return st.builds(config, **fields)


def configs() -> st.SearchStrategy[Config]:
    """Configs that an environment without secrets gives."""
    strategy: st.SearchStrategy[Config] = _configs(
        Config, {each.path: each for each in iter_settings(Config, "STTR")}, ()
    )
    return strategy


def environments() -> st.SearchStrategy[dict[str, str]]:
    """Any texts at all for some of the settings."""
    names = [each.name for each in iter_settings(Config, "STTR")]
    likely = st.sampled_from(
        ["", "0", "1", "-1", "5s", "true", "auto", "file", "wave", "a,b", "a=b", "%", "%s", "http://"]
    )
    return st.dictionaries(st.sampled_from(names), likely | TEXTS)


def written(config: Config) -> dict[str, str]:
    """The variables that give a Config without secrets."""
    return {
        each.name: setting_type(each.type).write(reduce(getattr, each.path, config))
        for each in iter_settings(Config, "STTR")
        if not each.secret
    }
