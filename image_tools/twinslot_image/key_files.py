"""The key directory on disk: documents, private keys, labels; read here, and written all together or not at all."""

from __future__ import annotations

import fcntl
import json
import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_public_key,
)
from securesystemslib.signer import CryptoSigner, SSlibKey  # type: ignore[attr-defined]
from tuf.api.metadata import Root, Targets  # type: ignore[attr-defined]  # marked as export nowhere

from twinslot.core.errors import DeviceError, ImageError, Refusal, RefusedError
from twinslot.core.fields import Fields
from twinslot.trust.keys import SCHEMES, check_keys
from twinslot_image import PASSPHRASE
from twinslot_image.ed25519_point import is_ed25519_point
from twinslot_image.key_documents import read_document
from twinslot_image.key_encryption import encrypt_key
from twinslot_image.key_signer import signer_of
from twinslot_image.named_file import read_small
from twinslot_image.replacement import MODE_PUBLIC, MODE_SECRET, replacing, write_whole

ENCRYPTED = b"ENCRYPTED"
ID_SHOWN = 16  # digits of a key id in file names and in what people read
_ROOT_FILE = re.compile(r"([1-9][0-9]*)\.root\.json")


@dataclass(frozen=True, slots=True)
class NewFile:
    """One file that is to be written."""

    path: Path
    data: bytes = field(repr=False)
    mode: int = MODE_PUBLIC


@dataclass(frozen=True, slots=True)
class Documents:
    """The newest root and the targets document."""

    root: Root
    targets: Targets


@dataclass(frozen=True, slots=True)
class KeyDirectory:
    """`N.root.json` for each root version, `targets.json`, `labels.json`; and `ROLE.KEYID.pem` where the secrets are.

    Attributes:
        path: The directory, whose files are public.
        secrets: Where the private keys are; None: in `private` below it.
    """

    path: Path
    secrets: Path | None = None

    @property
    def private(self) -> Path:
        """Where the private keys are, as far as they are here."""
        return self.secrets or self.path / "private"

    @property
    def targets_file(self) -> Path:
        """The document that names the keys of the signing roles."""
        return self.path / "targets.json"

    def root_file(self, version: int) -> Path:
        """One root document."""
        return self.path / f"{version}.root.json"

    def key_file(self, role: str, key_id: str) -> Path:
        """Where a private key belongs."""
        return self.private / f"{role}.{key_id[:ID_SHOWN]}.pem"

    def key_files(self) -> list[Path]:
        """The private keys that are here, current or not."""
        return sorted(self.private.glob("*.pem")) if self.private.is_dir() else []

    def root_versions(self) -> list[int]:
        """The root documents that are here, by version."""
        found = [_ROOT_FILE.fullmatch(path.name) for path in self.path.iterdir()] if self.path.is_dir() else []
        return sorted(int(match[1]) for match in found if match)

    def roots(self) -> list[Root]:
        """Every root, oldest first.

        Raises:
            DeviceError: `device.keys`: there is none.
        """
        versions = self.root_versions()
        if not versions:
            hint = "make keys with 'twinslot-image keys init'"
            raise DeviceError(f"'{self.path}' is no key directory", code="keys", expected="1.root.json", hint=hint)
        return [read_document(self.root_file(version), Root) for version in versions]

    def targets(self) -> Targets:
        """The targets document.

        Raises:
            DeviceError: `device.keys`: it is not there.
        """
        if not self.targets_file.is_file():
            hint = "make keys with 'twinslot-image keys init'"
            raise DeviceError(f"'{self.path}' is no key directory", code="keys", expected="targets.json", hint=hint)
        document: Targets = read_document(self.targets_file, Targets)
        return document

    def documents(self) -> Documents:
        """What counts now.

        Raises:
            DeviceError: `device.keys`: a document is not there.
        """
        return Documents(self.roots()[-1], self.targets())

    def labels(self) -> dict[str, str]:
        """What keys are called by people, by key id."""
        path = self.path / "labels.json"
        try:
            found = json.loads(path.read_bytes()) if path.is_file() else {}
            if not isinstance(found, dict):
                raise TypeError
            labels = {str(key): str(label) for key, label in found.items()}
            json.dumps(labels, ensure_ascii=False).encode()
        except (ValueError, TypeError, RecursionError) as e:
            what, expected = f"'{path}' is damaged", "a JSON object: key ids, and a text for each"
            raise DeviceError(what, code="keys", expected=expected, hint="it only holds labels: remove it") from e
        return labels

    def labelled(self, labels: dict[str, str]) -> NewFile:
        """The file of labels with more in it."""
        data = json.dumps(self.labels() | labels, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        return NewFile(self.path / "labels.json", data.encode())


# Keys


def make_signer() -> tuple[CryptoSigner, Ed25519PrivateKey]:
    """A new key, nowhere but in memory."""
    key = Ed25519PrivateKey.generate()
    return CryptoSigner(key), key


def private_file(path: Path, key: Ed25519PrivateKey, passphrase: bytes | None) -> NewFile:
    """A private key as it is stored: encrypted when there is a passphrase."""
    if passphrase:
        plain = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        return NewFile(path, encrypt_key(plain, passphrase), MODE_SECRET)
    return NewFile(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), MODE_SECRET)


def load_signer(pem: bytes, where: str, passphrase: bytes | None = None) -> CryptoSigner:
    """A private key in PEM (PKCS 8): Ed25519, ECDSA on P-256 or P-384, or RSA of 3072 to 4096 bits.

    Raises:
        DeviceError: `device.key`: not a key, or the passphrase does not open it.
    """
    if b"PRIVATE KEY" not in pem:
        raise DeviceError(f"'{where}' holds no private key", code="key", expected="a private key in PEM")
    if ENCRYPTED in pem and not passphrase:
        hint = f"set {PASSPHRASE} to its passphrase"
        raise DeviceError(f"the private key in '{where}' is encrypted", code="key", hint=hint)
    try:
        signer = signer_of(pem, passphrase if ENCRYPTED in pem else None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as e:
        if ENCRYPTED in pem:
            hint = f"see whether {PASSPHRASE} is the passphrase of this key"
            raise DeviceError(
                f"the passphrase does not open the private key in '{where}'", code="key", hint=hint
            ) from e
        raise DeviceError(f"the private key in '{where}' is damaged or of another kind", code="key", hint=_KINDS) from e
    check_kind(signer.public_key, where)
    return signer


def load_public(path: Path) -> SSlibKey:
    """A public key in PEM, as hardware modules and `openssl pkey -pubout` write it.

    Raises:
        DeviceError: `device.key`: no public key, or of a kind that no device takes.
    """
    pem = read_small(path)
    if b"PRIVATE KEY" in pem:
        hint = f"make the public one with 'openssl pkey -in {path} -pubout'"
        raise DeviceError(f"'{path}' holds a private key", code="key", expected="a public key in PEM", hint=hint)
    try:
        key = SSlibKey.from_crypto(load_pem_public_key(pem))
    except (ValueError, TypeError, UnsupportedAlgorithm) as e:
        raise DeviceError(
            f"'{path}' holds no public key of a kind that signs",
            code="key",
            expected="a public key in PEM",
            hint=_KINDS,
        ) from e
    check_kind(key, str(path))
    return key


_KINDS = "keys are Ed25519, ECDSA on P-256 or P-384, or RSA of 3072 to 4096 bits"


def check_kind(key: Any, where: str) -> None:
    """By the very rules of a device.

    Raises:
        DeviceError: `device.key`: no device takes it.
    """
    what = f"no device takes the key in '{where}'"
    try:
        counts = check_keys(Fields({"keys": {key.keyid: key.to_dict()}}, "", ("keys",), "trust"), "keys")
    except ImageError as e:
        raise DeviceError(what, code="key", expected=e.expected, found=e.found, hint=_KINDS) from e
    if not counts[key.keyid]:
        raise DeviceError(what, code="key", expected=" or ".join(SCHEMES), found=key.scheme, hint=_KINDS)
    if key.keytype == "ed25519" and not is_ed25519_point(bytes.fromhex(key.keyval["public"])):
        what, found = f"no signature verifies by the key in '{where}'", "32 bytes that are no point of the curve"
        raise DeviceError(what, code="key", expected="an Ed25519 key", found=found, hint=_KINDS)


@dataclass(frozen=True, slots=True)
class Present:
    """Those of a role's private keys that are here, and why each of the others did not sign."""

    signers: tuple[CryptoSigner, ...]
    missing: tuple[str, ...]


def open_role(
    directory: KeyDirectory, role: str, key_ids: Iterable[str], threshold: int, passphrase: bytes | None
) -> Present:
    """The private keys of a role that are in the directory; as many as must sign are enough.

    Raises:
        DeviceError: `device.key`: fewer than `threshold` of them are here and can be opened.
    """
    signers: list[CryptoSigner] = []
    missing: list[str] = []
    for key_id in key_ids:
        path = directory.key_file(role, key_id)
        try:
            signer = load_signer(path.read_bytes(), str(path), passphrase)
        except FileNotFoundError:
            missing.append(f"'{path}' is not here")
        except DeviceError as e:
            missing.append(e.message)
        else:
            if signer.public_key.keyid == key_id:
                signers.append(signer)
            else:
                missing.append(f"'{path}' holds another key")
    if len(signers) < threshold:
        raise DeviceError(
            f"not enough private keys of role '{role}' to sign this",
            code="key",
            expected=f"{threshold} of {len(signers) + len(missing)}",
            found=str(len(signers)),
            hint="; ".join(missing),
        )
    return Present(tuple(signers), tuple(missing))


# Writing


@contextmanager
def one_at_a_time(directory: Path) -> Iterator[None]:
    """Wait until no other process changes this directory; from reading the documents to writing them (flock(2)).

    Raises:
        DeviceError: `device.keys`: it is no directory.
    """
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError) as e:
        hint = "make keys with 'twinslot-image keys init'"
        raise DeviceError(f"'{directory}' is no key directory", code="keys", hint=hint) from e
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def makes_alone(directory: Path) -> Iterator[None]:
    """Wait until no other process makes this directory of keys; from looking for keys to writing them (flock(2)).

    What stands above it is made, and removed again where nothing came of it.
    """
    above = directory.absolute().parent
    made: list[Path] = []
    _make_directories({above}, set(), made)
    try:
        with one_at_a_time(above):
            yield
    except BaseException:
        with suppress(OSError):  # somebody else has use for it
            for path in reversed(made):
                path.rmdir()
        raise


def check_private(directory: KeyDirectory, passphrase: bytes | None) -> None:
    """Before a private key is made: others must not get at it, and it must not be the only one without a passphrase.

    Raises:
        RefusedError: `refused.private-open` or `refused.not-encrypted`.
    """
    if not directory.private.exists():
        return
    mode = stat.S_IMODE(directory.private.stat().st_mode)
    if mode & 0o077:
        what, hint = f"others may get into '{directory.private}'", f"run 'chmod 700 {directory.private}'"
        raise RefusedError(Refusal("private-open", what, "mode 700", f"mode {mode:o}", hint))
    locked = [path for path in directory.key_files() if ENCRYPTED in path.read_bytes()]
    if locked and not passphrase:
        what = f"the private keys in '{directory.private}' are encrypted, and new ones would not be"
        raise RefusedError(Refusal("not-encrypted", what, hint=f"set {PASSPHRASE} to their passphrase"))


def write_together(files: Sequence[NewFile]) -> None:
    """Write them all, the last one last; when one cannot be written, none of the new ones is left.

    Survives a power cut as a directory in which the last files may still be the old ones.
    """
    before = {file.path: file.path.read_bytes() if file.path.exists() else None for file in files}
    made: list[Path] = []
    try:
        secret = {file.path.parent for file in files if file.mode == MODE_SECRET}
        _make_directories({file.path.parent for file in files}, secret, made)
        with ExitStack() as stack:
            for file in reversed(files):  # what is entered last is put in its place first
                stack.enter_context(replacing(file.path, file.mode)).write(file.data)
    except BaseException:
        _put_back(before)
        for path in reversed(made):
            path.rmdir()
        raise


def _put_back(before: dict[Path, bytes | None]) -> None:
    for path, data in before.items():
        if data is None:
            path.unlink(missing_ok=True)
        elif path.read_bytes() != data:
            write_whole(path, data)


def _make_directories(wanted: set[Path], secret: set[Path], made: list[Path]) -> None:
    """Those that are not there, outer ones first, each noted in `made`; into a secret one only its owner gets."""
    absent = {path for each in wanted for path in (each, *each.parents) if not path.exists()}
    for path in sorted(absent, key=lambda each: len(each.parts)):
        with suppress(FileExistsError):  # another process was faster
            path.mkdir(mode=0o700 if path in secret else 0o777)
            made.append(path)
