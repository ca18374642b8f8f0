"""Where the device's own key stands: two files beside the record, on the data partition.

`device-key.pem` is the private key, PKCS 8, mode 0400, root's: no worker's user can open it (S22), and in the units of
the workers the whole directory is out of sight. `device-key.pub` is the public part, for everybody. Of a key in a token
there is the public part alone.

A power cut leaves the key whole or not at all (key_file.py). A cut between key and public part leaves the key alone,
and the next `init` writes the public part from it.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from twinslot.core.device_key import PEM_MAX, PublicPart
from twinslot.core.errors import DeviceError
from twinslot.storage.key_file import forget_fresh, overwrite, place
from twinslot.storage.sync import make_directory

KEY: Final = "device-key.pem"
PUBLIC: Final = "device-key.pub"


class DeviceKeyFiles:
    """Both files.

    Args:
        directory: `record.directory`.
        in_token: `device.key`, the URI of a key in a token: then the first file is not there; empty: it is.
    """

    def __init__(self, directory: Path, in_token: str) -> None:
        self._directory, self.in_token = directory, in_token
        self.key, self.public_path = directory / KEY, directory / PUBLIC

    def private(self) -> bytes | None:
        """The private key as it stands; None: there is none.

        Raises:
            DeviceError: `device.device-key`: it cannot be read; `device.device-key-rights`: others may read it.
        """
        try:
            descriptor = os.open(self.key, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        except OSError as e:
            raise _unusable(f"the device key '{self.key}' cannot be opened", e) from e
        try:
            self._require_private(os.fstat(descriptor))
            return os.read(descriptor, PEM_MAX)
        except OSError as e:
            raise _unusable(f"the device key '{self.key}' cannot be read", e) from e
        finally:
            os.close(descriptor)

    def keep(self, pem: bytes) -> bool:
        """Store a new private key; False: another one is there already, and stays.

        After True it survives a power cut; after a cut within, it is whole or not there.

        Raises:
            DeviceError: `device.device-key`: it cannot be written.
        """
        try:
            return place(self.key, pem)
        except OSError as e:
            raise _unusable(f"the device key '{self.key}' cannot be written", e) from e

    def public(self) -> PublicPart | None:
        """The public part, for any user; None: there is none, or no key was made yet.

        Raises:
            DeviceError: `device.device-key`: it is damaged or cannot be read.
        """
        try:
            with self.public_path.open("rb") as file:
                return PublicPart.from_pem(file.read(PEM_MAX))
        except FileNotFoundError:
            return None
        except OSError as e:
            raise _unusable(f"'{self.public_path}' cannot be read", e) from e

    def publish(self, public: PublicPart) -> None:
        """Write the public part whole, readable for all.

        Raises:
            DeviceError: `device.device-key`: it cannot be written.
        """
        try:
            make_directory(self._directory, 0o755)
            forget_fresh(self.key)
            forget_fresh(self.public_path)
            overwrite(self.public_path, public.pem.encode(), 0o444)
        except OSError as e:
            raise _unusable(f"'{self.public_path}' cannot be written", e) from e

    # keeps: S22
    def _require_private(self, status: os.stat_result) -> None:
        mode = stat.S_IMODE(status.st_mode)
        if stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and not mode & 0o077:
            return
        raise DeviceError(
            f"the device key '{self.key}' may be read or replaced by others",
            code="device-key-rights",
            expected=f"a file of user {os.geteuid()} with mode 0400",
            found=f"{stat.filemode(status.st_mode)} of user {status.st_uid}",
            hint="who could read it may sign as this device: remove it, and 'twinslot device-key init' makes another",
        )


def _unusable(message: str, error: OSError) -> DeviceError:
    hint = "is the data partition mounted and healthy? Only root reads and makes the key"
    return DeviceError(message, code="device-key", found=error, hint=hint)
