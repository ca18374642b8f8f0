"""The configuration of a device: every key with its type, bounds, unit and meaning.

`load` reads it; `config_reference` prints the manual (docs/config.md). A key that nobody declared is refused, since a
typing mistake in a safety bound must not go unnoticed.
"""

# ruff: noqa: RUF009 - `option` makes dataclass fields, it does not make values
from __future__ import annotations

import dataclasses
import datetime as dt
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from twinslot.config.acceptance import AcceptanceConfig
from twinslot.config.checks import check_sections
from twinslot.config.fields import build, option
from twinslot.config.files import DIRECTORIES, find, merge
from twinslot.config.hawkbit import HawkbitConfig
from twinslot.config.policy import PolicyConfig
from twinslot.config.reports import ReportConfig
from twinslot.config.repository import RepositoryConfig
from twinslot.config.watch import WatchConfig
from twinslot.core.errors import DeviceError
from twinslot.core.loaders import BACKENDS, Reach
from twinslot.core.model import PARTITION, SlotName

KIB: Final = 1 << 10
MIB: Final = 1 << 20
GIB: Final = 1 << 30
DAY: Final = 86_400
DROP_INS: Final = tuple(f"{directory}/config.d" for directory in DIRECTORIES)
HOOKS: Final = Path("/usr/lib/twinslot/hooks")  # where the packaged ones are installed (client/install.mk)
HEALTH_DIRECTORIES: Final = (Path("/etc/twinslot/health.d"), Path("/usr/lib/twinslot/health.d"))  # need not exist


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DeviceConfig:
    """Who this device is; an image must be made for it."""

    compatible: tuple[str, ...] = option("Product names that an image may be for; one string or a list.", low=1)
    hardware: str | None = option(
        'Hardware revision, e.g. "rev-c". An image that names revisions must name this one; absent: such an image is '
        "refused.",
        default=None,
    )
    variant: str | None = option(
        'Variant of the device type, e.g. "icu". An image that names variants must name this one; absent: such an '
        "image is refused.",
        default=None,
    )
    key: str = option(
        "The device's own key, where it is in a token: a PKCS #11 URI with `module-path` and `pin-source`. Empty: it "
        "is made at the first start, in a file beside the record.",
        default="",
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SlotsConfig:
    """Which place takes which payload. Only what stands here is ever written (S11)."""

    a: Mapping[str, Path] = option('Payload name = device of slot a, e.g. rootfs = "/dev/disk/by-partlabel/slot_a".')
    b: Mapping[str, Path] = option("The same payload names, with the devices of slot b.")
    types: Mapping[str, str] = option(
        'Payload name = type, for a payload that is no "partition"; a type that this client does not know is refused.',
        factory=lambda: types.MappingProxyType({}),
    )

    def of(self, slot: SlotName) -> Mapping[str, Path]:
        """The devices of one slot, by payload name."""
        devices: Mapping[str, Path] = getattr(self, slot)
        return devices

    def type_of(self, payload: str) -> str:
        """The type word of a payload; whether this client knows it is `payloads.select`'s."""
        return self.types.get(payload, PARTITION)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class BootConfig:
    """How the boot environment is reached."""

    backend: str = option("Which boot loader.", default="uboot", choices=tuple(BACKENDS))
    fw_env_config: Path = option("Where the environment's copies stand.", default=Path("/etc/fw_env.config"))
    default_env: Path | None = option(
        "Default environment, name=value lines, for when both copies are lost.",
        default=Path("/usr/lib/twinslot/default-env.txt"),
    )
    fw_setenv: str = option("Program that writes the environment (libubootenv).", default="fw_setenv")
    hook: Path | None = option(
        'Executable for `backend = "hook"` (bootloader_hooks/README.md); for a packaged one where it is, if elsewhere.',
        default=None,
    )
    timeout: float = option("One call of the program or hook.", default=30.0, unit="seconds", low=1, high=600)

    @property
    def executable(self) -> Path | None:
        """The hook that reaches the configured boot loader; None: U-Boot's own tools.

        Raises:
            DeviceError: `device.config-missing`: the hook backend without a hook.
        """
        reach = BACKENDS[self.backend]
        if reach is Reach.TOOLS:
            return None
        if self.hook is None and reach is Reach.CONFIGURED:
            raise DeviceError("'boot.backend' is 'hook' but 'boot.hook' names no executable", code="config-missing")
        return self.hook or HOOKS / self.backend


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TrustConfig:
    """Whose signatures count."""

    root: Path = option("First trusted TUF root.", default=Path("/usr/lib/twinslot/root.json"))
    roles: tuple[str, ...] = option("Roles that must each have signed the manifest.", low=1)
    build_time: dt.datetime | None = option(
        "When the root file system was built: no earlier now is believed.", default=None
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DecryptionConfig:
    """Opening encrypted images."""

    key: str = option(
        "File with the private key, X25519 or P-256 in PEM without a passphrase, mode 0400, or the PKCS #11 URI of one "
        "in a token, P-256, with `module-path` and `pin-source`: images that are encrypted for it can be installed. "
        "Empty: none can.",
        default="",
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class InstallConfig:
    """Limits and policy of an install."""

    reboot: str = option("Who starts the trial boot after arming.", default="manual", choices=("manual", "automatic"))
    max_image_size: int = option("Largest image.", default=16 * GIB, unit="bytes", low=MIB, high=1 << 44)
    max_group_size: int = option(
        "Largest group; bounds memory. The format allows no more.", default=MIB, unit="bytes", low=64 * KIB, high=MIB
    )
    allow_reinstall: bool = option("Accept the release that already runs.", default=False)
    keep_attachments: int = option(
        "Attachments of each slot's release that are kept on the data partition, for 'twinslot info --running'; the "
        "smaller ones first; 0: none.",
        default=4 * MIB,
        unit="bytes",
        low=0,
        high=16 * MIB,
    )
    nice: int = option(
        "CPU priority of an update, as nice(1): 19 gives way to everything, 0 leaves it as it is.",
        default=0,
        low=0,
        high=19,
    )
    io_priority: str = option(
        "How an update reads and writes beside others, as ionice(1): best-effort level 7 is low.",
        default="normal",
        choices=("normal", "low", "idle"),
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DeltaConfig:
    """Fetching only what is needed."""

    reuse: bool = option("Take from the slots what they hold already, once its digest was checked.", default=True)
    patches: bool = option(
        "Look beside an image for a patch against what runs, and else for a block list.", default=True
    )
    budget: int = option(
        "What one update may fetch over a network; 0: no bound.", default=0, unit="bytes", low=0, high=1 << 44
    )
    on_failure: str = option(
        "When slots and patch do not yield all that they should: take it from the whole image, or end the update.",
        default="full",
        choices=("full", "fail"),
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HttpConfig:
    """Time limits, retries and rates of a download."""

    connect_timeout: float = option(
        "Until a connection stands; as long again for TLS.", default=20.0, unit="seconds", low=1, high=600
    )
    read_timeout: float = option(
        "Silence within an answer, and its whole head.", default=60.0, unit="seconds", low=1, high=3600
    )
    rate_floor: int = option(
        "Slower than this over a read timeout counts as broken.", default=256, unit="bytes per second", low=0, high=GIB
    )
    retries: int = option("Further tries after a failure.", default=10, unit="tries", low=0, high=10_000)
    retry_wait: float = option("Longest pause between two tries.", default=300.0, unit="seconds", low=0, high=DAY)
    deadline: float = option(
        "The whole download; 0: as long as it takes.", default=0.0, unit="seconds", low=0, high=30 * DAY
    )
    ca_file: str = option("PEM file of the authorities to believe; empty: the system's.", default="")
    client_cert: str = option(
        "PEM file of our certificate; readable by the user `twinslot-relay`. Only the first address's host sees it. "
        "A renewed one counts from the next connection on.",
        default="",
    )
    client_key: str = option(
        "PEM file of its key, for the user `twinslot-relay` alone (mode 0400), or the PKCS #11 URI of a key in a "
        "token, with `module-path` and `pin-source`; empty: it stands with the certificate.",
        default="",
    )
    pins: tuple[str, ...] = option(
        "SHA-256 digests of public keys (SubjectPublicKeyInfo in DER, 64 hex digits), one of which each server must "
        "have, beside a certificate that holds; empty: any. Name a spare one.",
        default=(),
    )
    rate_limit: int = option(
        "Go no faster than this on average; 0: no limit.", default=0, unit="bytes per second", low=0, high=GIB
    )
    schemes: tuple[str, ...] = option(
        'Kinds of addresses that may be asked, redirects included. "http" is for servers without TLS, whose answers '
        "others see and delay; a server on this device itself may always be asked by it.",
        default=("https",),
        choices=("https", "http"),
        low=1,
    )
    proxy: str = option(
        "Address of an HTTP proxy, http://HOST:PORT without a password; absent: none. The environment is not asked.",
        default="",
    )
    no_proxy: tuple[str, ...] = option(
        "Hosts, domains, IP addresses and networks (10.0.0.0/8) that are asked without the proxy.", default=()
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HealthCommandConfig:
    """One program asked on trial; exit status 0 means well."""

    name: str = option("Unique name.")
    argv: tuple[str, ...] = option("Program and arguments; no shell.", low=1)
    timeout: float = option("Of one try.", default=30.0, unit="seconds", low=0.1, high=3600)
    retries: int = option("Further tries.", default=0, unit="tries", low=0, high=1000)
    delay: float = option("Pause between tries.", default=1.0, unit="seconds", low=0, high=600)
    required: bool = option("Failing ends the trial; otherwise it is only reported.", default=True)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HealthHttpConfig:
    """One GET to a service of this device."""

    name: str = option("Unique name.")
    url: str = option("http:// and 127.0.0.1, [::1] or localhost; nothing else.")
    status: int = option("The status that means well.", default=200, low=100, high=599)
    timeout: float = option("Of one try.", default=10.0, unit="seconds", low=0.1, high=3600)
    retries: int = option("Further tries.", default=5, unit="tries", low=0, high=1000)
    delay: float = option("Pause between tries.", default=2.0, unit="seconds", low=0, high=600)
    required: bool = option("Failing ends the trial; otherwise it is only reported.", default=True)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HealthConfig:
    """What a healthy device is. All checks must pass on trial before the commit."""

    units: tuple[str, ...] = option("systemd units that must be active.", default=())
    no_failed_units: bool = option("No unit may be in the state failed.", default=False)
    timeout: float = option(
        "Of one unit, and of one program in a directory.", default=60.0, unit="seconds", low=0.1, high=3600
    )
    directories: tuple[Path, ...] = option(
        "Every executable in these is a required check, whatever its name; an executable or a link to /dev/null in an "
        "earlier directory hides the same name in a later one. What is not asked is reported.",
        default=HEALTH_DIRECTORIES,
    )
    command: tuple[HealthCommandConfig, ...] = option("Further programs.", default=())
    http: tuple[HealthHttpConfig, ...] = option("Further HTTP services.", default=())


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TrialConfig:
    """The trial boot."""

    deadline: int = option(
        "Bounds all checks together. The deadline unit has its own TWINSLOT_DEADLINE in deadline.env; doctor compares.",
        default=300,
        unit="seconds",
        low=10,
        high=DAY,
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RecordConfig:
    """Where state lives, on the data partition."""

    directory: Path = option(
        "The database of updates, slots and audit, its copies, and the lists of what the slots hold.",
        default=Path("/var/lib/twinslot"),
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RetireConfig:
    """What 'twinslot retire' erases."""

    erase: tuple[str, ...] = option(
        "Files, and directories of which the content goes, when the device is taken out of service; beside the private "
        "keys, which are destroyed in any case. Not the record, which stays as evidence.",
        default=(),
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything local configuration says."""

    device: DeviceConfig = option("Who this device is.")
    slots: SlotsConfig = option("Which partition takes which payload.")
    trust: TrustConfig = option("Whose signatures count.")
    decryption: DecryptionConfig = option("Opening encrypted images.", factory=DecryptionConfig)
    boot: BootConfig = option("How the boot environment is reached.", factory=BootConfig)
    install: InstallConfig = option("Limits and policy.", factory=InstallConfig)
    acceptance: AcceptanceConfig = option("What an image must say of its change.", factory=AcceptanceConfig)
    delta: DeltaConfig = option("Fetching only what is needed.", factory=DeltaConfig)
    http: HttpConfig = option("Time limits, retries and rates of a download.", factory=HttpConfig)
    repository: RepositoryConfig = option("Where new releases are announced.", factory=RepositoryConfig)
    hawkbit: HawkbitConfig = option("The server that gives orders.", factory=HawkbitConfig)
    reports: ReportConfig = option("Who is told what became of updates.", factory=ReportConfig)
    health: HealthConfig = option("What a healthy device is.", factory=HealthConfig)
    trial: TrialConfig = option("The trial boot.", factory=TrialConfig)
    watch: WatchConfig = option("What the product says after a commit.", factory=WatchConfig)
    policy: PolicyConfig = option("When an update may go on.", factory=PolicyConfig)
    record: RecordConfig = option("Where state lives.", factory=RecordConfig)
    retire: RetireConfig = option("What is erased at the end.", factory=RetireConfig)

    @property
    def network(self) -> dict[str, Any]:
        """What a relay is told, as `transport.http.options.HttpSettings` has it."""
        http = dataclasses.asdict(self.http) | self.hawkbit.credential
        if self.trust.build_time:
            http["earliest"] = self.trust.build_time.timestamp()
        return http


def load(root: str | Path = "/") -> Config:
    """Read the configuration below `root` (paths inside it are taken as they stand).

    Raises:
        DeviceError: `device.config-*`, naming file, key, expected and found.
    """
    table, origins = merge(find(Path(root)))
    config = build(Config, table, origins)
    check_sections(config)
    return config
