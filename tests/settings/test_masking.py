"""Secrets are masked by the form of a URI, and by their values, however a peer writes them."""

import ast
import base64
import html
import json
import re
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from attrs import frozen

from stator.settings.declare import Secret, section, setting
from stator.settings.masking import KnownSecrets, mask_setting, mask_uris, secrets_of

MASK = "--redacted--"


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("no URI at all: a?b=c", "no URI at all: a?b=c"),
        ("see http://consul:8500/v1/agent, please", "see http://consul:8500/v1/agent, please"),
        ("amqp://me:pw@queue is away", f"amqp://{MASK}@queue is away"),
        ("amqp://me:p@w@queue", f"amqp://{MASK}@queue"),
        ("amqp://me:p/w?x#y@queue", f"amqp://{MASK}@queue"),
        (
            "['http://a?b=c']: refused (http://a?b=c), again",
            f"['http://a?b={MASK}']: refused (http://a?b={MASK}), again",
        ),
        ("http://token@consul", f"http://{MASK}@consul"),
        ("http://a/b?c=d&e=&f", f"http://a/b?c={MASK}&e=&{MASK}"),
        ("http://a?collect[]=wave&exclude%5B%5D=x&y=z", f"http://a?collect[]=wave&exclude%5B%5D=x&y={MASK}"),
        ("http://a/#part http://a/#token=b", f"http://a/#part http://a/#token={MASK}"),
        ('{"a":"http://b?c=d","e":"f"}', f'{{"a":"http://b?c={MASK}","e":"f"}}'),
        ('<a href="http://u:p@b">http://u:p@b</a>', f'<a href="http://{MASK}@b">http://{MASK}@b</a>'),
    ],
)
def test_users_and_query_values_of_uris_are_masked_in_any_text(text: str, masked: str) -> None:
    assert mask_uris(text) == mask_uris(masked) == masked


def test_a_long_text_of_nothing_but_uris_is_masked_too() -> None:
    # In a time that grows with its length: with the square of it, this would take minutes.
    assert mask_uris("://" * 100_000) == "://" * 100_000
    assert mask_uris("http://a?b=c&" * 50_000).count("=c") == 0


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("http://me:p w@consul", f"http://{MASK}@consul"),
        ("me:pw@consul:8500", f"{MASK}@consul:8500"),
        ("http:/me:pw@consul", f"{MASK}@consul"),
        ("consul?token=pw&a=b", f"consul?token={MASK}&a={MASK}"),
        ("http://consul?pw", f"http://consul?{MASK}"),
        ("perhaps", "perhaps"),
    ],
)
def test_of_a_wrong_uri_all_is_masked_that_may_be_a_secret(text: str, masked: str) -> None:
    assert mask_setting(text) == masked


@pytest.mark.parametrize("secret", ["hunter2", 'h"u\\n<t>&e r/2ü', "it's + 100%😀", "ä-ö-ü-ß"])
def test_a_known_secret_is_masked_however_it_is_written(secret: str) -> None:
    mask = KnownSecrets([Secret(secret)], user="me").mask
    written = [
        secret,
        repr(secret),
        json.dumps({"a": secret}),
        json.dumps({"a": secret}, ensure_ascii=False),
        json.dumps(secret).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"),
        html.escape(secret),
        html.escape(secret).replace("&quot;", "&#34;").replace("&#x27;", "&#39;"),
        quote(secret),
        quote(secret, safe="").lower() if secret.isascii() else quote(secret, safe=""),
        quote_plus(secret),
        secret.encode().decode("latin-1"),
        quote(json.dumps({"a": secret})),
        json.dumps({"a": json.dumps({"a": json.dumps(secret)})}),
        html.escape(json.dumps({"a": secret})),
        json.dumps(html.escape(secret)),
        json.dumps(secret.encode().decode("latin-1")),
        quote(secret.encode().decode("latin-1")),
        quote(quote(secret)),
        html.escape(html.escape(secret)),
        repr(secret.encode()),
        "Basic " + base64.b64encode(f"me:{secret}".encode()).decode(),
    ]
    for text in written:
        assert MASK in mask(f"before {text} after")
        for part in ("hunter", "unt", "100", "-ö-", "/2"):
            assert part not in mask(text), text
    assert mask("before and after") == "before and after"


def test_a_text_of_nothing_but_backslashes_is_searched_too() -> None:
    # Not in all the ways in which many backslashes can stand for few: that would take hours.
    mask = KnownSecrets([Secret("\\" * 20 + '""x')]).mask
    assert mask("\\" * 50_000 + "x") == "\\" * 50_000 + "x"
    assert mask("\\" * 20 + '""x') == MASK


def test_white_space_around_a_secret_does_not_hide_it() -> None:
    assert KnownSecrets([Secret(" hunter2 ")]).mask("X-Token:hunter2") == f"X-Token:{MASK}"


@pytest.mark.parametrize("secret", ["", "abc", "true"])
def test_what_would_turn_up_by_chance_is_not_masked_elsewhere(secret: str) -> None:
    assert KnownSecrets([Secret(secret)]).mask("abc true") == "abc true"


def test_the_longer_of_two_secrets_is_masked_whole() -> None:
    assert KnownSecrets([Secret("hunter"), Secret("hunter22")]).mask("hunter22 hunter") == f"{MASK} {MASK}"


def test_a_secret_in_a_file_is_masked_as_it_is_and_as_it_was(tmp_path: Path) -> None:
    now, file = 0.0, tmp_path / "token"
    file.write_text("first-1\n")
    secret = Secret.from_file(file)
    known = KnownSecrets([secret], clock=lambda: now)
    file.write_text("second-2\n")
    assert secret.reveal() == "second-2"
    assert known.mask("first-1 second-2") == f"{MASK} {MASK}"
    file.write_text("third-3\n")
    now = 2.0  # although nobody has sent it yet
    assert known.mask("first-1 second-2 third-3") == f"{MASK} {MASK} {MASK}"


@frozen
class Inner:
    uri: str = setting("", desc="a URI")


@frozen
class Outer:
    token: Secret = setting(Secret(), desc="a secret")
    pairs: tuple[str, ...] = setting((), desc="some are secret", show=lambda _, words: words[:1])
    inner: Inner = section(Inner)


def test_all_that_a_config_hides_is_known() -> None:
    config = Outer(Secret("s1"), ("open", "s2"), Inner("https://me:s%403@%s:%d/?collect[]=a&key=s+4&s5&b=%%61"))
    assert {"s1", "s2", "s@3", "s%403", "s 4", "s+4", "s5", "a"} <= {each.latest for each in secrets_of(config)}
    assert "open" not in {each.latest for each in secrets_of(config)}


def test_what_a_config_hides_is_not_in_its_repr() -> None:
    config = Outer(Secret("s1"), ("open", "s2"))
    assert repr(config) == f"Outer(token={MASK}, pairs={MASK}, inner=Inner(uri=''))"


def test_no_pattern_has_what_early_releases_of_python_3_11_match_wrongly() -> None:
    # https://github.com/python/cpython/issues/101955: possessive quantifiers and atomic groups
    early = re.compile(r"(?<!\\)[*+?}]\+|\(\?>")
    in_brackets = re.compile(r"\[[^]]*\]")
    for file in (Path(__file__).parents[2] / "stator").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert not early.search(in_brackets.sub("x", node.value)), f"{file}:{node.lineno}"
