"""Metrics of targets that answer well, badly, slowly or not at all."""

import gzip
import socket
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from stator.collectors.scrape import ScrapeConfig, ScrapedTargets
from stator.exporter import Exporter, MetricsConfig, ScrapeRequest
from stator.exposition.encoder import Encoder
from stator.exposition.format import Format
from stator.exposition.openmetrics import OPENMETRICS
from stator.exposition.text import TEXT_0_0_4, TEXT_1_0_0_UTF8
from stator.points import CollectorContext, Point, PointsAt
from stator.settings.duration import Duration
from tests.captured_log import CapturedLog
from tests.collectors.contexts import context
from tests.exposition.exposing import exposed
from tests.fakes import OK, Agent, MisbehavingServer, drips, floods, hangs, says

MIB = 1 << 20
TEXT = OK + b"Content-Type: text/plain; version=0.0.4\r\n"
OPENMETRICS_TYPE = {"Content-Type": "application/openmetrics-text; version=1.0.0"}


@pytest.fixture
def story(tmp_path: Path) -> Iterator[CapturedLog]:
    with CapturedLog(tmp_path / "log") as story:
        yield story


Collects = Callable[..., ScrapedTargets]


@pytest.fixture
def scrape(story: CapturedLog) -> Iterator[Collects]:
    """Builds collectors of targets, beside other collectors; they are closed in the end."""
    collectors: list[ScrapedTargets] = []

    def build(
        *targets: str, beside: tuple[str, ...] = (), timeout: str = "2s", config_file: object = ""
    ) -> ScrapedTargets:
        config = ScrapeConfig(targets, Duration.parse(timeout), str(config_file))
        about = context(log=story.log)
        about = CollectorContext(about.app_id, about.run_id, None, story.log, ("scrape", *beside))
        collectors.append(config.build(about))
        return collectors[-1]

    yield build
    for collector in collectors:
        collector.close()


def own_lines(collector: ScrapedTargets, format_: Format = TEXT_0_0_4) -> str:
    """What is exposed of the targets, without descriptions."""
    points = [point for point in collector.collect(0.0).points if not point.name.startswith("stator_")]
    lines = exposed(PointsAt("", 0.0, points=points), format_=format_).splitlines(keepends=True)
    return "".join(line for line in lines if line.strip() and not line.startswith("# HELP"))


def successes(collector: ScrapedTargets) -> dict[str, Any]:
    """Whether each target could be scraped."""
    points = collector.collect(0.0).points
    return {dict(each.labels)["target"]: each.value for each in points if each.name == "stator_scrape_success"}


def reason(collector: ScrapedTargets, story: CapturedLog) -> str:
    """Why the only target can't be scraped."""
    assert [*successes(collector).values()] == [0]
    (line,) = story.lines_with("failed to scrape a target")
    return str(line["reason"])


def test_a_bare_target_is_exposed_under_its_own_names(scrape: Collects) -> None:
    text = '# TYPE jobs_total counter\njobs_total{queue="a"} 1\n# TYPE depth gauge\ndepth NaN\nfree 3\n'
    with Agent(body=text.encode()) as target:
        assert own_lines(scrape(target.uri)) == text.replace("free", "# TYPE free untyped\nfree")


def test_a_named_target_has_its_name_as_a_label_of_each_sample(scrape: Collects) -> None:
    text = '# TYPE w histogram\nw_bucket{le="1"} 1\nw_bucket{le="+Inf"} 2\nw_sum 3\nw_count 2\nup{a="b"} 1\n'
    with Agent(body=text.encode()) as target:
        assert own_lines(scrape(f"shop={target.uri}/metrics")) == (
            '# TYPE w histogram\nw_bucket{target="shop",le="1"} 1\nw_bucket{target="shop",le="+Inf"} 2\n'
            'w_sum{target="shop"} 3\nw_count{target="shop"} 2\n# TYPE up untyped\nup{target="shop",a="b"} 1\n'
        )


def test_a_targets_own_label_target_is_renamed_as_prometheus_does(scrape: Collects) -> None:
    text = b'probe{target="db"} 1\nodd{target="db",exported_target="x"} 2\n'
    with Agent(body=text) as target:
        lines = own_lines(scrape(f"box={target.uri}"))
    assert 'probe{target="box",exported_target="db"} 1' in lines
    assert 'odd{target="box",exported_target="x",exported_exported_target="db"} 2' in lines


def test_families_of_the_same_name_become_one(scrape: Collects) -> None:
    with Agent(body=b"# TYPE go gauge\ngo 1\n") as one, Agent(body=b"# TYPE go gauge\ngo 2\n") as two:
        lines = own_lines(scrape(f"one={one.uri}", f"two={two.uri}"))
    assert lines == '# TYPE go gauge\ngo{target="one"} 1\ngo{target="two"} 2\n'


def test_openmetrics_comes_with_units_and_exemplars(scrape: Collects) -> None:
    text = (
        '# TYPE jobs counter\n# HELP jobs Jobs\njobs_total 3 # {trace_id="7"} 1.0 5.5\njobs_created 2\n'
        "# TYPE wait_seconds gauge\n# UNIT wait_seconds seconds\nwait_seconds 0.5\n"
        '# TYPE b info\nb_info{v="1"} 1\n# EOF\n'
    )
    with Agent(body=text.encode(), headers=OPENMETRICS_TYPE) as target:
        openmetrics, plain = own_lines(scrape(target.uri), OPENMETRICS), own_lines(scrape(target.uri))
        accept = target.requests[0].headers["Accept"]
    assert 'jobs_total 3 # {trace_id="7"} 1.0 5.5' in openmetrics
    assert "# UNIT wait_seconds seconds\nwait_seconds 0.5" in openmetrics
    assert '# TYPE b info\nb_info{v="1"} 1' in openmetrics
    assert "# TYPE jobs_total counter\njobs_total 3\n" in plain
    assert {each.partition(";")[0] for each in accept.split(",")} >= {"text/plain", "application/openmetrics-text"}


def test_a_family_with_an_exemplar_that_is_none_is_left_out_alone(scrape: Collects, story: CapturedLog) -> None:
    text = "# TYPE a counter\na_total 1 # {} NaN\n# TYPE b counter\nb_total 1\n# EOF\n"
    with Agent(body=text.encode(), headers=OPENMETRICS_TYPE) as target:
        assert own_lines(scrape(f"shop={target.uri}")) == '# TYPE b_total counter\nb_total{target="shop"} 1\n'
    (line,) = story.lines_with("left out families of a target")
    assert line["reason"].startswith("a_total: an exemplar's value and time must be numbers")


def test_names_beyond_the_legacy_character_set_are_read(scrape: Collects) -> None:
    text = b'# TYPE "jobs.total" counter\n{"jobs.total","q.name"="a"} 1\n'
    with Agent(body=text, headers={"Content-Type": "text/plain; version=1.0.0; escaping=allow-utf-8"}) as target:
        collector = scrape(f"shop={target.uri}")
        assert own_lines(collector, TEXT_1_0_0_UTF8).endswith('{"jobs.total",target="shop","q.name"="a"} 1\n')
        assert own_lines(collector).endswith('jobs_total{target="shop",q_name="a"} 1\n')


def test_timestamps_are_not_kept(scrape: Collects) -> None:
    with Agent(body=b"up 1 1700000000000\n") as target:
        assert own_lines(scrape(target.uri)) == "# TYPE up untyped\nup 1\n"


def test_an_answer_may_be_compressed(scrape: Collects) -> None:
    with Agent(body=gzip.compress(b"up 1\n"), headers={"Content-Encoding": "gzip"}) as target:
        assert own_lines(scrape(target.uri)) == "# TYPE up untyped\nup 1\n"
        assert target.requests[0].headers["Accept-Encoding"] == "gzip"


def test_a_uri_without_a_path_means_metrics_and_a_query_is_sent(scrape: Collects) -> None:
    with Agent(body=b"up 1\n") as target:
        scrape(target.uri, f"a={target.uri}/", f"b={target.uri}/probe?target=x%2Cy&ü").collect(0.0)
        assert {request.path for request in target.requests} == {"/metrics", "/", "/probe?target=x%2Cy&%C3%BC"}


def test_a_label_of_a_uri_shows_no_secret(scrape: Collects) -> None:
    with Agent(body=b"up 1\n") as target:
        (label,) = successes(scrape(f"{target.uri}/m?key=geheim"))
    assert label == f"{target.uri}/m?key=--redacted--"


def test_a_target_is_told_how_long_it_may_take(scrape: Collects) -> None:
    with Agent(body=b"up 1\n") as target:
        scrape(target.uri, timeout="1s").collect(0.0)
        assert 0 < float(target.requests[0].headers["X-Prometheus-Scrape-Timeout-Seconds"]) < 1


@pytest.mark.parametrize(
    ("collectors", "is_left_out"), [(("process",), True), (("child",), True), (("wave",), False), ((), False)]
)
def test_process_families_of_a_bare_target_give_way(
    scrape: Collects, collectors: tuple[str, ...], *, is_left_out: bool
) -> None:
    with Agent(body=b"process_open_fds 1\nother 1\n") as target:
        collector = scrape(target.uri, f"shop={target.uri}", beside=collectors)
        names = {line.partition(" ")[0] for line in own_lines(collector).splitlines() if line[0] != "#"}
    bare = {"process_open_fds"} - ({"process_open_fds"} if is_left_out else set())
    assert names == {'process_open_fds{target="shop"}', "other", 'other{target="shop"}', *bare}


@pytest.mark.parametrize(
    ("act", "expected"),
    [
        (hangs, "timed out"),
        (drips(b"x", start=TEXT + b"Content-Length: 99\r\n\r\n"), "timed out"),
        (says(b""), "closed connection without response"),
        (says(TEXT + b"Content-Length: 99\r\n\r\nup 1\n"), "94 more expected"),
        (says(TEXT + b"\r\nup 1\nbroken of"), "its last line has no end: is it still being written?"),
        (says(b"\x16\x03\x01 no http\r\n\r\n"), "not an HTTP answer"),
        (says(TEXT + b"\r\n<html>\n"), "line 1 is not in Prometheus' text format: invalid metric name:<html>"),
        (says(TEXT + b"\r\nup 1\n\xff 1\n"), "it's not UTF-8"),
        (says(TEXT + b'\r\nup 1\n{"json": 1}\n'), "line 2 is not in Prometheus' text format"),
        (says(OK + b"Content-Type: application/openmetrics-text\r\n\r\nup 1\n"), "not in OpenMetrics: Missing # EOF"),
        (
            says(OK + b"Content-Type: application/openmetrics-text\r\n\r\nup %s\n# EOF\n" % (b"9" * 400)),
            "up has a number that is larger than any that Prometheus reads",
        ),
        (says(TEXT + b'\r\na{b="' + b'\\"' * 800_000 + b'"} 1\n'), "a line has more than 65,536 characters"),
        (says(TEXT + b"Content-Encoding: gzip\r\n\r\nup 1\n"), "can't be decompressed"),
        (says(TEXT + b"Content-Encoding: br\r\n\r\nup 1\n"), "an encoding that was not asked for: br"),
        (says(TEXT + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b"up 1\n")[:-9]), "ends before its compressed"),
        (
            says(TEXT + b"Content-Encoding: gzip\r\n\r\n" + 2 * gzip.compress(b"up 1\n")),
            "goes on after its compressed data",
        ),
        (says(b"HTTP/1.1 500 Oh\r\nContent-Length: 5\r\n\r\nup 1\n"), "it answered with status 500"),
        (
            says(b"HTTP/1.1 301 Moved\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 5\r\n\r\nup 1\n"),
            "it answered with status 301; redirects are not followed",
        ),
        (says(TEXT + b"Content-Length: 50000000\r\n\r\nup 1\n"), "longer than 16777216 bytes"),
        (floods(b"up 1\n" * 10_000, start=TEXT + b"\r\n"), "longer than 16777216 bytes"),
        (says(TEXT + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(bytes(50 * MIB))), "longer than 16777216 bytes"),
    ],
)
def test_a_target_that_answers_badly_fails_alone(scrape: Collects, story: CapturedLog, act: Any, expected: str) -> None:
    with MisbehavingServer(act) as bad, Agent(body=b"up 1\n") as good:
        collector = scrape(f"bad={bad.uri}", good.uri, timeout="2s")
        assert own_lines(collector) == "# TYPE up untyped\nup 1\n"
        assert successes(collector) == {"bad": 0, good.uri: 1}
    (line,) = story.lines_with("failed to scrape a target")  # the second time is no news
    assert line["target"] == "bad"
    assert expected in line["reason"]


def test_all_targets_are_asked_at_the_same_time(scrape: Collects) -> None:
    together = threading.Barrier(3)

    def waits_for_the_others(peer: socket.socket, _ended: threading.Event) -> None:
        together.wait(60)
        peer.sendall(TEXT + b"\r\nup 1\n")

    with ExitStack() as running:
        targets = [running.enter_context(MisbehavingServer(waits_for_the_others)) for _ in range(3)]
        names = [f"{nth}={target.uri}" for nth, target in enumerate(targets)]
        assert successes(scrape(*names, timeout="50s")) == {"0": 1, "1": 1, "2": 1}


def test_a_target_that_is_back_is_scraped_again(scrape: Collects, story: CapturedLog) -> None:
    with Agent(status=500) as target:
        collector = scrape(f"shop={target.uri}")
        assert successes(collector) == {"shop": 0}
        target.status, target.body = 200, b"up 1\n"
        assert successes(collector) == {"shop": 1}
    assert [line["target"] for line in story.lines_with("scrapes a target again")] == ["shop"]


def test_a_connection_is_used_for_the_next_scrape(scrape: Collects) -> None:
    with Agent(body=b"up 1\n") as target:
        collector = scrape(target.uri)
        collector.collect(0.0)
        collector.collect(0.0)
        assert (len(target.requests), target.connections) == (2, 1)


def test_a_family_that_conflicts_with_an_earlier_targets_is_left_out_alone(
    scrape: Collects, story: CapturedLog
) -> None:
    one = b"# TYPE a counter\na_total 1\nsame 1\n# TYPE s gauge\ns 1\nok_one 1\n"
    two = b"# TYPE a gauge\na 1\na_total 2\nsame 2\nstator_scrape_success 1\n# TYPE s counter\ns 1\nok_two 1\n"
    with Agent(body=one) as first, Agent(body=two) as second:
        collector = scrape(first.uri, second.uri)
        for _ in range(3):
            lines = own_lines(collector)
            assert successes(collector) == {first.uri: 1, second.uri: 1}
        samples = [line for line in lines.splitlines() if line[0] != "#"]
        assert samples == ["a_total 1", "same 1", "s 1", "ok_one 1", "a 1", "ok_two 1"]
        (line,) = story.lines_with("left out families of a target")
        assert line["target"] == second.uri
        assert "same appears twice; " in line["reason"]
        assert line["reason"].endswith("; and 1 more")
        second.body = b"ok_two 1\n"
        collector.collect(0.0)
    assert story.lines_with("exposes all families of a target again")


def test_what_conflicts_with_another_collector_is_left_out(scrape: Collects, story: CapturedLog) -> None:
    class Own:
        def collect(self, now: float) -> Iterator[Point]:
            yield Point("mine", "", 1, type="gauge")

    text = b'# TYPE mine counter\nmine 2\n# TYPE stator_build_info counter\nstator_build_info{of="them"} 3\ngood 4\n'
    with Agent(body=text) as target:
        exporter = Exporter({"scrape": scrape(target.uri), "own": Own()}, MetricsConfig(), (), story.log)
        for _ in range(2):
            answer = exporter.scrape(ScrapeRequest(Encoder(TEXT_0_0_4, timestamps=False))).body.decode()
            assert "# TYPE mine gauge\nmine 1\n" in answer
            assert "good 4\n" in answer
            assert "stator_build_info 1\n" in answer
            assert "them" not in answer
            assert 'stator_collector_success{collector="scrape"} 0\n' in answer
            assert 'stator_collector_success{collector="own"} 1\n' in answer
    (line,) = story.lines_with("failed to collect")
    assert (line["collector"], line["level"]) == ("scrape", "error")


def test_a_hanging_target_takes_no_more_than_the_scrape_has(scrape: Collects, story: CapturedLog) -> None:
    request = ScrapeRequest(Encoder(TEXT_0_0_4, timestamps=False), timeout=0.8)
    with MisbehavingServer(hangs) as bad, Agent(body=b"up 1\n") as good:
        exporter = Exporter(
            {"scrape": scrape(f"bad={bad.uri}", good.uri, timeout="1m")}, MetricsConfig(), (), story.log
        )
        answer = exporter.scrape(request).body.decode()
    assert 'stator_scrape_success{target="bad"} 0\n' in answer
    assert "\nup 1\n" in answer
    assert 'stator_collector_success{collector="scrape"} 1\n' in answer


def options(folder: Path, text: str) -> Path:
    file = folder / "targets.toml"
    beside = folder / "new.toml"
    beside.write_text(text)
    beside.rename(file)
    return file


def test_credentials_come_from_a_file_that_is_read_again(scrape: Collects, story: CapturedLog, tmp_path: Path) -> None:
    with Agent(body=b"up 1\n") as target:
        (tmp_path / "token").write_text("geheim-1\n")
        file = options(
            tmp_path,
            '[shop]\nbasic_auth = {username = "me", password = "pä"}\n'
            f'["{target.uri}".authorization]\ncredentials_file = "token"\n',
        )
        collector = scrape(f"shop={target.uri}", target.uri, config_file=file)

        def sent() -> set[str | None]:
            target.requests.clear()
            collector.collect(0.0)
            return {request.headers["Authorization"] for request in target.requests}

        basic = b64encode("me:pä".encode()).decode()
        assert sent() == {f"Basic {basic}", "Bearer geheim-1"}
        (tmp_path / "token").write_text("geheim-2")
        assert sent() == {f"Basic {basic}", "Bearer geheim-2"}
        options(tmp_path, '[shop]\nauthorization = {type = "Token", credentials = "geheim-3"}\n')
        assert sent() == {"Token geheim-3", None}
        options(tmp_path, '[shop]\nauthorization = {credentials = "geheim-4"')
        assert sent() == {"Token geheim-3", None}
        (line,) = story.lines_with("failed to read the targets' options")
        assert (line["file"], line["reason"]) == (str(file), "it's not TOML (at end of document)")
        options(tmp_path, "")
        assert sent() == {None}
        file.unlink()
        assert sent() == {None}
    assert "geheim" not in story.text


def test_a_target_that_echoes_its_credentials_gives_no_secret_away(
    scrape: Collects, story: CapturedLog, tmp_path: Path
) -> None:
    echo = f"up {b64encode(b'me:geheim').decode()} geheim\n"
    file = options(tmp_path, '[shop]\nbasic_auth = {username = "me", password = "geheim"}\n')
    with Agent(body=echo.encode()) as target:
        found = reason(scrape(f"shop={target.uri}", config_file=file), story)
    assert found.startswith("line 1 is not in Prometheus' text format: ")
    assert "--redacted--" in found
    assert "geheim" not in story.text
    assert b64encode(b"me:geheim").decode() not in story.text


def test_credentials_that_no_header_can_hold_are_not_sent(scrape: Collects, story: CapturedLog, tmp_path: Path) -> None:
    file = options(tmp_path, '[shop]\nauthorization = {credentials = "geheim\\nX-Other: 1"}\n')
    with Agent(body=b"up 1\n") as target:
        assert "can't be sent in a header" in reason(scrape(f"shop={target.uri}", config_file=file), story)
        assert not target.requests
    assert "geheim" not in story.text


def test_tls_is_verified_by_the_targets_own_authorities(
    scrape: Collects, story: CapturedLog, tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    (tmp_path / "ca.pem").symlink_to(certificate[0])
    file = options(tmp_path, '[a.tls_config]\nca_file = "ca.pem"\n[b.tls_config]\ninsecure_skip_verify = true\n')
    with Agent(body=b"up 1\n", tls=certificate) as target:
        names = [f"{name}={target.uri}" for name in "abc"]
        assert successes(scrape(*names, config_file=file)) == {"a": 1, "b": 1, "c": 0}
    (line,) = story.lines_with("failed to scrape a target")
    assert line["reason"].endswith("ca_file in STTR_SCRAPE_CONFIGFILE names the authorities to trust")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[shop", "it's not TOML (at end of document)"),
        (f"shop = {'[' * 3000}", "it's not TOML"),
        (f"shop = {'9' * 5000}", "it's not TOML"),
        ("[stop]\n", "[stop] is no target of STTR_SCRAPE_TARGETS: expected a name, or the URI of one without a name"),
        ("shop = 'geheim'\n", "[shop]: expected basic_auth, authorization, tls_config and nothing else"),
        ("[shop]\ngeheim = 1\n", "[shop]: expected basic_auth, authorization, tls_config and nothing else"),
        (
            "[shop]\nbasic_auth = {user = 'a', password = 'geheim'}",
            "[shop]: basic_auth: expected username, password, password_file and nothing else, as texts in quotes",
        ),
        ("[shop.basic_auth]\nusername = 'a'", "[shop]: expected password or password_file, and not both"),
        (
            "[shop.authorization]\ncredentials = 'geheim'\ncredentials_file = 'b'",
            "[shop]: expected credentials or credentials_file, and not both",
        ),
        (
            "[shop]\nbasic_auth = {password = 'geheim'}\nauthorization = {credentials = 'geheim'}",
            "[shop]: expected basic_auth or authorization, not both",
        ),
        ("[shop.authorization]\ncredentials_file = '/none'", "[shop]: credentials_file: No such file or directory"),
        ("[shop.tls_config]\nca_file = '/none'", "[shop]: ca_file: No such file or directory"),
        ("[shop.tls_config]\nca_file = 'targets.toml'", "[shop]: ca_file: [X509: NO_CERTIFICATE_OR_CRL_FOUND]"),
        ("[shop.tls_config]\nkey_file = '/none'", "[shop]: key_file: expected a cert_file too"),
        ("[shop.tls_config]\ncert_file = '/none'", "[shop]: cert_file, key_file: No such file or directory"),
    ],
)
def test_a_file_that_can_not_be_used_is_refused_at_the_start(tmp_path: Path, text: str, expected: str) -> None:
    config = ScrapeConfig(("shop=http://shop/metrics",), config_file=str(options(tmp_path, text)))
    ((setting, problem),) = config.problems()
    assert setting == "config_file"
    assert f"; {expected}" in problem
    assert "geheim" not in problem


@pytest.mark.parametrize(
    "target",
    [
        *("shop", "shop=", "shop=shop", "ftp://shop", "http://", "http://me:geheim@shop", "http://shop:0"),
        *("http://shop:x", "http://shop/#a", "a b=http://shop", "a=b=http://shop", "=http://shop", "http://sh..op"),
    ],
)
def test_what_is_no_target_is_refused(target: str) -> None:
    ((setting, problem),) = ScrapeConfig(("http://good", target)).problems()
    assert setting == "targets"
    assert problem.endswith("number 2 is none of them")


@pytest.mark.parametrize("targets", [("a=http://x", "a=http://y"), ("http://x/p?a=1", "http://x/p?a=2")])
def test_targets_that_look_alike_need_names(targets: tuple[str, ...]) -> None:
    ((setting, problem),) = ScrapeConfig(targets).problems()
    assert setting == "targets"
    assert problem.startswith("a name for each of several targets that look alike")
