"""`make install` and docs/packaging.md: what others install is what the Debian package brings, file by file."""

from __future__ import annotations

import hashlib
import io
import json
import marshal
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

import pytest
from test_units import ENABLED, built

from fakes.rigs import REPOSITORY
from twinslot import __version__

pytestmark = pytest.mark.slow

PAGE = REPOSITORY / "docs/packaging.md"
BLOCK = re.compile(r"^```(\w*) (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
DEBIAN_MODULES = "/usr/lib/python3/dist-packages"
OF_DEBIAN_ALONE = {f"/usr/share/doc/twinslot/{name}" for name in ("changelog.gz", "copyright", "twinslot.cdx.json")}

Files = dict[str, tuple[int, bytes]]  # path -> mode, content; a manual page without .gz and content

if shutil.which("dh") is None:
    pytest.skip("debhelper is not installed: this is not the host that builds the package", allow_module_level=True)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory)


@pytest.fixture(scope="module")
def packaged(package: Path) -> Files:
    """The Debian package's files."""
    data = subprocess.run(["dpkg-deb", "--fsys-tarfile", package], capture_output=True, check=True).stdout
    found: Files = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for member in filter(tarfile.TarInfo.isfile, tar):
            content = tar.extractfile(member)
            assert content is not None
            name = member.name.removeprefix(".")
            manual = "/man/" in name
            found[name.removesuffix(".gz") if manual else name] = (member.mode, b"" if manual else content.read())
    return found


def block(name: str) -> str:
    """An example of the page."""
    found: dict[str, str] = {each: text for _, each, text in BLOCK.findall(PAGE.read_text())}
    return found[name]


def installed(root: Path, modules: str = DEBIAN_MODULES) -> Files:
    """The files below a root without byte code, as if its modules were where Debian has them."""
    found: Files = {}
    for path in root.rglob("*"):
        if path.is_file() and path.suffix != ".pyc":
            name = f"/{path.relative_to(root)}".replace(modules, DEBIAN_MODULES)
            found[name] = (path.stat().st_mode & 0o7777, b"" if "/man/" in name else path.read_bytes())
    return found


def run(script: str, folder: Path, *, makes: Path = REPOSITORY) -> None:
    """Shell, with a `make` that works in the checkout and puts its files below the folder."""
    shell = f'make() {{ command make -C {makes} "$@" DESTDIR={folder}/rootfs; }}\numask 022\n'
    said = subprocess.run(["sh", "-eu", "-c", shell + script], cwd=folder, capture_output=True, text=True)
    assert said.returncode == 0, said.stderr


@pytest.fixture(scope="module")
def rootfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the page's first command makes."""
    folder = tmp_path_factory.mktemp("page")
    run(block("install"), folder)
    return folder / "rootfs"


@pytest.mark.verifies("REQ-OPS-06")
def test_the_page_s_command_installs_what_the_debian_package_brings(rootfs: Path, packaged: Files) -> None:
    assert packaged.keys() >= OF_DEBIAN_ALONE
    assert installed(rootfs) == {name: each for name, each in packaged.items() if name not in OF_DEBIAN_ALONE}


def test_byte_code_holds_whatever_times_the_files_get(rootfs: Path) -> None:
    modules = rootfs / DEBIAN_MODULES[1:]
    sources = list(modules.rglob("*.py"))
    assert sources
    for source in sources:
        [compiled] = source.parent.glob(f"__pycache__/{source.stem}.*.pyc")
        content = compiled.read_bytes()
        assert content[4:8] == b"\x01\0\0\0", "PEP 552: hash-based, unchecked"
        if f".{sys.implementation.cache_tag}." in compiled.name:
            assert marshal.loads(content[16:]).co_filename == f"/{source.relative_to(rootfs)}", "as on the device"


@pytest.mark.root
def test_the_commands_that_follow_make_the_users_and_the_links(rootfs: Path, tmp_path: Path) -> None:
    shutil.copytree(rootfs, tmp_path / "rootfs", symlinks=True)
    (tmp_path / "rootfs/etc").mkdir()
    run(block("after"), tmp_path)
    users = {line.split(":")[0] for line in (tmp_path / "rootfs/etc/passwd").read_text().splitlines()}
    groups = {line.split(":")[0] for line in (tmp_path / "rootfs/etc/group").read_text().splitlines()}
    assert {"twinslot-fetch", "twinslot-read", "twinslot-relay", "twinslot-verify", "twinslot-decrypt"} <= users
    assert {"twinslot"} <= groups
    made = tmp_path / "rootfs/etc/systemd/system"
    assert {str(path.relative_to(made)) for path in made.glob("*.*/*")} == ENABLED


def test_with_another_prefix_units_launcher_and_programs_find_each_other(tmp_path: Path) -> None:
    run("make install PREFIX=/opt/ts PYTHONDIR=/opt/ts/modules COMPILE= TARGET_PYTHON=/opt/py/bin/python3", tmp_path)
    root = tmp_path / "rootfs"
    assert not list(root.rglob("*.pyc"))
    assert (root / "opt/ts/bin/twinslot").read_text().startswith("#!/opt/py/bin/python3 -I\n")
    units = list((root / "opt/ts/lib/systemd/system").iterdir())
    started = {
        line.split("=", 1)[1].split()[0]
        for unit in units
        for line in unit.read_text().splitlines()
        if line.startswith("ExecStart=")
    }
    assert started == {"/opt/ts/bin/twinslot", "/opt/ts/lib/twinslot/deadline", "/opt/py/bin/python3"}
    assert all((root / program[1:]).stat().st_mode & 0o111 for program in started if "/ts/" in program)
    assert (root / "usr/lib/twinslot/deadline.env").is_file(), "configuration is where the client looks"
    assert (root / "etc/dbus-1/system.d/org.twinslot.Update1.conf").is_file()
    polkit = root / "usr/share/polkit-1"
    assert (polkit / "actions/org.twinslot.update1.policy").is_file(), "polkit looks nowhere else for actions"
    assert (polkit / "rules.d/org.twinslot.update1.rules").is_file()


def test_without_a_place_for_modules_nothing_is_installed(tmp_path: Path) -> None:
    argv = ["make", "install", f"DESTDIR={tmp_path}/rootfs", "PYTHONDIR=", "COMPILE="]
    said = subprocess.run(argv, cwd=REPOSITORY, capture_output=True, text=True)
    assert said.returncode == 2
    assert "name the directory of the device's Python modules" in said.stderr
    assert not (tmp_path / "rootfs").exists()


def test_a_directory_with_blanks_in_its_name_gets_all_files_and_nothing_stands_beside_it(
    packaged: Files, tmp_path: Path
) -> None:
    argv = ["make", "install", f"DESTDIR={tmp_path}/my röt fs", f"PYTHONDIR={DEBIAN_MODULES}"]
    subprocess.run(argv, cwd=REPOSITORY, check=True, capture_output=True, umask=0o022)
    assert installed(tmp_path / "my röt fs").keys() == packaged.keys() - OF_DEBIAN_ALONE
    assert [path.name for path in tmp_path.iterdir()] == ["my röt fs"]


def make_install(folder: Path, foreign: str, *given: str) -> subprocess.CompletedProcess[str]:
    """`make install` where the first `python3` in PATH is that script."""
    programs = folder / "bin"
    programs.mkdir()
    (programs / "python3").write_text(foreign)
    (programs / "python3").chmod(0o755)
    environment = {"PATH": f"{programs}:/usr/bin:/bin"}
    argv = ["make", "install", f"DESTDIR={folder}/rootfs", *given]
    return subprocess.run(argv, cwd=REPOSITORY, env=environment, capture_output=True, text=True, umask=0o022)


FOREIGN = "#!/bin/sh\necho /usr/lib/elsewhere/site-packages\n"  # answers whatever it is asked
LAUNCHED = """
mount -t overlay -o lowerdir="$1/usr:/usr" overlay /usr
exec "$2/bin/twinslot" --version
"""


@pytest.mark.root
@pytest.mark.skipif(not Path("/usr/bin/python3").exists(), reason="the launcher's interpreter is not on this host")
@pytest.mark.parametrize("prefix", ["/usr", "/usr/local"])
def test_another_python_first_in_path_does_not_move_the_modules_away_from_the_launcher(
    tmp_path: Path, prefix: str
) -> None:
    said = make_install(tmp_path, FOREIGN, f"PREFIX={prefix}")
    assert said.returncode == 0, said.stderr
    asked = ["/usr/bin/python3", "-I", "-c", "import sys; print(*sys.path, sep='\\n')"]
    looks = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.splitlines()
    [package] = (tmp_path / "rootfs").rglob("twinslot/__init__.py")
    assert f"/{package.parents[1].relative_to(tmp_path / 'rootfs')}" in looks
    tag = subprocess.run(
        [*asked[:3], "import sys; print(sys.implementation.cache_tag)"], capture_output=True, text=True
    )
    assert (package.parent / f"__pycache__/__init__.{tag.stdout.strip()}.pyc").is_file()
    started = ["unshare", "--mount", "sh", "-euc", LAUNCHED, "sh", str(tmp_path / "rootfs"), prefix]
    launched = subprocess.run(started, capture_output=True, text=True)
    assert launched.stdout == f"twinslot {__version__}\n", launched.stderr


@pytest.mark.parametrize("goal", ["help", "install"])
def test_without_any_python_make_reads_its_rules_in_silence(tmp_path: Path, goal: str) -> None:
    argv = ["make", "-n", goal, f"DESTDIR={tmp_path}/rootfs", "HOST_PYTHON=no-such-python3"]
    said = subprocess.run(argv, cwd=REPOSITORY, capture_output=True, text=True)
    assert said.returncode == 0
    assert said.stderr == ""


# The recipes: their install steps, with what Yocto and Buildroot put in for the variables.


def presets() -> set[str]:
    """The units that are to be enabled."""
    lines = (REPOSITORY / "systemd/50-twinslot.preset").read_text().splitlines()
    return {line.split()[1] for line in lines if line.startswith("enable ")}


def workers() -> set[str]:
    """The users of the workers."""
    return set(re.findall(r"^u (\S+)", (REPOSITORY / "systemd/twinslot.sysusers").read_text(), re.MULTILINE))


def test_the_recipe_for_yocto_installs_the_same(tmp_path: Path, packaged: Files) -> None:
    recipe = re.sub(r" *\\\n *", " ", block("twinslot_0.1.0.bb"))
    step = re.search(r"^do_install\(\) \{\n(.*?)^\}", recipe, re.MULTILINE | re.DOTALL)
    assert step
    values = {"D": "image", "prefix": "/usr", "PYTHON_SITEPACKAGES_DIR": "/usr/lib/python3.13/site-packages"}
    values |= {"PYTHON": sys.executable, "bindir": "/usr/bin", "systemd_system_unitdir": "/usr/lib/systemd/system"}
    run('oe_runmake() { make "$@"; }\n' + re.sub(r"\$\{(\w+)\}", lambda found: values[found[1]], step[1]), tmp_path)
    said = installed(tmp_path / "rootfs", values["PYTHON_SITEPACKAGES_DIR"])
    assert said == {name: each for name, each in packaged.items() if name not in OF_DEBIAN_ALONE}
    services = re.search(r'^SYSTEMD_SERVICE:\$\{PN\} = "(.*)"$', recipe, re.MULTILINE)
    users = re.search(r'^USERADD_PARAM:\$\{PN\} = "(.*)"$', recipe, re.MULTILINE)
    assert services
    assert users
    assert set(services[1].split()) == presets()
    assert {each.split()[-1] for each in users[1].split(";")} == workers()
    summed = hashlib.md5((REPOSITORY / "LICENSE").read_bytes(), usedforsecurity=False).hexdigest()
    assert f"file://LICENSE;md5={summed}" in recipe


def test_the_package_for_buildroot_installs_the_same(tmp_path: Path, packaged: Files) -> None:
    (tmp_path / "Makefile").write_text(block("twinslot.mk") + "\n$(TREE)/.step:\n\t$(TWINSLOT_INSTALL_TARGET_CMDS)\n")
    (tmp_path / "host/bin").mkdir(parents=True)
    (tmp_path / "host/bin/python3").symlink_to(sys.executable)
    given = [f"TARGET_DIR={tmp_path}/target", f"HOST_DIR={tmp_path}/host", "PYTHON3_VERSION_MAJOR=3.13"]
    said = subprocess.run(
        ["make", "-s", f"{REPOSITORY}/.step", f"TREE={REPOSITORY}", *given],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert said.returncode == 0, said.stderr
    found = installed(tmp_path / "target", "/usr/lib/python3.13/site-packages")
    assert found == {name: each for name, each in packaged.items() if name not in OF_DEBIAN_ALONE}
    users = re.search(r"^define TWINSLOT_USERS\n(.*?)^endef", block("twinslot.mk"), re.MULTILINE | re.DOTALL)
    assert users
    assert {line.split()[0] for line in users[1].splitlines()} == workers() | {"-"}


# The bill of materials.


def test_the_package_carries_a_valid_list_of_all_its_files_and_of_what_it_needs(packaged: Files) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    text = packaged["/usr/share/doc/twinslot/twinslot.cdx.json"][1].decode()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    whole = json.loads(text)
    files = {each["name"]: each["hashes"][0]["content"] for each in whole["components"] if each["type"] == "file"}
    manuals = {name for name in packaged if "/man/" in name}
    listed = packaged.keys() - OF_DEBIAN_ALONE
    assert files.keys() == listed
    for name in listed - manuals:
        assert files[name] == hashlib.sha256(packaged[name][1]).hexdigest(), name
    needed = tomllib.loads((REPOSITORY / "client/pyproject.toml").read_text())["project"]["dependencies"]
    libraries = {each["name"] for each in whole["components"] if each["type"] == "library"}
    assert libraries == {re.split(r"[><=]", each)[0] for each in needed}
    assert {"libubootenv-tool", "systemd"} <= {each["name"] for each in whole["components"]}


def test_no_sbom_without_the_library_and_the_build_says_what_is_missing(tmp_path: Path) -> None:
    argv = ["python3", "-I", str(REPOSITORY / "debian/make_sbom.py"), str(tmp_path), "/usr", "/modules"]
    bare = subprocess.run(argv, env={"PATH": "/usr/bin"}, capture_output=True, text=True)
    assert bare.returncode == 1
    assert "has no cyclonedx-python-lib" in bare.stderr
    assert bare.stdout == ""
