"""`poll`: what the repository has for this device."""

from __future__ import annotations

import argparse
import logging
from typing import TYPE_CHECKING

from twinslot.cli.host import Host, require_root, updater
from twinslot.cli.output import Output
from twinslot.cli.render import repository_lines
from twinslot.cli.source import opened
from twinslot.core.errors import TwinslotError
from twinslot.core.outcome import outcome_of
from twinslot.core.progress import quiet
from twinslot.core.recall import Action
from twinslot.core.requests import InstallOptions, RollbackOptions
from twinslot.core.text import printable

if TYPE_CHECKING:
    from twinslot.app.updater import JsonObject
    from twinslot.config.options import Config

log = logging.getLogger(__name__)


def poll(arguments: argparse.Namespace, host: Host, output: Output) -> int:
    """Ask, and show what is known from here on.

    Raises:
        TwinslotError: Why there is no trusted, fresh answer.
    """
    require_root(host, "only root may ask the repository", "use 'sudo'; 'twinslot status' shows what is known")
    config = host.config(arguments.config_root)
    device = host.local(config)
    directory = arguments.directory.absolute() if arguments.directory else None
    report = device.poll(if_due=arguments.if_due, service_workers=not arguments.no_service, directory=directory)
    known = device.status()["repository"]
    done = _obey(arguments, host, config, known) if known and known["recall_answer"] else None
    if report.error is not None:
        raise report.error
    if output.as_json:
        output.line({"type": "poll", "asked": report.asked, "wait": report.wait, "repository": known, "recall": done})
    elif report.asked:
        output.text(map(printable, repository_lines(known)))
    return 0


# keeps: REQ-REP-02
def _obey(arguments: argparse.Namespace, host: Host, config: Config, known: JsonObject) -> JsonObject:
    """Do what local configuration wants done about a recall; asked again by the next poll until it is done.

    The device is asked as by every caller, so all gates and checks are those of every caller.
    """
    action, why = Action(known["recall_answer"]["action"]), "a recall by the maker"
    if action is Action.NOTHING:
        return {"action": action, "outcome": None, "error": None}
    try:
        with updater(arguments, host, config) as device:
            if action is Action.CANCEL:
                found = device.cancel()
            elif action is Action.BACK:
                restart = config.install.reboot == "automatic"
                found = device.rollback(RollbackOptions(reason=why, reboot=restart), quiet)
            else:
                with opened(known["recall_answer"]["image"]) as image:  # a file, where a stick has it
                    found = device.install(image, InstallOptions(), quiet)
    except TwinslotError as e:
        log.warning("the recalled release is still there: %s", e)
        return {"action": action, "outcome": None, "error": e.as_dict()}
    return {"action": action, "outcome": outcome_of(found), "error": None}
