"""A path is of this machine only where that is sure."""

from pathlib import Path

import psutil
import pytest

from stator.collectors.diskusage import Mounts

LINES = {
    "/": "1 0 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw",
    "/data": "2 1 254:1 / /data rw - xfs /dev/vdb rw",
    "/far": "3 1 0:50 / /far rw - nfs4 server:/export rw",
    "/far/near": "4 3 0:51 / /far/near rw - tmpfs tmpfs rw",
    "/with space": "5 1 0:52 / /with\\040space rw - tmpfs tmpfs rw",
    "/fuse": "6 1 0:53 / /fuse rw shared:2 master:1 - fuse.sshfs me@there: rw",
}


@pytest.fixture
def mountinfo(tmp_path: Path) -> Path:
    file = tmp_path / "mountinfo"
    file.write_text("".join(f"{line}\n" for line in LINES.values()))
    return file


@pytest.mark.parametrize(
    ("path", "local"),
    [
        ("/", True),
        ("/data", True),
        ("/with space", True),
        ("/far", False),
        ("/fuse", False),
        # What stands in the way may hang.
        ("/far/near", False),
        # May be a link to anywhere.
        ("/data/inner", False),
        ("/da", False),
        ("data", False),
        ("/data/", False),
        ("/missing", False),
    ],
)
def test_a_mount_point_is_local_if_all_on_the_way_to_it_is(mountinfo: Path, path: str, local: bool) -> None:
    assert Mounts([path], str(mountinfo)).are_local() is local


def test_all_paths_must_be(mountinfo: Path) -> None:
    assert Mounts(["/", "/data"], str(mountinfo)).are_local()
    assert not Mounts(["/", "/far"], str(mountinfo)).are_local()


def test_a_change_is_seen(mountinfo: Path) -> None:
    changes = [False, True, False]
    mounts = Mounts(["/data"], str(mountinfo), lambda _: changes.pop(0))
    assert mounts.are_local()
    with mountinfo.open("a") as file:
        file.write("7 2 0:54 / /data rw - nfs4 server:/export rw\n")
    assert [mounts.are_local() for _ in range(3)] == [True, False, False]


def test_nothing_is_sure_where_the_kernel_tells_nothing(tmp_path: Path) -> None:
    assert not Mounts(["/"], str(tmp_path / "missing")).are_local()


def test_the_kernels_own_list_can_be_read_again_and_again() -> None:
    mounts = Mounts(["/proc"])
    before = psutil.Process().num_fds()
    assert [mounts.are_local() for _ in range(3)] == [False] * 3
    assert psutil.Process().num_fds() == before + 1
    del mounts
    assert psutil.Process().num_fds() == before
