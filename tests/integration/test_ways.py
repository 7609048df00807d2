"""The ways to run Stator that docs/running.md shows, step by step as they stand there."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.build.test_install import make
from tests.conftest import ROOT
from tests.integration.machine import Machine
from tests.integration.programs import Consul, eventually, free_ports
from tests.program import Program

PAGE = (ROOT / "docs/running.md").read_text("utf-8")


def commands(section: str) -> list[str]:
    """The commands of a section's first block of shell, without comments."""
    found = re.search(rf"^## {section}\n.*?^```sh\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert found, section
    return [re.sub(r"\s+# .*", "", line) for line in found[1].splitlines()]


class Shell:
    """A folder in which commands are run, each to its end; only the last one, the service, is not waited for."""

    def __init__(self, folder: Path, running: ExitStack) -> None:
        self._folder, self._running = folder, running

    def run(self, command: str) -> str:
        """Gives what a command prints; it must succeed."""
        done = subprocess.run(
            shlex.split(command), cwd=self._folder, capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == 0, f"{command}:\n{done.stdout}{done.stderr}"
        return done.stdout

    def serve(self, command: str) -> Program:
        """Starts the service."""
        return self._running.enter_context(Program({"PYTHONPATH": ""}, self._folder, command=shlex.split(command)))


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    with ExitStack() as running:
        yield Shell(tmp_path, running)


def test_the_page_lists_five_ways_and_has_a_section_for_each() -> None:
    listed = re.findall(r"^\| \[(.*?)\]\(#(.*?)\) \|", PAGE, re.MULTILINE)
    headings = re.findall(r"^## (.*)$", PAGE, re.MULTILINE)
    assert len(listed) == 5
    assert {name.capitalize().replace("kubernetes", "Kubernetes") for name, _ in listed} <= {*headings}


def test_by_hand(pyz: Path, tmp_path: Path, shell: Shell) -> None:
    (tmp_path / "stator.pyz").symlink_to(pyz)
    *steps, last = commands("By hand")
    assert [shell.run(step) for step in steps][1] == ""
    program = shell.serve(last)
    assert program.get("/monitor").body == b'{"status":"ok"}'
    assert b"du_used_percent" in program.get("/metrics").body
    assert program.stop() == 0


def test_as_a_wheel(tmp_path: Path, shell: Shell) -> None:
    shell.run(f"{sys.executable} -m venv venv")
    environment, install, *steps, last = commands("As a wheel")
    assert environment == "python3 -m venv venv"
    # Not yet from a package index, and so from this checkout, as the page says.
    assert install == "venv/bin/pip install ."
    assert "in a checkout: stator-observability is not on PyPI yet" in PAGE
    shell.run(f"venv/bin/pip install {shlex.quote(str(ROOT))}")
    assert [shell.run(step) for step in steps] == [""]
    program = shell.serve(last)
    assert program.get("/monitor").body == b'{"status":"ok"}'
    assert program.stop() == 0
    assert (tmp_path / "venv/bin/python").exists()


def test_under_systemd(pyz: Path, tmp_path: Path, consul: Consul) -> None:
    assert pyz.exists()
    (port,) = free_ports(1)
    steps = [step.removeprefix("sudo ") for step in commands("Under systemd")]
    assert steps[:3] == ["make pyz", "make install", "sudoedit /etc/stator.env"]
    with Machine(tmp_path) as machine:
        make("install", machine.root)
        settings = machine.root / "etc/stator.env"
        text = settings.read_text().replace("http://consul:8500", consul.url).replace("=8087", f"={port}")
        settings.write_text(f"{text}STTR_SERVER_HOST=127.0.0.1\n")
        for step in steps[3:-1]:
            assert machine.run(*shlex.split(step)).returncode == 0
        eventually(lambda: consul.service("stator-123654"))
        assert steps[-1] == "systemctl status stator"
        eventually(lambda: 'Status: "registered as stator-123654"' in machine.systemctl("status", "stator"))


def test_on_kubernetes_the_commands_name_what_is_here() -> None:
    # The manifest's own tests run the program as a pod would; here is no cluster.
    build, _, apply = commands("On Kubernetes")
    assert (ROOT / shlex.split(build)[3]).is_file()
    sed = apply.partition(" | kubectl")[0]
    done = subprocess.run(shlex.split(sed), cwd=ROOT, capture_output=True, text=True, check=True)
    assert "image: registry.example.com/stator:1\n" in done.stdout
