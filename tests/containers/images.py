"""Stand-ins for the base images that an engine without a registry can't get, under the tags that the files name."""

import re
import shutil
import subprocess
from pathlib import Path

import yaml

from tests.containers import debian
from tests.containers.engine import Engine
from tests.integration.programs import program_path

# As the real image: Debian's Consul and Prometheus, and busybox, which both of the real images have wget from.
CONSUL = """\
FROM {python}
COPY busybox consul /usr/bin/
RUN ln -s busybox /usr/bin/wget
EXPOSE 8500
ENTRYPOINT ["consul"]
CMD ["agent", "-dev", "-client=0.0.0.0"]
"""
PROMETHEUS = """\
FROM {python}
COPY busybox prometheus promtool /usr/bin/
RUN ln -s busybox /usr/bin/wget \\
    && groupadd --gid 65533 nobody \\
    && install --directory --owner=nobody --group=nobody /etc/prometheus /prometheus
WORKDIR /prometheus
USER nobody
EXPOSE 9090
ENTRYPOINT ["prometheus"]
CMD ["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"]
"""


def provide(engine: Engine, project: Path, shared: Path) -> None:
    """Gives the engine a stand-in for each base image of the project's files."""
    python = f"python:{_argument(project / 'etc/stator.Dockerfile', 'python')}"
    _import_python(engine, python, shared)
    consul = yaml.safe_load((project / "docker-compose.yaml").read_text())["services"]["consul"]["image"]
    prometheus = re.findall(r"^FROM (prom/\S+)", (project / "etc/prom.Dockerfile").read_text(), re.MULTILINE)[0]
    _build(engine, consul, CONSUL.format(python=python), [program_path("consul")], shared / "consul")
    programs = [program_path("prometheus-2.24", name) for name in ("prometheus", "promtool")]
    _build(engine, prometheus, PROMETHEUS.format(python=python), programs, shared / "prometheus")


def _argument(dockerfile: Path, name: str) -> str:
    (value,) = re.findall(rf"^ARG {name}=(\S+)", dockerfile.read_text(), re.MULTILINE)
    return str(value)


def _import_python(engine: Engine, tag: str, shared: Path) -> None:
    root, stamp = debian.python_system()
    if engine.docker("image", "ls", "--quiet", f"--filter=label=stamp={stamp}", tag):
        return
    archive = shared / "python.tar"
    subprocess.run(("tar", "--create", f"--file={archive}", f"--directory={root}", "."), check=True)
    changes = (f"--change=LABEL stamp={stamp}", '--change=CMD ["python3"]')
    engine.docker("import", *changes, archive, tag, within=120)
    archive.unlink()


def _build(engine: Engine, tag: str, dockerfile: str, programs: list[Path], folder: Path) -> None:
    folder.mkdir()
    for program in (*programs, debian.SYSTEMS / "engine/usr/bin/busybox"):
        shutil.copy(program, folder)
    (folder / "Dockerfile").write_text(dockerfile)
    engine.docker("build", "--quiet", f"--tag={tag}", folder, within=120)
