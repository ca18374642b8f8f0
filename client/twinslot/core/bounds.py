"""How long what comes from outside may be. Apart from the formats: a process that reads none need not load them."""

from __future__ import annotations

from typing import Final

DIGEST_SIZE: Final = 32  # bytes of a SHA-256 (FIPS 180-4, section 1)

MANIFEST_MAX: Final = 256 * 1024  # bytes
GROUP_SIZE_MIN: Final = 4 * 1024  # bytes; one page, one file-system block
GROUP_SIZE_MAX: Final = 1024 * 1024  # bytes; what a reader holds at once
GROUP_SIZE_DEFAULT: Final = 64 * 1024  # bytes
GROUPS_MAX: Final = 256 * 1024  # groups in one image: 16 GiB at the default size, lists of 8 MiB and tables of 10 MiB
PAYLOADS_MAX: Final = 16
ATTACHMENTS_MAX: Final = 32
ATTACHMENT_SIZE_MAX: Final = 4 * 1024 * 1024  # bytes
ATTACHMENTS_SIZE_MAX: Final = 16 * 1024 * 1024  # bytes, all together
TRUST_MAX: Final = 1024 * 1024  # bytes of an image's trust section (docs/image-format.md section 4)

ENTRY_SIZE: Final = 40  # bytes of one stored-table entry: 1 encoding + 3 reserved + 4 length + 32 digest
DOCUMENT_LIMIT: Final = 5_000_000  # bytes of one document of a repository; python-tuf's bound for a targets document
