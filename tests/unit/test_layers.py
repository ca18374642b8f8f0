"""The arrows between the layers: cli, bus -> app -> engine -> core <- image, trust; edges know core, not each other."""

from __future__ import annotations

import ast
import sys
from functools import cache
from pathlib import Path

import pytest

CLIENT = Path(__file__).parents[2] / "client"
ROOT = CLIENT.parent

# Who may import whom, by the first folder or module below `twinslot`. Everything may import `core`.
ALLOWED = {
    "core": set(),
    "image": set(),
    "crypto": {"image"},
    "trust": {"image", "storage", "system"},  # of storage and system: where the device key stands, and a token
    "system": set(),
    "config": set(),
    "bootloader": {"system"},
    "storage": set(),
    "transport": set(),
    "payloads": {"storage", "config"},
    "health": {"config", "system"},
    "worker": {"image", "trust", "crypto", "transport", "system"},
    "repository": {"worker", "transport", "trust", "storage"},
    "policy": {"config", "health", "storage", "system"},
    "engine": {
        "crypto",
        "policy",
        "repository",
        "bootloader",
        "storage",
        "payloads",
        "transport",
        "health",
        "trust",
        "worker",
        "config",
        "system",
    },
    "queries": {
        "policy",
        "crypto",
        "repository",
        "bootloader",
        "storage",
        "payloads",
        "health",
        "trust",
        "worker",
        "config",
        "system",
        "engine",
    },
    "app": {"engine", "policy", "queries", "worker", "config", "system"},
    "bus": {"app", "system"},
    "fleet": {"app", "bus", "config", "storage", "system", "transport", "worker"},
    "service": {"app", "bus", "config", "system"},
    "cli": {"app", "bus", "config", "service", "image", "queries", "system"},
    "__main__": {"cli"},
}

# One door per library: which modules may import it; with a `/` or `_` at its end all whose names begin so.
DOORS = {
    # Ed25519 and ECDSA keys; encryption of images and key files has its folder beside trust.
    "cryptography": {
        "twinslot/trust/",
        "twinslot/crypto/",
        "twinslot/transport/http/pin.py",
        "twinslot_image/dossier_verify.py",  # for auditors: shares no code with the rest, so no door either
        "twinslot_image/key_",
        "twinslot_image/pkcs11_",
    },
    "cyclonedx": {"twinslot_image/sbom/document.py"},
    "packageurl": {"twinslot_image/sbom/document.py"},
    "defusedxml": {"twinslot_image/gate/tests_run.py"},
    "construct": {"twinslot/image/wire.py", "twinslot/image/wire_blocks.py", "twinslot/image/wire_patch.py"},
    "jinja2": {"twinslot_image/html_page.py"},
    "markupsafe": {"twinslot_image/html_page.py"},
    "lzma": {"twinslot/image/lzma2.py", "twinslot_image/packed.py", "twinslot_lab/kernel.py"},
    "numpy": {"twinslot_image/patch_"},
    "tuf": {
        "twinslot/trust/documents.py",
        "twinslot/trust/verify.py",
        "twinslot/trust/repository.py",
        "twinslot_image/",
    },
    "securesystemslib": {"twinslot/trust/documents.py", "twinslot_image/"},
    "urllib3": {"twinslot/fleet/server.py"},
    "zstandard": {"twinslot/image/codec.py", "twinslot_image/packed.py"},
    "dbus_next": {"twinslot/bus/library.py", "twinslot/bus/reading.py"},
    "pkcs11": {"twinslot_image/pkcs11_worker.py"},
    "sqlite3": {"twinslot/storage/record/", "twinslot_image/sbom/rpm_database.py"},
    "elftools": {"twinslot_image/elf.py", "twinslot_image/elf_links.py"},
    "nbdkit": {"twinslot_lab/crash/nbd_plugin.py"},
    "pytest": {"twinslot_lab/fixtures.py", "twinslot_lab/matrix/collect.py", "twinslot_lab/plugin.py"},
    "qemu": {"twinslot_lab/qmp.py"},
    "serial": {"twinslot_lab/console.py"},
}


@cache
def modules() -> list[Path]:
    """Every module that ships or drives a board."""
    return sorted(p for top in ("client", "image_tools", "qemu") for p in (ROOT / top).rglob("*.py"))


@cache
def imports(path: Path) -> frozenset[str]:
    """Full names of what a module imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


def layer_of(path: Path) -> str:
    """First folder or module below the package."""
    return path.relative_to(CLIENT / "twinslot").parts[0].removesuffix(".py")


def allowed(layer: str, name: str) -> bool:
    """Whether a module of this layer of the client may import what has this full name."""
    root, _, rest = name.partition(".")
    if root != "twinslot" or not rest:
        return root not in ("twinslot_image", "twinslot_lab")
    return rest.split(".")[0] in ALLOWED[layer] | {layer, "core", "__version__"}


def test_a_module_imports_only_downwards() -> None:
    own = [path for path in modules() if path.is_relative_to(CLIENT) and layer_of(path) != "__init__"]
    assert len(own) > 300
    assert not [
        f"{path.relative_to(CLIENT)}: must not import '{name}'"
        for path in own
        for name in imports(path)
        if not allowed(layer_of(path), name)
    ]


def test_every_arrow_of_the_table_is_used() -> None:
    used = {
        (layer_of(path), name.split(".")[1])
        for path in modules()
        if path.is_relative_to(CLIENT)
        for name in imports(path)
        if name.startswith("twinslot.")
    }
    drawn = {(layer, below) for layer, allowed in ALLOWED.items() for below in allowed}
    assert sorted(drawn - used) == [], "remove them from the table: nobody imports so any more"


def test_the_arrows_make_no_circle() -> None:
    below = {layer: set(allowed) for layer, allowed in ALLOWED.items()}
    while below:
        lowest = {layer for layer, allowed in below.items() if not allowed & below.keys()}
        assert lowest, f"of these each is above the other: {sorted(below)}"
        below = {layer: allowed for layer, allowed in below.items() if layer not in lowest}


def test_the_core_needs_only_the_standard_library() -> None:
    roots = {
        (str(path.relative_to(ROOT)), name.split(".")[0])
        for path in modules()
        if "core" in path.relative_to(ROOT).parts
        for name in imports(path)
    }
    assert len({path for path, _ in roots}) > 50
    assert not [each for each in roots if each[1] not in {*sys.stdlib_module_names, "twinslot"}]
    edges = {"os", "io", "time", "socket", "subprocess", "threading", "pathlib"}
    assert not [each for each in roots if each[1] in edges], "no I/O, no clock"


@pytest.mark.parametrize("library", DOORS)
def test_a_library_has_one_door(library: str) -> None:
    importers = {
        str(Path(*p.relative_to(ROOT).parts[1:]))  # without client/, image_tools/, qemu/
        for p in modules()
        if library in {name.split(".")[0] for name in imports(p)}
    }
    strangers = {p for p in importers if not any(p.startswith(door) for door in DOORS[library])}
    assert not strangers, f"{library} is imported beside its door"
    assert importers, f"nobody imports {library}: remove it from this table and from the dependencies"


def test_every_library_from_elsewhere_has_its_door() -> None:
    ours = {"twinslot", "twinslot_image", "twinslot_lab"}
    roots = {name.split(".")[0] for path in modules() for name in imports(path)}
    assert roots - set(sys.stdlib_module_names) - ours <= DOORS.keys(), (
        "name the door in this table, and the reason in docs/dependencies.md"
    )
