"""Makes what is published: stator.pyz for every platform, its bill of materials and the checksums of both.

They go to dist/, or to the folder that is named.
"""

import hashlib
import json
import re
import sys
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from email.message import Message
from email.parser import Parser
from pathlib import Path
from urllib.parse import quote
from uuid import NAMESPACE_URL, uuid5

import pyz
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def main(folder: Path) -> None:
    """Builds the three files; the same commit gives the same bytes."""
    archive, bill, sums = (folder / name for name in (pyz.OUTPUT.name, pyz.BILL, pyz.SUMS))
    pyz.build(list(pyz.PLATFORMS), archive)
    bill.write_text(json.dumps(bill_of_materials(archive), indent=2, ensure_ascii=False) + "\n", "utf-8")
    lines = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in (bill, archive)]
    sums.write_text("".join(lines))
    sys.stdout.write(f"beside it: {bill.name}, {sums.name}\n")


def bill_of_materials(archive: Path) -> dict[str, object]:
    """What is in the archive, as CycloneDX 1.6 has it: https://cyclonedx.org/docs/1.6/json/."""
    packages: dict[str, Message] = {canonicalize_name(about["Name"]): about for about in metadata(archive)}
    own = packages.pop("stator-observability")
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    plots = plotting_library(archive)
    root = component(own) | {"type": "application", "hashes": [{"alg": "SHA-256", "content": digest}]}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid5(NAMESPACE_URL, digest)}",
        "version": 1,
        "metadata": {
            "timestamp": datetime.fromtimestamp(pyz.commit_time(), UTC).isoformat(),
            "lifecycles": [{"phase": "build"}],
            "component": root,
        },
        "components": [*(component(about) for about in packages.values()), plots],
        "dependencies": [
            *(
                {
                    "ref": reference(about),
                    "dependsOn": sorted(
                        [
                            *(reference(packages[name]) for name in packages.keys() & needs(about)),
                            *([str(plots["bom-ref"])] if about is own else []),
                        ]
                    ),
                }
                for about in (own, *packages.values())
            ),
            {"ref": plots["bom-ref"], "dependsOn": []},
        ],
    }


def plotting_library(archive: Path) -> dict[str, object]:
    """The script that draws the page's plots, an npm package of which the archive holds one file."""
    with zipfile.ZipFile(archive) as contents:
        script = contents.read("site-packages/stator/web/status/assets/uPlot.iife.min.js")
    version = re.findall(rb"uPlot \(v([0-9.]+)\)", script)[0].decode()
    url = f"pkg:npm/uplot@{version}"
    return {
        "type": "library",
        "bom-ref": url,
        "name": "uplot",
        "version": version,
        "description": "Draws the plots of the page",
        "hashes": [{"alg": "SHA-256", "content": hashlib.sha256(script).hexdigest()}],
        "purl": url,
        "licenses": [{"expression": "MIT"}],
    }


def metadata(archive: Path) -> Iterator[Message]:
    """What each distribution in the archive says of itself."""
    with zipfile.ZipFile(archive) as contents:
        for name in sorted(contents.namelist()):
            if name.endswith(".dist-info/METADATA"):
                yield Parser().parsestr(contents.read(name).decode())


def component(about: Message) -> dict[str, object]:
    """A distribution, as CycloneDX describes a component."""
    described = {
        "type": "library",
        "bom-ref": reference(about),
        "name": about["Name"],
        "version": about["Version"],
        "description": about["Summary"],
        "purl": reference(about),
    }
    if expression := about["License-Expression"]:
        return described | {"licenses": [{"expression": expression}]}
    classified = [value for value in about.get_all("Classifier", []) if value.startswith("License :: ")]
    names = [value.rpartition(" :: ")[2] for value in classified] or [about["License"]]
    return described | {"licenses": [{"license": {"name": name}} for name in names if name]}


def reference(about: Message) -> str:
    """A distribution's package URL."""
    return f"pkg:pypi/{canonicalize_name(about['Name'])}@{quote(about['Version'])}"


def needs(about: Message) -> set[str]:
    """The names of what a distribution requires, on whatever condition."""
    return {canonicalize_name(Requirement(line).name) for line in about.get_all("Requires-Dist", [])}


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else pyz.OUTPUT.parent)
