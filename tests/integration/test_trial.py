"""The trial runs that docs/consul.md shows, command for command."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.programs import Consul, eventually, program_path
from tests.program import ROOT, Program

PAGE = (ROOT / "docs/consul.md").read_text("utf-8")
PYZ = "python3 dist/stator.pyz"


def block(beginning: str) -> str:
    """The only block of commands that has a text."""
    (commands,) = (text for text in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) if beginning in text)
    return str(commands)


def started(commands: str, folder: Path) -> Program:
    """Stator as some commands start it, from the sources, and on a free port."""
    assert commands.rstrip().endswith(PYZ)
    return Program({}, folder, command=("sh", "-c", commands.replace(PYZ, f"exec {sys.executable} -m stator")))


def shell(commands: str, consul: Consul) -> str:
    """What some commands print, with Consul's own program at hand."""
    path = f"{program_path('consul').parent}:{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "CONSUL_HTTP_ADDR": consul.url, "no_proxy": "*"}
    return subprocess.run(["sh", "-ec", commands], env=env, capture_output=True, text=True, check=True).stdout


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not here")
def test_a_service_is_registered_comes_back_and_leaves(consul: Consul, tmp_path: Path) -> None:
    port = consul.url.rpartition(":")[2]
    ours = block("STTR_CLIENT_BASEURI=").replace("8500", port)
    ask, deregister, catalog = block("/v1/health/service/shop").replace("8500", port).splitlines()
    with started(ours, tmp_path) as stator:
        stator.wait_for("registered")
        (instance,) = eventually(lambda: json.loads(shell(ask, consul)))
        assert instance["Service"]["Port"] == stator.port
        assert {check["Status"] for check in instance["Checks"]} == {"passing"}
        shell(deregister.replace("8087", str(stator.port)), consul)
        stator.wait_for("registered again")
        assert eventually(lambda: json.loads(shell(catalog, consul)).get("shop")) == ["metrics"]
        assert stator.stop(signal.SIGINT) == 0
        assert stator.lines("unregistered")
    eventually(lambda: "shop" not in json.loads(shell(catalog, consul)))


def test_a_target_file_is_kept_without_consul(tmp_path: Path) -> None:
    file = tmp_path / "shop.json"
    with started(block("STTR_FILE_PATH=").replace("/etc/targets/shop.json", str(file)), tmp_path) as stator:
        stator.wait_for("registered")
        file.unlink()
        eventually(file.exists, within=4)
        (target,) = json.loads(file.read_text("utf-8"))
        assert target["labels"]["service"] == "shop"
        assert stator.stop() == 0
    assert not file.exists()
