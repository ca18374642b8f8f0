"""A release whose keys were born in a token, from its signature to the guest's own verdict, offered by a repository."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from board.audit_of_board import TakenOff
from device_token import PIN, DeviceToken
from twinslot_image.cli import main as image_tool
from twinslot_lab.demo import FACTORY, GOOD
from twinslot_lab.fileserver import FileServer
from twinslot_lab.plugin import BoardFactory
from twinslot_lab.product import Product
from twinslot_lab.qemu_board import QemuBoard
from twinslot_lab.release import ReleaseTeam

pytestmark = pytest.mark.board
CONFIGURATION = '[repository]\nurl = "{url}"\nroot = "/run/pump/repository-root.json"\n'


def tool(*words: str) -> None:
    assert image_tool([*words]) == 0


def signed_by_tokens(team: ReleaseTeam, folder: Path, token: DeviceToken) -> Path:
    """An image whose targets document says that both roles are keys in the token, and which these signed."""
    keys = folder / "keys"
    shutil.copytree(team.keys, keys)
    roles = {"engineering": token.key("engineering"), "clinical": token.key("clinical", "EC:edwards25519")}
    for role, uri in roles.items():
        tool("keys", "rotate", str(keys), role, "--public", uri)
    made = team.image(GOOD).path.parent
    for name in ("slot.img", "notes.md"):
        (folder / name).symlink_to(made / name)
    (folder / "image.toml").write_text((made / "image.toml").read_text().replace(f'"{team.keys}"', f'"{keys}"'))
    image = folder / "pump-2.0.twin"
    tool("build", str(folder / "image.toml"), "-o", str(image))
    for role, uri in roles.items():
        tool("sign", str(image), "--role", role, "--key", uri)
    return image


def polled(board: QemuBoard) -> dict[str, Any]:
    """What the device says of its repository once the unit has asked it."""
    board.check("systemctl", "start", "twinslot-poll.service", timeout=900)
    shown = board.check("systemctl", "show", "-P", "Result", "twinslot-poll.service")
    assert shown.strip() == "success"
    status = json.loads(board.check("twinslot", "status", "--json"))
    return dict(status["repository"])


@pytest.mark.verifies("S25", "REQ-AUD-03")
@pytest.mark.long
def test_a_release_signed_by_keys_that_were_born_in_a_token_is_offered_installed_tried_and_committed(
    team: ReleaseTeam, board_factory: BoardFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWINSLOT_KEY_PIN", PIN)
    (tmp_path / "token").mkdir()
    image = signed_by_tokens(team, tmp_path, DeviceToken.make(tmp_path / "token", monkeypatch))
    fleet = tmp_path / "fleet"
    for words in (("init",), ("add", str(image)), ("wave", GOOD.name, "100%,2020-01-01T00:00:00Z"), ("publish",)):
        tool("repository", words[0], str(fleet), *words[1:])
    board = board_factory(files=team.factory(FACTORY))
    board.power_on()
    board.wait_up(slot="a")
    with FileServer(fleet / "public") as server:
        board.check("mkdir", "-p", "/run/pump", "/run/twinslot/config.d")
        board.put("/run/pump/repository-root.json", (fleet / "public/metadata/1.root.json").read_bytes())
        url = server.url("x").removesuffix("/x")
        board.put("/run/twinslot/config.d/50-repository.toml", CONFIGURATION.format(url=url).encode())
        said = polled(board)
        assert (said["stale"], said["offer"]["release"]["sequence"]) == (None, GOOD.sequence), said
        Product(board).install(said["offer"]["image"])
    board.reboot()
    board.wait_up(slot="b")
    status = Product(board).wait_idle()
    assert (status["last"]["outcome"], status["slots"]["b"]["state"]) == ("committed", "good")
    assert Product(board).digest_of_root((tmp_path / "slot.img").stat().st_size) == team.image(GOOD).digest
    taken = TakenOff.of(board, tmp_path / "taken")
    assert taken.verified()["breaks"] == []
    account = taken.explained("--image", str(image))
    assert (account["outcome"], account["differences"]) == ("committed", []), "of this very image, by the rows alone"
