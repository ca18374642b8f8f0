"""What `--help` of each command says: whole sentences, and examples that work as they stand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Help:
    """Of one command: what it does, and whole command lines."""

    description: str
    examples: tuple[str, ...]


UNITS: Final = ("boot", "service", "watch")  # called by systemd units alone; not in the list of commands

TOP: Final = (
    "Update this device with a signed image, try the new system on trial, and go back when it is not well. "
    "'twinslot COMMAND --help' explains a command, twinslot(1) all of them."
)
EXAMPLES: Final = ("twinslot status", "twinslot install --reboot pump-2026.11.twin", "twinslot doctor")

VERBS: Final[Mapping[str, Help]] = {
    "install": Help(
        (
            "Check who signed the image and whether this device takes it, write it into the slot that does not "
            "run, read it back, and make that slot start on trial at the next boot. Until every question is "
            "answered, nothing of the slot changes. Ctrl-C stops it in a defined state."
        ),
        (
            "twinslot install pump-2026.11.twin",
            "twinslot install --reboot https://updates.example/pump-2026.11.twin",
            "twinslot install --dry-run https://updates.example/pump-2026.11.twin",
        ),
    ),
    "activate": Help(
        (
            "Make the slot that 'install --no-activate' has written start on trial at the next boot. A slot that "
            "was written in an earlier boot is read back first. When the slot is to start already, '--reboot' "
            "reboots into it."
        ),
        (
            "twinslot activate",
            "twinslot activate --reboot",
            "sudo twinslot activate --outside-window",
        ),
    ),
    "cancel": Help(
        (
            "Stop the install that the service is at, or drop an installed update that was not booted yet. The "
            "slot stays unbootable until the next install."
        ),
        ("twinslot cancel",),
    ),
    "approve": Help(
        (
            "Agree to the update that waits, where '[policy.consent]' asks people. It is armed at once if nothing else "
            "stands against it. Its name has to be given, so that nobody agrees to another one than they mean."
        ),
        ("twinslot approve 2026.11",),
    ),
    "hold": Help(
        (
            "Put the update that waits off, where '[policy.consent]' asks people. All holds together end after the "
            "days that the configuration allows, whoever approves in between and whatever newer release comes."
        ),
        (
            "twinslot hold --until 2d",
            "twinslot hold --until 12h",
        ),
    ),
    "continue": Help(
        (
            "Ask the device's own policy again for an update that waits: it is armed, and the device restarts into it, "
            "when it is not in use, a window is open and nothing else of '[policy]' stands against it. A timer does "
            "this by itself; 'twinslot status' says what an update waits for."
        ),
        (
            "sudo twinslot continue",
            "sudo twinslot continue --json",
        ),
    ),
    "commit": Help(
        (
            "On trial: run the health checks and keep the new system when the required ones pass; when one fails, "
            "the device goes back. The units do this by themselves after each start on trial."
        ),
        (
            "twinslot commit",
            "twinslot commit --force 'sensor is being calibrated'",
        ),
    ),
    "rollback": Help(
        (
            "On trial: leave the new system at once and reboot into the old one. After a commit: read the other "
            "slot back and boot it as a trial."
        ),
        (
            "twinslot rollback --reason 'alarm too quiet'",
            "twinslot rollback --no-reboot",
        ),
    ),
    "status": Help(
        (
            "Show what both slots hold, the update that is under way, how the last one ended, and which releases "
            "are refused because they rolled back here. Changes nothing and needs no rights."
        ),
        (
            "twinslot status",
            "twinslot status --json",
        ),
    ),
    "poll": Help(
        (
            "Ask the repository of '[repository]' what there is for this device, and whether that is trusted and "
            "fresh. Nothing is installed, unless what runs is recalled and 'repository.on_recall' says so; 'twinslot "
            "status' shows what is offered. A directory may have a copy of it, on a stick for example. Ends with "
            "the status of the error when there is no trusted, fresh answer."
        ),
        (
            "sudo twinslot poll",
            "sudo twinslot poll /media/stick/fleet",
            "sudo twinslot poll --json",
        ),
    ),
    "scrub": Help(
        (
            "Read the slot that this device goes back to, every byte of it, and compare it with what was installed. "
            "'twinslot status' shows when that was done last. twinslot-scrub.timer does so once a week. Ends with 6 "
            "when the slot is not sound."
        ),
        (
            "sudo twinslot scrub",
            "sudo twinslot scrub --json",
        ),
    ),
    "report": Help(
        (
            "Tell the destinations of '[reports]' what the audit has since the last time, signed by the device's own "
            "key: how updates ended, what runs, and figures. Nothing leaves while a system is on trial. With "
            "'--output' it is written into a directory instead, such as on a stick; 'twinslot-image reports' reads it."
        ),
        (
            "sudo twinslot report",
            "sudo twinslot report --output /media/stick",
        ),
    ),
    "metrics": Help(
        (
            "Print figures as OpenMetrics text: what runs, how updates ended, bytes and seconds, health checks, wear "
            "of the medium. With '--output' a file is replaced by them, for the textfile collector of a node exporter. "
            "Needs no rights."
        ),
        (
            "twinslot metrics",
            "twinslot metrics --output /var/lib/prometheus/node-exporter/twinslot.prom",
        ),
    ),
    "retire": Help(
        (
            "Take this device out of service: a last row in the audit, its private keys destroyed, the data of "
            "'retire.erase' erased, and every update refused from then on. Prints a receipt that is signed before the "
            "key goes, and keeps it beside the record. Called again it goes on, and prints the same. Needs root."
        ),
        ("sudo twinslot retire --reason 'sold' --yes",),
    ),
    "explain": Help(
        (
            "Show what became of an update, row by row, and ask the table of the life cycle again for each: which "
            "state the event leads to, and what is done on the way. Where rows and table differ is said, and ends the "
            "command with 6. Changes nothing. Needs root."
        ),
        (
            "sudo twinslot explain last",
            "sudo twinslot explain 3f9a",
        ),
    ),
    "attest": Help(
        (
            "Print a statement that is signed with the device's key: what both slots hold, what runs, what ran, the "
            "floors, the roots of trust, when the way back was last proven, where the audit ends, and what 'doctor' "
            "finds. 'twinslot-image verify-attestation' verifies it. Changes nothing. Needs root, or the service."
        ),
        (
            "sudo twinslot attest",
            "sudo twinslot attest --nonce 6f1e22ab90",
        ),
    ),
    "audit": Help(
        (
            "Give the audit to others: 'export' writes every row of it and, signed with the device's key, where it "
            "ends. 'verify' says whether such a file is what the device wrote, on any machine that has the public "
            "part of its key. 'seal' has the key vouch for the rows up to now; twinslot-seal.timer does so once a "
            "day. 'export' and 'seal' need root."
        ),
        (
            "sudo twinslot audit export pump-7.audit",
            "twinslot audit verify pump-7.audit --key pump-7.pem",
        ),
    ),
    "info": Help(
        (
            "Show what an image says of itself, who signed it, and whether this device would take it, with every "
            "reason against it at once. With '--running' what came with the release that runs, with '--waiting' what "
            "came with the update that waits; neither needs the image. "
            "Changes nothing. Ends with 4 when the device would refuse the image."
        ),
        (
            "twinslot info pump-2026.11.twin",
            "twinslot info pump-2026.11.twin --attachment release-notes.md",
            "twinslot info --running --attachment known-anomalies",
            "twinslot info --waiting --attachment release-notes",
        ),
    ),
    "history": Help(
        (
            "Show past updates, the newest first: what was installed, how it ended, and why. Changes nothing and "
            "needs no rights."
        ),
        (
            "twinslot history",
            "twinslot history --number 5",
        ),
    ),
    "log": Help(
        (
            "Show the audit rows of the record: what was done here, by whom, what was found and what was refused, the "
            "newest last. Changes nothing."
        ),
        (
            "twinslot log",
            "twinslot log --since 2h",
            "twinslot log --follow --json",
        ),
    ),
    "doctor": Help(
        (
            "Look at everything that updates depend on, from the boot environment to the clock, and say what is "
            "wrong, the worst first, with a hint for each. Changes nothing. Ends with 6 when there is a fault."
        ),
        (
            "sudo twinslot doctor",
            "sudo twinslot doctor --json",
        ),
    ),
    "device-key": Help(
        (
            "Show the public part of this device's own key, with which it signs what leaves it, or make the key. "
            "'init' needs root, makes it once, and shows a key that is there already. 'show' needs no rights."
        ),
        (
            "twinslot device-key show",
            "sudo twinslot device-key init",
        ),
    ),
    "decryption-key": Help(
        (
            "Show the public half of the key that '[decryption] key' names, for which images can be encrypted, or make "
            "the key. 'init' makes an X25519 key where there is no file, and shows one that is there already. A key in "
            "a token is made elsewhere. Only root may."
        ),
        (
            "sudo twinslot decryption-key show",
            "sudo twinslot decryption-key init",
        ),
    ),
    "check": Help(
        (
            "Run the health checks and show what they found. On trial, a failed required check ends the trial; "
            "otherwise nothing follows from them but exit status 4."
        ),
        ("sudo twinslot check",),
    ),
    "boot": Help(
        (
            "Find out what the last start of the system means for an update, repair the boot environment, and "
            "record it. For twinslot-boot.service; it may be repeated."
        ),
        ("sudo twinslot boot",),
    ),
    "watch": Help(
        (
            "Look at the signals of '[watch]' once, while the release that was committed last is watched, and do what "
            "follows from them. For twinslot-watch.timer."
        ),
        ("sudo twinslot watch",),
    ),
    "service": Help(
        "Be the service on the system bus until it is idle. For twinslot.service, which the bus starts.",
        ("sudo twinslot service",),
    ),
}
