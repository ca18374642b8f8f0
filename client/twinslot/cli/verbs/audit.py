"""`audit`: give the audit away so that others can verify it, verify it, or seal it."""

from __future__ import annotations

import argparse
from pathlib import Path

from twinslot.app.updater import JsonObject
from twinslot.cli.host import Host, require_root
from twinslot.cli.output import Output
from twinslot.cli.render import audit_lines
from twinslot.core.errors import UsageError
from twinslot.core.text import printable


def audit(arguments: argparse.Namespace, host: Host, output: Output) -> int:
    """Do what the action says."""
    return {"export": _export, "verify": _verify, "seal": _seal}[arguments.action](arguments, host, output)


def _export(arguments: argparse.Namespace, host: Host, output: Output) -> int:
    require_root(host, "only root may read the audit and have it signed", "use 'sudo'")
    device = host.local(host.config(arguments.config_root))
    data = device.export_audit(arguments.file)
    if output.as_json:
        told = {"text": data.decode()} if arguments.file is None else {"file": str(arguments.file)}
        output.line({"type": "audit-export"} | told)
    elif arguments.file is None:
        output.data(data)
    return 0


def _verify(arguments: argparse.Namespace, _: Host, output: Output) -> int:
    """Takes no device: an export is verified anywhere."""
    from twinslot.queries.audit import verify_audit

    if arguments.file is None or not arguments.key:
        what = "'audit verify' takes a file and the public part of the device's key"
        raise UsageError(what, code="missing", hint="twinslot audit verify FILE --key PEM")
    return _show(verify_audit(arguments.file, arguments.key, arguments.anchor or []), arguments.file, output)


def _show(verdict: JsonObject, file: Path, output: Output) -> int:
    if output.as_json:
        output.line({"type": "audit", "file": str(file)} | verdict)
    else:
        output.text(map(printable, audit_lines(verdict)))
    return 0


def _seal(arguments: argparse.Namespace, host: Host, output: Output) -> int:
    require_root(host, "only root may seal the audit", "use 'sudo'")
    report = host.local(host.config(arguments.config_root)).seal_audit()
    if output.as_json:
        output.line({"type": "audit-seal", "sealed": report.sealed, "pruned": report.pruned})
        return 0
    output.text([f"sealed up to row {report.sealed}" if report.sealed else "the last row is a seal already"])
    if report.pruned is not None:
        output.text([f"dropped the rows up to {report.pruned}; a signed checkpoint stands for them"])
    return 0
