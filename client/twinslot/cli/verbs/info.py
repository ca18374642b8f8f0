"""`info`: what an image says of itself, and whether this device would take it.

Nothing past header and manifest is parsed in this process (S2): trust is the trust process's, and an attachment is
only held to its digest and passed on.
"""

from __future__ import annotations

import argparse
import base64
import os
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

from twinslot.app.updater import Front, JsonObject
from twinslot.cli.host import Host
from twinslot.cli.output import Output, error_lines
from twinslot.cli.progress import size_text
from twinslot.cli.render import table
from twinslot.cli.source import opened
from twinslot.core.attachments import find_attachments, readable_attachment
from twinslot.core.describe import describe_manifest, source_lines
from twinslot.core.errors import DeviceError, RefusedError, TransportError, UsageError
from twinslot.core.manifest import Attachment, Manifest, parse_manifest
from twinslot.core.text import printable

if TYPE_CHECKING:
    from twinslot.config.options import Config
    from twinslot.image.events import Event
    from twinslot.image.reader import Reader
    from twinslot.queries.preview import Preview

_CHUNK: Final = 64 * 1024  # bytes
UNCHECKED: Final = "this machine has no Twinslot configuration, so trust is not checked"


def info(arguments: argparse.Namespace, host: Host, output: Output) -> int:
    """Show an image or one of its attachments; ends with 4 when this device would refuse it."""
    if [arguments.image is not None, arguments.running, arguments.waiting].count(True) != 1:
        found = "none" if not (arguments.image or arguments.running or arguments.waiting) else "more than one"
        raise UsageError("an image, '--running' or '--waiting' is expected", code="missing", found=found)
    if arguments.image is None:
        return _kept(arguments, host, output)
    config = _configuration(host, arguments.config_root)
    with opened(arguments.image) as source:
        if isinstance(source, int):
            front, data = _read(source, arguments.attachment)
        else:
            front, data = _front_of_url(host, config, source, arguments.attachment)
    manifest = parse_manifest(front[1])
    preview = host.local(config).preview(front) if config else None
    if arguments.attachment is None:
        _show(manifest, preview, output)
    else:
        _show_attachment(manifest, arguments.attachment, data, preview, output)
    return RefusedError.exit_status if preview and preview.refusals else 0


def _kept(arguments: argparse.Namespace, host: Host, output: Output) -> int:
    """What came with the release that runs, or with the update that waits, from the data partition."""
    device = host.local(host.config(arguments.config_root))
    if arguments.attachment is not None:
        read = device.running_attachment if arguments.running else device.waiting_attachment
        attachment, data = read(arguments.attachment)
        _print_attachment(attachment, data, {}, output)
        return 0
    found = device.running_release() if arguments.running else device.waiting_release()
    if output.as_json:
        output.line({"type": "info"} | found)
        return 0
    output.text(map(printable, _lines(found["image"])))
    missing = [name for name, kept in found["kept"].items() if not kept]
    output.text([printable(f"not kept on this device: {', '.join(missing)}")] if missing else [])
    return 0


def _configuration(host: Host, root: str) -> Config | None:
    try:
        return host.config(root)
    except DeviceError as e:
        if e.code != "device.config-missing":
            raise
        return None


def _front_of_url(host: Host, config: Config | None, url: str, attachment: str | None) -> tuple[Front, bytes]:
    if config is None:
        what = "without a configuration an image is read from a file only"
        raise TransportError(what, code="file", found=url, hint="fetch the image first")
    device = host.local(config)
    return (device.head(url), b"") if attachment is None else device.attachment(url, attachment)


def _read(descriptor: int, attachment: str | None) -> tuple[Front, bytes]:
    """Trust section and manifest, and the bytes of one attachment; reads little more than it must."""
    from twinslot.image.events import AttachmentEvent, Head
    from twinslot.image.reader import Reader

    reader = Reader()
    events: list[Event] = []
    while not events:
        events = list(reader.feed(_chunk(reader, descriptor)))
    (head,) = events
    assert isinstance(head, Head)  # the reader's first event, and it waits there
    front = (head.trust, head.manifest)
    if attachment is None:
        return front, b""
    manifest = parse_manifest(head.manifest)
    wanted = readable_attachment(manifest, attachment)
    found = reader.proceed(manifest)
    while True:
        for event in found:
            if isinstance(event, AttachmentEvent) and event.attachment.name == wanted.name:
                return front, event.data
        found = reader.feed(_chunk(reader, descriptor))


def _chunk(reader: Reader, descriptor: int) -> bytes:
    """The next bytes of the image.

    Raises:
        ImageError: `image.truncated`.
        TransportError: The file cannot be read.
    """
    try:
        data = os.read(descriptor, _CHUNK)
    except OSError as e:
        raise TransportError("the image cannot be read", code="read", found=e.strerror) from e
    if not data:
        reader.close()  # says which section ends too early
    return data


def _show(manifest: Manifest, preview: Preview | None, output: Output) -> None:
    if output.as_json:
        output.line({"type": "info", "image": describe_manifest(manifest)} | _opinion(preview))
        return
    output.text(map(printable, _lines(describe_manifest(manifest))))
    output.text([""])
    output.text(map(printable, _opinion_lines(preview)))


def _opinion(preview: Preview | None) -> JsonObject:
    """What this device thinks of it; null where nobody was asked."""
    if preview is None:
        return {"trusted": None, "accepted": None, "trust": None, "reasons": [], "notes": [UNCHECKED]}
    return {
        "trusted": preview.verdict is not None,
        "accepted": not preview.refusals,
        "trust": preview.verdict.summary() if preview.verdict else None,
        "reasons": [reason.as_dict() for reason in preview.refusals],
        "notes": list(preview.notes),
    }


def _lines(image: dict[str, Any]) -> Iterator[str]:
    yield f"{image['product']} {image['release']} ({image['type']})"
    yield f"  sequence  {image['sequence']}, security epoch {image['epoch']}"
    yield f"  for       {', '.join(image['compatible'])}"
    yield from (f"  {key:<8}  {', '.join(image[key])}" for key in ("hardware", "variants") if image[key])
    yield from (f"  {label:<8}  {text}" for label, text in source_lines(image))
    yield f"  built     {image['built']}, expires {image['expires']}"
    yield f"  checks    {', '.join(image['checks']) or 'none'}"
    yield f"  manifest  {image['manifest']}"
    yield f"  signed    by {', '.join(key[:8] for key in image['signatures']) or 'nobody'} (as the image claims)"
    rows = [[p["name"], p["type"], size_text(p["size"]), size_text(p["stored_size"])] for p in image["payloads"]]
    yield from ("", *table(("payload", "type", "size", "stored"), rows))
    if image["attachments"]:
        yield from ("", *attachment_table(image["attachments"]))


def attachment_table(attachments: Iterable[JsonObject]) -> Iterator[str]:
    """Documents of a release, as `describe_manifest` has them."""
    rows = [[a["name"], a["type"] or "-", size_text(a["size"]), a["media_type"]] for a in attachments]
    yield from table(("attachment", "type", "size", "media type"), rows)


def _opinion_lines(preview: Preview | None) -> Iterator[str]:
    if preview is None:
        yield f"note: {UNCHECKED}"
        return
    if preview.verdict is not None:
        signed = (f"{role.role} {len(role.key_ids)} of {role.threshold}" for role in preview.verdict.roles)
        yield f"trusted: signed by {', '.join(signed)}"
    else:
        yield "NOT TRUSTED by this device"
    if preview.refusals:
        yield "this device would refuse it:"
        yield from (f"  {line.removeprefix('twinslot: ')}" for line in error_lines(RefusedError(preview.refusals)))
    else:
        yield "this device would take it"
    yield from (f"note: {note}" for note in preview.notes)


def _show_attachment(manifest: Manifest, name: str, data: bytes, preview: Preview | None, output: Output) -> None:
    _print_attachment(find_attachments(manifest, name), data, _opinion(preview), output)
    if output.as_json:
        return
    if preview is None:
        output.aside(f"twinslot: {UNCHECKED}\n")
    elif preview.verdict is None:
        output.aside("twinslot: this device does not trust whoever made this\n")
        output.aside("".join(f"{line}\n" for line in error_lines(RefusedError(preview.refusals))))


def _print_attachment(attachment: Attachment, data: bytes, opinion: JsonObject, output: Output) -> None:
    if output.as_json:
        described = {"name": attachment.name, "size": attachment.size, "media_type": attachment.media_type}
        content = {"sha256": attachment.digest, "base64": base64.b64encode(data).decode()}
        output.line({"type": "attachment"} | described | content | opinion)
    elif sys.stdout is not None and sys.stdout.isatty():  # what it says must not steer a terminal
        output.text(printable(line) for line in data.decode(errors="replace").expandtabs().splitlines())
    else:
        output.data(data)
