"""A dossier of a release: what is in it, what it says to be missing, what is refused; looked at in a real browser."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from dossier_bench import CLIENT, CONTENT, DossierBench, bill, coverage, crash, matrix, power_cuts, provenance, vex

from twinslot_image.cli import main
from twinslot_image.dossier.model import MEANS
from twinslot_lab.client_digest import TESTED, client_subject

ROOT = Path(__file__).parents[2]
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>\u202egnp.exe"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> DossierBench:
    return DossierBench.make(tmp_path_factory.mktemp("team"))


@pytest.fixture
def bench(made: DossierBench, tmp_path: Path) -> DossierBench:
    """The same inputs, to be changed."""
    directory = tmp_path / "team"
    shutil.copytree(made.directory, directory)
    return DossierBench(type(made.team)(directory))


def pae(kind: str, body: bytes) -> bytes:
    """What DSSE has signed."""
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind.encode(), len(body), body)


def states(out: Path) -> dict[str, str]:
    told = json.loads((out / "dossier.json").read_text())
    return {section["id"]: section["state"] for section in told["sections"]}


def refused(bench: DossierBench, out: Path, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """Every reason; nothing was written."""
    capsys.readouterr()
    assert bench.dossier(out, "--json") in (3, 4)
    error = json.loads(capsys.readouterr().out)
    assert not out.exists()
    assert not [path for path in out.parent.iterdir() if path.name.startswith(".twinslot-")]
    reasons: list[dict[str, Any]] = error.get("reasons") or [error]
    return reasons


@pytest.mark.verifies("REQ-EVI-02")
def test_a_release_with_all_its_evidence_has_a_whole_dossier(bench: DossierBench, tmp_path: Path) -> None:
    out = tmp_path / "dossier"
    assert bench.dossier(out) == 0
    found = states(out)
    assert len(found) == 16 == len(MEANS)
    assert {id_ for id_, state in found.items() if state != "there"} == set()
    page = (out / "dossier.html").read_text()
    for words in (
        "A. Weber",
        "approval for clinical use",
        "An occlusion stops the motor",
        CLIENT,
        "libc6",
        "The occlusion detector was trained anew",
        "97.1 %",
        "PR-120",
        "built twice, byte for byte the same",
        "97.0 %",
        "A brick is a device that did not start again by itself",
    ):
        assert words in page
    root = ("--root", str(bench.team.root), "--signer", "engineering", "--roles", "engineering,clinical")
    assert main(["dossier", "verify", str(out), *root]) == 0


@pytest.mark.verifies("REQ-EVI-02")
def test_the_same_inputs_give_the_same_bytes(bench: DossierBench, tmp_path: Path) -> None:
    for name in ("first", "second"):
        assert bench.dossier(tmp_path / name) == 0
    first, second = (
        {
            path.relative_to(tmp_path / name): path.read_bytes()
            for path in (tmp_path / name).rglob("*")
            if path.is_file()
        }
        for name in ("first", "second")
    )
    assert first == second


@pytest.mark.verifies("REQ-EVI-02")
def test_what_a_release_lacks_is_said_in_it(
    bench: DossierBench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.write("dossier.toml", 'image = "pump.twin"\nclass = "model"\n[documents]\nmatrix = "matrix.json"\n')
    for approval in bench.directory.glob("*.approval.json"):
        approval.unlink()
    out = tmp_path / "dossier"
    assert bench.dossier(out) == 0
    assert "Approvals: missing, nobody approved this release" in capsys.readouterr().out
    found = states(out)
    assert {id_ for id_, state in found.items() if state == "there"} == {"matrix", "keys"}
    assert found["pccp"] == "missing", "a model has a plan"
    page = (out / "dossier.html").read_text()
    assert "14 of 16 sections are not complete" in page
    assert "no bill of materials is attached or given" in page
    words = ["dossier", "verify", str(out), "--root", str(bench.team.root)]
    assert main(words) == 0
    assert main([*words, "--complete"]) == 4


def test_what_changed_is_read_from_the_image_before_and_documents_from_the_image(
    bench: DossierBench, tmp_path: Path
) -> None:
    directory = bench.directory
    bench.team.image("2026.10", 6, b"superblock".ljust(4096, b"\1") + bytes(30_000))
    bench.write("notes.md", "# 2026.11\n\nThe alarm is louder.\n")
    text = (directory / "2026.11.toml").read_text()
    extra = '[change]\nclass = "model"\nmarkets = ["us"]\n[change.regulatory]\npccp = "K261234"\n'
    notes = '[attachments."release-notes.md"]\nfile = "notes.md"\ntype = "release-notes"\n'
    (directory / "2026.11.toml").write_text(text + extra + notes)
    assert main(["build", str(directory / "2026.11.toml"), "-o", str(directory / "pump.twin"), "--force"]) == 0
    for approval in directory.glob("*.approval.json"):
        approval.unlink()  # of the image as it was
    bench.write("dossier.toml", 'image = "pump.twin"\nprevious = "2026.10.twin"\n')
    out = tmp_path / "dossier"
    assert bench.dossier(out) == 0
    found = states(out)
    assert {id_ for id_, state in found.items() if state == "there"} == {"summary", "changes", "keys"}
    assert found["pccp"] == "missing"
    page = (out / "dossier.html").read_text()
    assert "The alarm is louder" in page
    assert "K261234" in page
    assert "payload rootfs" in page
    changes = json.loads((out / "files/changes/changes.json").read_text())
    assert {row["field"] for row in changes["manifest"]} >= {"sequence", "change"}
    assert str(directory) not in (out / "files/changes/changes.json").read_text()
    assert main(["dossier", "verify", str(out), "--root", str(bench.team.root)]) == 0
    bench.write("dossier.toml", 'image = "pump.twin"\nclass = "security"\n')
    assert bench.dossier(tmp_path / "other") == 3, "the manifest says another class"


def test_provenance_that_stands_beside_the_image_is_taken(bench: DossierBench, tmp_path: Path) -> None:
    words = [
        "provenance",
        str(bench.directory / "pump.twin"),
        "--role",
        "engineering",
        "--builder",
        "https://ci.example/p",
    ]
    assert main([*words, "--key", str(bench.key("engineering"))]) == 0
    bench.write("dossier.toml", 'image = "pump.twin"\n')
    assert bench.dossier(tmp_path / "dossier") == 0
    assert states(tmp_path / "dossier")["provenance"] == "there"
    assert "slsa.dev/provenance" in (tmp_path / "dossier/dossier.html").read_text()


def test_results_that_are_not_good_are_shown_as_such(bench: DossierBench, tmp_path: Path) -> None:
    bench.write("matrix.json", matrix(faults=[{"kind": "test-failed", "about": "PUMP-1", "message": "failed"}]))
    bench.write("report.json", power_cuts(bricks=1))
    bench.write("crash.json", crash(bad=2))
    bench.write("second.twin", "another build\n")
    rows = [{"criterion": "sensitivity", "baseline": "1", "modified": "0", "limit": "1", "met": False}]
    bench.write("comparison.json", {"rows": rows})
    bench.write("dossier.toml", (bench.directory / "dossier.toml").read_text().replace("second.twin", "summary.md"))
    out = tmp_path / "dossier"
    assert bench.dossier(out) == 0
    wanted = {"matrix", "power-cuts", "crash-states", "reproducibility", "pccp"}
    assert {id_ for id_, state in states(out).items() if state == "not passed"} == wanted
    assert main(["dossier", "verify", str(out), "--root", str(bench.team.root), "--complete"]) == 4
    assert main(["dossier", "verify", str(out), "--root", str(bench.team.root)]) == 0, "said, and not forged"


@pytest.mark.verifies("REQ-EVI-03")
def test_what_is_of_another_client_or_image_is_refused_all_at_once(
    bench: DossierBench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.write("report.json", power_cuts("e" * 64))
    bench.write("coverage.json", coverage("e" * 64))
    bench.write("crash.json", crash("e" * 64))
    bench.write("sbom.cdx.json", bill("e" * 64))
    bench.write("offers.json", {"offers": []})
    bench.write("provenance.json", provenance("e" * 64))
    bench.write("vex.json", vex("pkg:generic/ventilator@2.0"))
    other = bench.team.image("1.0", 1, b"superblock".ljust(4096, b"\1"))
    words = ("--role", "clinical", "--as", "A. Weber", "--meaning", "review", "--key", str(bench.key("clinical")))
    assert main(["approve", str(other), *words, "-o", str(bench.directory / "pump.twin.x.approval.json")]) == 0
    reasons = refused(bench, tmp_path / "dossier", capsys)
    codes = sorted(reason["code"] for reason in reasons)
    assert codes == ["refused.approval"] + ["refused.other-client"] * 3 + ["refused.other-image"] * 3 + [
        "refused.vex-other"
    ]
    assert all(reason["expected"] and reason["found"] for reason in reasons)


@pytest.mark.verifies("REQ-EVI-01", "REQ-EVI-03")
def test_an_approval_that_no_key_of_its_role_signed_is_refused(
    bench: DossierBench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    [approval] = bench.directory.glob("*.approval.json")
    envelope = json.loads(approval.read_text())
    covered = pae(envelope["payloadType"], base64.b64decode(envelope["payload"]))
    engineer = load_pem_private_key(bench.key("engineering").read_bytes(), None)
    assert isinstance(engineer, Ed25519PrivateKey)
    signature = {"keyid": envelope["signatures"][0]["keyid"], "sig": base64.b64encode(engineer.sign(covered)).decode()}
    envelope["signatures"] = [signature]
    approval.write_text(json.dumps(envelope, separators=(",", ":"), sort_keys=True))
    [reason] = refused(bench, tmp_path / "dossier", capsys)
    assert (reason["code"], reason["found"]) == ("refused.approval", "signed by no key of role 'clinical'")


@pytest.mark.verifies("REQ-EVI-03")
def test_provenance_that_no_key_of_the_image_signed_is_refused(
    bench: DossierBench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = json.loads((bench.directory / "provenance.json").read_text())
    body = json.loads(base64.b64decode(good["payload"])) | {"predicate": {"runDetails": {"builder": {"id": "me"}}}}
    forged = good | {"payload": base64.b64encode(json.dumps(body).encode()).decode()}
    for given in (good | {"signatures": []}, forged):
        bench.write("provenance.json", given)
        [reason] = refused(bench, tmp_path / "dossier", capsys)
        assert reason["code"] == "refused.bad-signature"
        assert reason["expected"] == "clinical, engineering"


def test_without_an_image_no_provenance_is_called_there(bench: DossierBench, tmp_path: Path) -> None:
    bench.write("dossier.toml", 'product = "P"\nrelease = "1"\n[documents]\nprovenance = "provenance.json"\n')
    words = ["dossier", "make", str(bench.directory / "dossier.toml"), "-o", str(tmp_path / "dossier")]
    assert main([*words, "--key", str(bench.key("engineering"))]) == 0
    assert states(tmp_path / "dossier")["provenance"] == "unbound"


def test_a_matrix_with_a_failed_test_is_not_passed_whatever_its_faults_say(bench: DossierBench, tmp_path: Path) -> None:
    red = matrix()
    red["tests"][0]["outcome"] = "failed"
    bench.write("matrix.json", red)
    out = tmp_path / "dossier"
    assert bench.dossier(out) == 0
    assert states(out)["matrix"] == "not passed"
    assert main(["dossier", "verify", str(out), "--root", str(bench.team.root)]) == 0, "said, and not forged"


def test_two_approvals_in_files_of_one_name_are_both_there(bench: DossierBench, tmp_path: Path) -> None:
    for role, folder in (("clinical", "ward"), ("engineering", "office")):
        (bench.directory / folder).mkdir(exist_ok=True)
        words = ("--role", role, "--as", role, "--meaning", "review", "--key", str(bench.key(role)))
        out = bench.directory / folder / "approval.json"
        assert main(["approve", str(bench.directory / "pump.twin"), *words, "-o", str(out)]) == 0
    given = 'approvals = ["ward/approval.json", "office/approval.json"]'
    bench.write("dossier.toml", f'image = "pump.twin"\n[documents]\n{given}\n')
    assert bench.dossier(tmp_path / "dossier") == 0
    found = sorted((tmp_path / "dossier/approvals").iterdir())
    assert len(found) == 2
    assert main(["dossier", "verify", str(tmp_path / "dossier"), "--root", str(bench.team.root)]) == 0


@pytest.mark.verifies("REQ-EVI-04")
def test_a_role_that_must_have_signed_and_did_not_is_refused_though_nothing_is_forged(
    bench: DossierBench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, root = tmp_path / "dossier", ("--root", str(bench.team.root))
    bench.write("dossier.toml", f'image = "{bench.team.image("3.0", 30, CONTENT, roles=("engineering",))}"\n')
    assert bench.dossier(out) == 0
    assert main(["dossier", "verify", str(out), *root, "--roles", "engineering"]) == 0
    for asked in ("engineering,clinical", "nobody"):
        assert main(["dossier", "verify", str(out), *root, "--roles", asked]) == 4
    bench.write("dossier.toml", 'product = "P"\nrelease = "1"\n[documents]\nsummary = "summary.md"\n')
    words = ["dossier", "make", str(bench.directory / "dossier.toml"), "-o", str(tmp_path / "none")]
    assert main([*words, "--key", str(bench.key("engineering"))]) == 0
    private = load_pem_private_key(bench.key("engineering").read_bytes(), None)
    pem = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    public = bench.write("public.pem", pem.decode())
    assert main(["dossier", "verify", str(tmp_path / "none"), "--key", str(public)]) == 0
    capsys.readouterr()
    assert main(["dossier", "verify", str(tmp_path / "none"), "--key", str(public), "--roles", "clinical"]) == 4
    assert "missing: image/manifest.json: fewer signatures than role 'clinical'" in capsys.readouterr().out


@pytest.mark.verifies("REQ-EVI-03")
def test_cuts_of_other_clients_in_the_ledger_are_not_counted(bench: DossierBench, tmp_path: Path) -> None:
    text = (bench.directory / "dossier.toml").read_text()
    bench.write("dossier.toml", text.replace('["report.json", "ledger.jsonl"]', '"ledger.jsonl"'))
    out = tmp_path / "dossier"
    assert bench.dossier(out) == 0
    [section] = [s for s in json.loads((out / "dossier.json").read_text())["sections"] if s["id"] == "power-cuts"]
    assert ["cuts", "1"] in section["body"]["facts"]
    bench.write("ledger.jsonl", (bench.directory / "ledger.jsonl").read_text().splitlines()[1])
    assert bench.dossier(tmp_path / "none") == 0
    assert states(tmp_path / "none")["power-cuts"] == "missing"


@pytest.mark.verifies("REQ-EVI-03")
@pytest.mark.parametrize("given", [coverage(""), coverage("a test")], ids=["no contexts", "other contexts"])
def test_coverage_that_does_not_say_of_which_client_it_is_is_unbound(
    bench: DossierBench, tmp_path: Path, given: object
) -> None:
    bench.write("coverage.json", given)
    out = tmp_path / "dossier"
    assert bench.dossier(out) == 0
    assert states(out)["coverage"] == "unbound"
    words = ("--root", str(bench.team.root), "--signer", "engineering", "--roles", "engineering,clinical")
    assert main(["dossier", "verify", str(out), *words]) == 0, "said, and not forged"
    assert main(["dossier", "verify", str(out), *words, "--complete"]) == 4


@pytest.mark.verifies("REQ-EVI-03")
@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("dossier.toml", 'image = "pump.twin"\n[documents]\nmatrx = "matrix.json"\n', "image.description"),
        ("dossier.toml", 'image = "pump.twin"\nproduct = "Pump"\n', "image.description"),
        ("dossier.toml", "image = [", "image.description"),
        ("dossier.toml", 'image = "pump.twin"\n[documents]\nmatrix = "gone.json"\n', "image.evidence"),
        ("dossier.toml", 'image = "pump.twin"\nclient = "c1"\n', "image.description"),
        ("matrix.json", "", "image.evidence"),
        ("matrix.json", "{", "image.evidence"),
        ("matrix.json", "[" * 5000, "image.evidence"),
        ("matrix.json", {"format": "twinslot-matrix/2"}, "image.evidence"),
        ("matrix.json", matrix(subject="\ud800"), "image.evidence"),
        ("matrix.json", {"format": "twinslot-matrix/1"}, "image.evidence"),
        ("matrix.json", matrix(runs=[{"name": 1}]), "image.evidence"),
        ("report.json", {"bricks": 1, "campaigns": [], "cuts": []}, "image.evidence"),
        ("report.json", [], "image.evidence"),
        ("ledger.jsonl", "{}\n", "image.evidence"),
        ("crash.json", {"states": True}, "image.evidence"),
        ("crash.json", crash(bad=1) | {"bad": 0}, "image.evidence"),
        ("coverage.json", {"totals": {}}, "image.evidence"),
        ("coverage.json", coverage(percent=float("nan")), "image.evidence"),
        ("coverage.json", coverage() | {"files": {"x": {"contexts": {"1": [7]}}}}, "image.evidence"),
        ("coverage.json", coverage() | {"files": [1]}, "image.evidence"),
        ("sbom.cdx.json", {"components": []}, "image.evidence"),
        ("comparison.json", {"rows": []}, "image.evidence"),
        ("provenance.json", {"payload": "?"}, "image.evidence"),
        ("vex.json", {"statements": []}, "image.evidence"),
        ("pump.twin", "no image", "image.header"),
    ],
)
def test_a_file_that_is_not_what_it_must_be_is_named(
    bench: DossierBench, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: object, code: str
) -> None:
    bench.write(name, content)
    [reason] = refused(bench, tmp_path / "dossier", capsys)
    assert reason["code"] == code
    assert name.partition(".")[0] in reason["message"] or "gone.json" in reason["message"]


def test_who_signs_as_a_role_must_hold_it_and_nothing_is_replaced_unasked(
    bench: DossierBench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "dossier"
    words = ["dossier", "make", str(bench.directory / "dossier.toml"), "-o", str(out), "--role", "clinical"]
    assert main([*words, "--key", str(bench.key("engineering"))]) == 4
    assert not out.exists()
    assert bench.dossier(out) == 0
    capsys.readouterr()
    assert bench.dossier(out) == 4
    assert "replace it with '--force'" in capsys.readouterr().err
    assert bench.dossier(out, "--force") == 0
    (tmp_path / "other").mkdir()
    (tmp_path / "other/thesis.txt").write_text("years of work")
    assert bench.dossier(tmp_path / "other", "--force") == 4
    assert (tmp_path / "other/thesis.txt").exists()


class Loads(HTMLParser):
    """Everything that a browser would run or fetch by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in ("script", "img", "iframe", "object", "link", "embed") or any(
            name.startswith("on") for name in given
        ):
            self.found.append(tag)
        if (address := given.get("href")) and re.match(r"[a-z]+:|//", address):
            self.found.append(address)


def test_what_others_wrote_stays_text_on_the_page(bench: DossierBench, tmp_path: Path) -> None:
    hostile = matrix(
        risks=[{"id": "RISK-1", "title": HOSTILE}], faults=[{"kind": "k", "about": "a", "message": HOSTILE}]
    )
    hostile["requirements"][0]["title"] = HOSTILE
    bench.write("matrix.json", hostile)
    bench.write("summary.md", HOSTILE)
    bench.write("vex.json", vex(why=HOSTILE))
    named = bench.directory / "<b>x.md"
    (bench.directory / "anomalies.md").rename(named)
    bench.write("dossier.toml", (bench.directory / "dossier.toml").read_text().replace("anomalies.md", "<b>x.md"))
    out = tmp_path / "dossier"
    assert bench.dossier(out) == 0
    page = (out / "dossier.html").read_text()
    loads = Loads()
    loads.feed(page)
    assert loads.found == []
    assert "&lt;script&gt;" in page
    assert "\u202e" not in page
    assert "<b>" not in page


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("chromium"), reason="needs Chromium")
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_fits_a_screen_in_a_real_browser(bench: DossierBench, tmp_path: Path, width: int) -> None:
    """Chromium lays it out; a script beside it says what stands out of the screen, and what was asked of a network."""
    out = tmp_path / "dossier"
    assert bench.dossier(out) == 0
    page = (out / "dossier.html").read_text()
    page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    measure = (
        "<script>const wide=[...document.body.querySelectorAll('*')].filter(e=>!e.closest('.scroll')&&"
        "e.getBoundingClientRect().right>innerWidth+1).map(e=>e.tagName);"
        "document.title=JSON.stringify({wide,width:document.documentElement.scrollWidth,inner:innerWidth,"
        "font:parseFloat(getComputedStyle(document.body).fontSize),"
        "sections:[...document.querySelectorAll('h2')].filter(e=>e.offsetHeight>0).length,"
        "asked:performance.getEntriesByType('resource').length})</script>"
    )
    # A window is never narrower than the browser's own edges; a frame is as wide as it is told.
    (tmp_path / "page.html").write_text(page.replace("</body>", f"{measure}</body>"))
    frame = f'<iframe id="f" src="page.html" style="width:{width}px;height:900px;border:0"></iframe>'
    told = "<pre id=told></pre><script>f.onload=()=>{told.textContent=f.contentDocument.title}</script>"
    (tmp_path / "frame.html").write_text(f"<body style='margin:0'>{frame}{told}")
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files"]
    command += [f"--user-data-dir={tmp_path}/profile", "--virtual-time-budget=10000", "--dump-dom"]
    done = subprocess.run([*command, f"file://{tmp_path}/frame.html"], capture_output=True, text=True)
    found = re.search(r'<pre id="told">(\{.*\})</pre>', done.stdout)
    assert found, done.stderr[-2000:]
    seen = json.loads(found[1].replace("&quot;", '"'))
    assert seen["inner"] == width
    assert seen["wide"] == []
    assert seen["width"] <= width
    assert seen["font"] >= 15
    assert seen["sections"] >= 18
    assert seen["asked"] == 0


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("chromium"), reason="needs Chromium")
def test_a_printed_page_has_the_rows_that_are_folded_on_the_screen(bench: DossierBench, tmp_path: Path) -> None:
    many = matrix()
    many["requirements"] = [many["requirements"][0] | {"id": f"PUMP-{number}"} for number in range(200)]
    bench.write("matrix.json", many)
    assert bench.dossier(tmp_path / "dossier") == 0
    page = (tmp_path / "dossier/dossier.html").read_text()
    assert "<details>" in page
    counts = []
    for name, text in (("folded", page), ("open", page.replace("<details>", "<details open>"))):
        (tmp_path / f"{name}.html").write_text(text)
        command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile"]
        command += [f"--print-to-pdf={tmp_path}/{name}.pdf", f"file://{tmp_path}/{name}.html"]
        subprocess.run(command, check=True, capture_output=True)
        counts.append(len(re.findall(rb"/Type\s*/Page[^s]", (tmp_path / f"{name}.pdf").read_bytes())))
    assert counts[0] == counts[1] > 5


@pytest.mark.slow
def test_the_dossier_of_our_own_release_says_what_the_last_runs_left(tmp_path: Path) -> None:
    """As `make dossier` does, in a copy of what it reads."""
    for name in ("CHANGELOG.md", "docs/make_dossier.py", "docs/safety.md", "docs/power-cuts.jsonl", *TESTED):
        source, target = ROOT / name, tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, target)
    client = client_subject(tmp_path)
    for name, content in {
        "build/matrix/matrix.json": matrix(client),
        "build/crash/report.json": crash(client),
        "build/powercut/report.json": power_cuts(client),
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(json.dumps(content))
    for build in ("first", "second"):
        (tmp_path / "build/dossier" / build).mkdir(parents=True)
        (tmp_path / "build/dossier" / build / "twinslot").write_text("the same")
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", tmp_path / "key.pem"], check=True)
    command = [sys.executable, "docs/make_dossier.py", "key.pem"]
    environment = {**os.environ, "TWINSLOT_CHECKOUT": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found = states(tmp_path / "build/dossier/out")
    wanted = {"summary", "matrix", "power-cuts", "crash-states", "reproducibility", "anomalies"}
    assert {id_ for id_, state in found.items() if state == "there"} == wanted
    page = (tmp_path / "build/dossier/out/dossier.html").read_text()
    assert "What is not covered" in page
    assert client in page
    module = tmp_path / "client/twinslot/core/lifecycle.py"
    module.write_text(module.read_text() + "# another client\n")
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 4
    assert "are of another client" in done.stderr
