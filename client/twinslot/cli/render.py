"""What people read: status, history, and how an update stands. Text in lines, no printing, nothing heavy imported.

Input is the JSON-ready data of `engine.report`, so that both outputs say the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from twinslot.core.errors import Refusal
from twinslot.core.health import failed_checks
from twinslot.core.lifecycle import State
from twinslot.core.model import CheckResult, Reason
from twinslot.core.stored import is_known, word
from twinslot.core.transaction import Outcome, Transaction

if TYPE_CHECKING:
    from twinslot.core.replay import UpdateAccount

STATES: Final = {
    State.IDLE: "nothing is under way",
    State.WRITING: "is being written to slot {target}",
    State.WRITTEN: "waits in slot {target}; 'twinslot activate' makes it start",
    State.CHECKING: "in slot {target} is being read back",
    State.ARMED: "starts on trial from slot {target} at the next boot",
    State.TRIAL: "runs on trial in slot {target}",
    State.COMMITTING: "in slot {target} is being committed",
    State.LEAVING: "in slot {target} is being left; the next boot is slot {source}",
}

GOES_ON: Final = "waits in slot {target} and goes on by itself; 'twinslot status' says what for"  # written, and wanted

REASONS: Final = {
    Reason.LOAD_FAILED: "it did not load",
    Reason.BOOTLIMIT: "it ran out of tries",
    Reason.DEADLINE: "it did not commit in time",
    Reason.UNHEALTHY: "a required health check failed",
    Reason.OPERATOR: "an operator asked to go back",
    Reason.NOT_BOOTED: "after a restart the old system was up again, and the boot loader does not say why",
    Reason.RESETS: "it came up each time and was reset too often",
    Reason.ENVIRONMENT: "the boot environment was lost",
    Reason.INTERRUPTED: "power or process went away",
    Reason.CANCELLED: "it was cancelled",
    Reason.STOPPED: "the update service was stopped while it was written, as at a shutdown",
    Reason.REPLACED: "a newer install replaced it before it was booted",
    Reason.OVERTAKEN: "the boot environment went on to another update",
    Reason.NEWER_CLIENT: "a newer client left it in a state that this client does not know",
    Reason.WATCH: "its signals failed after the commit",
    Reason.FAILED: "an error ended it before the new system was booted",
}

MARKS: Final = {"fine": "ok", "warning": "WARN", "fault": "FAULT", "unknown": "?"}  # by severity of a finding


def status_lines(status: dict[str, Any]) -> Iterator[str]:
    """Slots in a table, then what is worth a line."""
    yield from slot_table(status)
    yield ""
    floors = status["floors"]
    yield f"floors    sequence {floors['sequence']}, security epoch {floors['epoch']}, trust root {floors['root']}"
    yield f"update    {_under_way(status)}"
    if status.get("retired"):
        yield "retired   this device was taken out of service: it takes no update any more"
    yield from policy_lines(status.get("policy"))
    if (last := status["last"]) and last["outcome"]:
        first, *more = ended_lines(Transaction.from_dict(last))
        yield f"last      {first}"
        yield from (f"        {line}" for line in more)
    if failed := status["failed"]:
        named = ", ".join(f"sequence {sequence} ({reason_text(reason)})" for sequence, reason in failed.items())
        yield f"refused   {named}: rolled back here; '--retry' allows {'it' if len(failed) == 1 else 'them'}"
    yield from _environment_lines(status)
    if (fallback := status.get("fallback")) and fallback["slot"]:
        yield f"fallback  {fallback_text(fallback)}"
    if key := status.get("device_key"):
        yield f"key       {key['algorithm']} {key['fingerprint']}"
    yield from repository_lines(status.get("repository"))


def account_lines(account: UpdateAccount) -> Iterator[str]:
    """An update, row by row, with what the table had done."""
    yield f"update {account.transaction}"
    if (said := account.accepted) and "manifest" in said:
        yield f"image  {said.get('release')} (sequence {said.get('sequence')}), manifest {said['manifest']}"
    for each in account.steps:
        done = f" [{', '.join(each.effects)}]" if each.effects else ""
        moved = f"{each.before} -> {each.after}" if each.before is not each.after else str(each.after)
        yield f"  {each.row.at} {each.row.number:>5}  {each.row.event:<16} {moved}{done}"
        if each.differs:
            yield f"                              DIFFERS: {each.differs}"
    yield f"it ended as '{account.outcome}'" if account.outcome else f"it is open, in state '{account.state}'"
    if account.differences:
        yield f"rows and table differ in {len(account.differences)} places"
    else:
        yield "the table says the same of every row"


def audit_lines(verdict: dict[str, Any]) -> Iterator[str]:
    """What a verified audit comes to."""
    last = int(verdict["end"].partition("-")[0])
    yield f"the audit of device {verdict['device']} is whole and as it was written"
    yield f"rows      {verdict['first']} to {last}, exported {when(verdict['at'])}"
    if verdict["checkpoint"]:
        yield f"before    rows up to {verdict['first'] - 1} were dropped; a signed checkpoint stands for them"
    yield f"sealed    {'up to row ' + str(verdict['sealed']) if verdict['sealed'] else 'no row'}"
    if verdict["foreign_seals"]:
        yield f"          {verdict['foreign_seals']} seals are by keys that were not given"
    anchor = f"at row {verdict['anchor'].partition('-')[0]}" if verdict["anchor"] else "not in the boot environment"
    yield f"anchored  {anchor}"
    for each in verdict["breaks"]:
        kind, before = each["fields"].get("kind"), str(each["fields"].get("anchor")).partition("-")[0]
        yield f"BREAK     row {each['number']} ({when(each['at'])}): {kind}; the device knew of {before} rows before"


def fallback_text(fallback: dict[str, Any]) -> str:
    """Whether the way back is proven, in a line."""
    if fallback["proven"] is None:
        return f"not proven: {fallback['why']}"
    return f"slot {fallback['slot']} was read whole {when(fallback['proven'])}, last start {when(fallback['started'])}"


def repository_lines(repository: dict[str, Any] | None) -> Iterator[str]:
    """What the repository has, and whether it can be believed that this is all; None: there is no repository."""
    if repository is None:
        return
    offer = repository["offer"]
    if offer is not None:
        release = f"{offer['release']['name']} (sequence {offer['release']['sequence']})"
        waits = f", not yet: {offer['why_not']}" if offer["why_not"] else f"; 'twinslot install {offer['image']}'"
        yield f"offered   {release}{waits}"
        if offer.get("dead_end"):
            yield "          dead end: no release that is offered can follow the one that runs; ask the maker"
    elif repository["fresh"]:
        yield "offered   nothing newer"
    for each in repository.get("recalled") or ():
        where = "runs" if each["running"] else f"is in slot {each['slot']}"
        yield f"RECALLED  {each['release']['name']} (sequence {each['sequence']}), which {where}: {each['reason']}"
    if halted := repository.get("halted"):
        yield f"HALTED    the release of the update that waits: {halted}"
    if answer := repository.get("recall_answer"):
        yield from _recall_lines(answer)
    if repository["stale"]:
        yield f"source    stale ({repository['stale']}): last fresh {when(repository['fresh'] or '') or 'never'}"
    elif repository["error"]:
        yield f"source    the last poll failed: {repository['error']['message']}"


def policy_lines(policy: dict[str, Any] | None) -> Iterator[str]:
    """What the update waits for, who uses the device, and when windows open; None: a client that knows of none."""
    if policy is None:
        return
    waits = policy["waits"]
    if waits is not None:
        until = f"; until {when(waits['until'])}" if waits["until"] else ""
        reasons = waits["reasons"] or [{"message": "it is asked in a moment"}]
        yield from (f"waits     {Refusal.from_dict(reason)}{until}" for reason in reasons)
    if consent := policy.get("consent"):
        yield f"consent   {_consent_text(consent)}"
    for each in policy["inhibitors"]:
        yield f"in use    by {each['who']}: {each['why']} (no {', '.join(each['what'])})"
    for name, window in policy["windows"].items():
        if window is not None:
            yield f"window    to {name}: {_window_text(window)}"
    if any(policy["windows"].values()) and not policy["clock_known"]:
        yield "clock     it is not known, so that windows go by 'policy.clock_unknown'"


def _consent_text(consent: dict[str, Any]) -> str:
    days = f"waited for {consent['counted'] / 86_400:.1f} of at most {consent['limit'] / 86_400:g} days"
    said = f"release {consent['approved']} is approved by {consent['by']}" if consent["approved"] else ""
    said = f"held for {consent['held'] / 3600:.1f} h by {consent['by']}" if consent["held"] else said
    return f"{consent['mode']}; {said + ', ' if said else ''}{days}"


def _window_text(window: dict[str, Any]) -> str:
    if window["open"]:
        return f"open until {when(window['until'])}" if window["until"] else "open"
    return f"closed until {when(window['next'])}" if window["next"] else "closed"


def _recall_lines(answer: dict[str, Any]) -> Iterator[str]:
    """What the device does about it."""
    if answer["why_not"]:
        yield f"          it stays for now: {answer['why_not']}"
    elif answer["action"] == "nothing":
        yield "          'repository.on_recall' leaves it to you: 'twinslot rollback', or install another release"
    else:
        yield f"          the next poll will try to {_RECALLED[answer['action']]}"


_RECALLED: Final = {
    "back": "go back to the other slot",
    "cancel": "drop the update that waits",
    "install": "install the successor",
}


def slot_table(status: dict[str, Any]) -> Iterator[str]:
    """One row for each slot; `*` marks the one that runs."""
    yield from table(
        (" ", "slot", "state", "release", "sequence", "epoch", "installed"),
        [_slot_row(name, slot, _coming(status, name)) for name, slot in status["slots"].items()],
    )
    if not any(slot["running"] for slot in status["slots"].values()):
        yield "  no configured slot holds the root file system; see 'twinslot doctor'"


_HOLDS: Final = (State.WRITTEN, State.CHECKING, State.ARMED, State.TRIAL, State.COMMITTING, State.LEAVING)


def _coming(status: dict[str, Any], name: str) -> dict[str, Any] | None:
    """The release that an update has written into this slot, and that is not committed yet."""
    update = status["transaction"]
    return update["release"] if update and update["target"] == name and update["state"] in _HOLDS else None


def _slot_row(name: str, slot: dict[str, Any], coming: dict[str, Any] | None) -> Sequence[str]:
    mark, state = "*" if slot["running"] else " ", slot["state"] or "unknown"
    release = slot["release"]
    if coming is not None:
        return (mark, name, state, coming["name"], str(coming["sequence"]), str(coming.get("epoch", 0)), "-")
    if release is None:
        return (mark, name, state, "-", "-", "-", "-")
    installed = when(slot["installed_at"]) or "-"
    return (mark, name, state, release["name"], str(release["sequence"]), str(release["epoch"]), installed)


def _under_way(status: dict[str, Any]) -> str:
    if status["transaction"] is not None:
        return standing_text(Transaction.from_dict(status["transaction"]))
    state = word(State, status["state"])
    if state is State.IDLE:
        return STATES[state]
    target, source = sorted(status["slots"], key=lambda name: status["slots"][name]["state"] != "trial")
    return f"what the record does not know of {_state_text(state).format(target=target, source=source)}"


def _environment_lines(status: dict[str, Any]) -> Iterator[str]:
    environment = status["environment"]
    if environment is None:
        yield "boot      the environment could not be read; 'twinslot doctor' says why"
    elif environment["lost"]:
        once = len(environment.get("copies", ())) == 1
        what, them = ("the environment is", "it") if once else ("both copies of the environment are", "them")
        yield f"boot      {what} lost; 'twinslot boot' repairs {them}"
    elif not environment["settled"] and status["state"] == State.IDLE:  # during an update they differ on purpose
        yield "boot      the copies of the environment differ; 'twinslot boot' or the next update settles them"


def standing_text(transaction: Transaction) -> str:
    """How an open update stands."""
    wanted = transaction.state is State.WRITTEN and transaction.activate
    text = GOES_ON if wanted else _state_text(transaction.state)
    text = text.format(target=transaction.target, source=transaction.source)
    return text if transaction.state is State.IDLE else f"{release_text(transaction)} {text}"


def _state_text(state: State) -> str:
    """The state in words; a word of a newer client as it is (S18)."""
    return STATES.get(state) or f"in slot {{target}} is in state '{state}', which this client does not know"


def ended_text(transaction: Transaction) -> str:
    """How an update ended, and why."""
    match transaction.outcome:
        case Outcome.COMMITTED:
            text = f"was committed in slot {transaction.target}" + (" by force" if transaction.forced else "")
        case Outcome.ROLLED_BACK:
            back = f" to {transaction.source}" if is_known(transaction.target) else ""
            text = f"rolled back from slot {transaction.target}{back}"
        case Outcome.ABANDONED:
            text = f"was abandoned in slot {transaction.target}"
        case _:  # of a newer client
            text = f"ended as '{transaction.outcome}' in slot {transaction.target}"
    reason = f": {reason_text(transaction.reason)}" if transaction.reason else ""
    at = f", {when(transaction.ended)}" if transaction.ended else ""
    return f"{release_text(transaction)} {text}{reason}{at}"


def ended_lines(transaction: Transaction) -> Iterator[str]:
    """How an update ended, and below it the health checks that failed."""
    yield ended_text(transaction)
    if transaction.reason == Reason.UNHEALTHY:
        yield from check_lines(check for check in transaction.checks if not check.passed)


def transaction_text(transaction: Transaction) -> str:
    """One sentence, open or ended."""
    return standing_text(transaction) if transaction.outcome is None else ended_text(transaction)


def release_text(transaction: Transaction) -> str:
    """Name and sequence."""
    return f"{transaction.release.name} (sequence {transaction.release.sequence})"


def reason_text(reason: str) -> str:
    """The reason in words; a word of a newer client as it stands."""
    return REASONS[Reason(reason)] if reason in set(Reason) else reason


def check_lines(checks: Iterable[CheckResult]) -> Iterator[str]:
    """The health checks of one run."""
    for check in checks:
        verdict = "ok" if check.passed else "FAILED" if check.required else "failed, not required"
        tries = f", {check.tries} tries" if check.tries > 1 else ""
        detail = f": {check.detail}" if check.detail else ""
        yield f"  {check.name}: {verdict} ({check.seconds:.1f} s{tries}){detail}"


def history_lines(transactions: Sequence[dict[str, Any]]) -> Iterator[str]:
    """A table, newest first."""
    if not transactions:
        yield "no update was ever begun"
        return
    rows = [_history_row(Transaction.from_dict(data)) for data in transactions]
    yield from table(("started", "release", "sequence", "slot", "kind", "outcome", "reason"), rows)


def _history_row(transaction: Transaction) -> Sequence[str]:
    return (
        when(transaction.started) or "-",
        transaction.release.name,
        str(transaction.release.sequence),
        transaction.target,
        transaction.kind,
        str(transaction.outcome or f"{transaction.state} ...") + (", forced" if transaction.forced else ""),
        _reason_with_checks(transaction),
    )


def _reason_with_checks(transaction: Transaction) -> str:
    words = reason_text(transaction.reason) if transaction.reason else ""
    failed = failed_checks(transaction.checks) if transaction.reason == Reason.UNHEALTHY else None
    return f"{words}: {failed}" if failed else words


def doctor_lines(diagnosis: dict[str, Any]) -> Iterator[str]:
    """Every finding with its verdict and hint, and the decision."""
    for finding in diagnosis["findings"]:
        yield f"{MARKS.get(finding['severity'], finding['severity']):<6}{finding['area']}: {finding['text']}"
        if finding["hint"]:
            yield f"        hint: {finding['hint']}"
    yield ""
    yield f"decision  {diagnosis['decision'] or 'not known without root'}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Columns as wide as they must be, two spaces between."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    for row in (head, *rows):
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def when(moment: str) -> str:
    """An ISO 8601 time to the second, as people write it."""
    return f"{moment[:10]} {moment[11:19]} UTC" if moment else ""
