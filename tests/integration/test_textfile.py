"""The real node_exporter reads the same text files, and gives the same series."""

import os
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.programs import Program as Peer
from tests.integration.programs import free_ports, program_path
from tests.program import Program

Series = tuple[str, frozenset[tuple[str, str]]]
FILES: dict[str, str | bytes] = {
    "untyped": 'foo 1\nbar_total{a="x"} 2\n',
    "counters": '# TYPE jobs counter\njobs{a="1"} 3\njobs{b="2"} 4.5\n'
    "# HELP jobs_done_total Jobs \\\\ done\\nso far\n# TYPE jobs_done_total counter\njobs_done_total 5e10\n",
    "back": "# TYPE back counter\nback -1\n",
    "histograms": '# TYPE wait histogram\nwait_bucket{host="h",le="0.1"} 1\nwait_bucket{host="h",le="1"} 2\n'
    'wait_bucket{host="h",le="2500000"} 3\nwait_bucket{host="h",le="+Inf"} 4\nwait_sum{host="h"} 4.5\n'
    'wait_count{host="h"} 4\n',
    "summaries": '# TYPE size summary\nsize{quantile="0.5"} 1\nsize{quantile="0.99"} NaN\nsize_sum 3\nsize_count 2\n',
    "numbers": "a NaN\nb +Inf\nc -Inf\nd 1e-300\ne 123456789012345678\nf -0\n",
    "labels": 'label{a="\\"\\\\\\n",b="ü",c=""} 1\nlabel{b="x"} 2\n',
    "le": 'x_bucket{le="1"} 1\nquant{quantile="0.1"} 2\n',
    "apart": '# TYPE sep gauge\nsep{a="1"} 1\nother 3\nsep{a="2"} 2\n',
    "one": 'shared{from="one"} 1\n',
    "two": 'shared{from="two"} 2\n',
    "comments": "# just a comment\n\n# HELP only described, no sample\n",
    "types": "# TYPE shout GAUGE\nshout 1\n#TYPE close Counter\nclose 2\n# TYPE\n# TYPE none\nnone 3\n"
    "\t#\tTYPE \ttabs\tUNTYPED\ntabs\t4\n",
    "empty": "",
    ".hidden": "hidden 1\n",
}
BAD: dict[str, str | bytes] = {
    "bad-number": "good 1\nbad one\n",
    "bad-open": 'bad{a="b} 1\n',
    "bad-type": "# TYPE bad speed\nbad 1\n",
    "bad-order": "bad 1\n# TYPE bad gauge\n",
    "bad-unfinished": "bad 1",
    "bad-stamped": "bad 1 1700000000000\n",
    "bad-latin": b"# HELP bad K\xe4fer\nbad\xe4 1\n",
}


class NodeExporter(Peer):
    """Nothing but its textfile collector."""

    def __init__(self, pattern: str, folder: Path) -> None:
        (port,) = free_ports(1)
        super().__init__(
            [
                program_path("node-exporter", "prometheus-node-exporter"),
                *("--collector.disable-defaults", "--collector.textfile", "--web.disable-exporter-metrics"),
                f"--collector.textfile.directory={pattern}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            port,
            folder,
        )

    def ready(self) -> bool:
        return bool(self.get("/metrics"))


def series(body: bytes) -> dict[Series, str]:
    """All series but those that each program tells of itself.

    Without types, since the reader calls samples of counters as it thinks right.
    """
    lines = (line for line in body.decode().splitlines(keepends=True) if not line.startswith("#"))
    samples = (sample for family in text_string_to_metric_families("".join(lines)) for sample in family.samples)
    return {
        (sample.name, frozenset(as_number(*label) for label in sample.labels.items() if label[1])): repr(
            float(sample.value)
        )
        for sample in samples
        if not sample.name.startswith(("stator_", "node_exporter_", "node_scrape_"))
    }


def as_number(name: str, value: str) -> tuple[str, str]:
    # Go writes a bound 1, and OpenMetrics wants 1.0: to Prometheus 3 they are one.
    return (name, repr(float(value))) if name in ("le", "quantile") else (name, value)


@pytest.fixture
def folders(tmp_path: Path) -> str:
    """A pattern of folders, with the good files in one and the bad ones in the other."""
    for folder, files in {"good": FILES, "bad": BAD}.items():
        (tmp_path / "text" / folder).mkdir(parents=True)
        for name, text in files.items():
            file = tmp_path / "text" / folder / f"{name}.prom"
            file.write_bytes(text if isinstance(text, bytes) else text.encode())
            os.utime(file, (1.8e9, 1.8e9 + 0.25))
    (tmp_path / "text/bad/bad-gone.prom").symlink_to("nowhere")
    (tmp_path / "text/bad/bad-folder.prom").mkdir()
    return str(tmp_path / "text/*")


def test_both_give_the_same_series(folders: str, tmp_path: Path) -> None:
    (tmp_path / "peer").mkdir()
    with NodeExporter(folders, tmp_path / "peer") as peer:
        theirs = series(peer.get("/metrics"))
    env = {"STTR_COLLECTORS": "textfile", "STTR_TEXTFILE_PATHS": folders, "STTR_METRICS_TIMESTAMPS": "never"}
    with Program(env, tmp_path) as stator:
        mine = series(stator.get("/metrics").body)
        reasons = {Path(line["file"]).stem: line["reason"] for line in stator.lines("failed to read a text file")}
    assert mine == theirs
    assert mine["node_textfile_scrape_error", frozenset()] == "1.0"
    assert len([name for name, _ in mine if name == "node_textfile_mtime_seconds"]) == len(FILES)
    assert reasons.keys() == {*BAD, "bad-gone", "bad-folder"}
