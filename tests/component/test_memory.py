"""Memory is bounded and does not grow with the image (S9): measured in the real processes, for two sizes."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest
from release_bench import ReleaseBench

MIB = 1 << 20
RATIO = 12  # the large image is so many times the small one

INSTALL = """
import resource, subprocess, sys
sys.path[:0] = {path!r}
from pathlib import Path
from release_bench import ReleaseBench
import host_device
from host_device import HostDevice
host_device.SLOT_SIZE = {size}
device = HostDevice(Path({directory!r}), ReleaseBench(Path({bench!r})))
if {piped}:
    with subprocess.Popen(["cat", {image!r}], stdout=subprocess.PIPE) as pipe:
        device.install(pipe.stdout.fileno())
else:
    device.install(Path({image!r}))
own = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))  # ru_maxrss survives exec
print(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def peaks(directory: Path, bench: ReleaseBench, size: int, *, piped: bool) -> tuple[int, int]:
    """KiB of resident memory at the peak: the engine with its writer, and the largest worker."""
    content = b"".join(random.Random(n).randbytes(MIB) for n in range(size // MIB))
    image = bench.image(f"s{size // MIB}", size // MIB, content)
    directory.mkdir()
    code = INSTALL.format(
        path=sys.path, size=size, directory=str(directory), bench=str(bench.directory), image=str(image), piped=piped
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    own, workers = map(int, done.stdout.split()[-2:])
    return own, workers


@pytest.mark.verifies("S9", "REQ-IMG-10", "REQ-OPS-03")
@pytest.mark.slow
@pytest.mark.parametrize("piped", [False, True], ids=["by-parts", "front-to-back"])
def test_an_image_twelve_times_as_large_needs_no_more_memory(tmp_path: Path, *, piped: bool) -> None:
    bench = ReleaseBench.make(tmp_path)
    small = peaks(tmp_path / "small", bench, 8 * MIB, piped=piped)
    large = peaks(tmp_path / "large", bench, 8 * RATIO * MIB, piped=piped)
    print(f"peak KiB, engine and largest worker: {small} for 8 MiB, {large} for {8 * RATIO} MiB")
    for before, after in zip(small, large, strict=True):
        assert after - before < 6 * 1024, "KiB; the lists grow by 6 KiB for each 12 MiB"
