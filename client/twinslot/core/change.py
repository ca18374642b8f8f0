"""What kind of change a release is, and where and under which numbers it may be used: signed with the manifest.

A device may demand it; what it demands stands in its own configuration alone (S21).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from twinslot.core.errors import Refusal
from twinslot.core.fields import Fields, form

# Words that the image tool writes; a reader takes any other name too, since later versions may know more.
CLASSES: Final[Mapping[str, str]] = {
    "feature": "something new or different",
    "security": "closes a weakness and changes nothing else",
    "corrective": "mends what did not work as specified",
    "model": "another trained model, or other parameters of one",
    "configuration": "other settings of the same software",
    "labelling": "other texts, languages or instructions alone",
}
MARKETS_MAX: Final = 64
REGULATORY_MAX: Final = 16
WORD: Final = form(r"[a-z0-9][a-z0-9._-]{0,63}", "1 to 64 of a-z 0-9 . _ - with a letter or digit first")
NUMBER: Final = form(r"[!-~](?:[ -~]{0,126}[!-~])?", "1 to 128 printable ASCII characters, the first and last no blank")


@dataclass(frozen=True, slots=True)
class Change:
    """What the maker says of a release; empty where nothing is said.

    Attributes:
        kind: Class of the change, such as those of `CLASSES`.
        markets: Where it may be used, sorted, for example `eu` and `us`.
        regulatory: Number by scheme, for example `510k` or `pccp`.
    """

    kind: str = ""
    markets: tuple[str, ...] = ()
    regulatory: Mapping[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """As it stands in a manifest: what is not said is not there."""
        regulatory = dict(sorted(self.regulatory.items()))
        said = {"class": self.kind, "markets": sorted(self.markets), "regulatory": regulatory}
        return {key: value for key, value in said.items() if value}


@dataclass(frozen=True, slots=True)
class Demands:
    """What local configuration wants of an image's `Change`; empty: nothing.

    Attributes:
        classes: The change is of one of these.
        market: Is among the markets that the image names.
        regulatory: Schemes of which the image has a number.
    """

    classes: tuple[str, ...] = ()
    market: str = ""
    regulatory: tuple[str, ...] = ()


def parse_change(ours: Fields) -> Change:
    """The object `change` of a manifest; keys of later versions are ignored.

    Raises:
        ImageError: `image.manifest`, naming the field.
    """
    if not ours.has("change"):
        return Change()
    keys = ("class", "markets", "regulatory")
    given = Fields(ours.get("change"), ours.name("change"), (), optional=keys, extensible=True)
    regulatory = given.mapping("regulatory", WORD, REGULATORY_MAX) if given.has("regulatory") else {}
    numbers = Fields(regulatory, given.name("regulatory"), regulatory)
    return Change(
        given.text("class", WORD) if given.has("class") else "",
        given.names("markets", WORD, 1, MARKETS_MAX) if given.has("markets") else (),
        {scheme: numbers.text(scheme, NUMBER) for scheme in sorted(regulatory)},
    )


# keeps: REQ-IMG-27
def unmet(change: Change, demands: Demands) -> Iterator[Refusal]:
    """Every reason why an image does not meet what local configuration demands."""
    if demands.classes and change.kind not in demands.classes:
        what = "the image is a change of a class that this device does not take"
        hint = "'acceptance.classes' of the configuration says which ones it takes"
        yield Refusal("change-class", what, " or ".join(demands.classes), change.kind or "(none said)", hint)
    if demands.market and demands.market not in change.markets:
        found = ", ".join(change.markets) or "(none named)"
        yield Refusal("market", "the image is not for the market of this device", demands.market, found)
    for scheme in demands.regulatory:
        if scheme not in change.regulatory:
            what = "the image lacks a regulatory number that this device demands"
            yield Refusal("regulatory", what, scheme, ", ".join(sorted(change.regulatory)) or "(none)")
