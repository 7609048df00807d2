"""The docs' example of a registrar keeps a running service registered."""

import re
from pathlib import Path

from tests.program import ROOT, Program, eventually


def test_the_docs_registrar_registers_again_and_unregisters(tmp_path: Path) -> None:
    page = (ROOT / "docs/plugins.md").read_text()
    (code,) = re.findall(r"```python\n(# folder\.py.*?)```", page, re.DOTALL)
    (tmp_path / "folder.py").write_text(code)
    services = tmp_path / "services"
    services.mkdir()
    env = {
        "STTR_ROSTER_REGISTRAR": "folder:Folder",
        "STTR_FOLDER_PATH": str(services),
        "STTR_ROSTER_SERVICE_ID": "1",
        "STTR_ROSTER_SERVICE_IPADDRESS": "10.0.0.1",
    }
    with Program(env, tmp_path) as stator:
        file = services / "stator-1"
        eventually(file.exists)
        assert file.read_text() == f"10.0.0.1:{stator.port}"
        file.unlink()
        eventually(file.exists, within=20)
        assert stator.stop() == 0
        assert not file.exists()
