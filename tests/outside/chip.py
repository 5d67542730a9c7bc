"""A chip card and its terminal, as far as an issuer sees them: pyemv makes the cryptograms, checks
the issuer's answer and the script."""

import itertools
import random
from dataclasses import dataclass, field

from messages import CARD_2, CARD_3, authorization
from pyemv import cvn, tlv

VISA_KEYS = [
    "6201618CB9C4F823B67AFE7A62804AAE",
    "BA32D0CE9B40F775F8B908EC4F4C0D98",
    "43F1E67A5DA8BA4A541FD3BC64F46273",
]
M_CHIP_KEYS = [
    "C7CEA83B9767CDABD602238C15D0B6E9",
    "CD5801BFD3AECDFB0D3873232F10576E",
    "587A735D19B954A8CD2904F10D8A3123",
]
NOTHING, OK, FAILED = "nothing", "ok", "failed"
CVM = {NOTHING: "1F0302", OK: "410302", FAILED: "410301"}
_random = random.Random(4096)


@dataclass(frozen=True)
class Profile:
    """A cryptogram version, with what of the card it needs. `cvn`: another that is made like it."""

    name: str
    engine: type
    card: object
    keys: list
    is_visa: bool = True
    cvn: str = ""


PROFILES = [
    Profile("0A", cvn.VisaCVN10, CARD_2, VISA_KEYS),
    Profile("12", cvn.VisaCVN18, CARD_2, VISA_KEYS),
    Profile("22", cvn.VisaCVN22, CARD_2, VISA_KEYS),
    Profile("10", cvn.MasterCardCVN16, CARD_3, M_CHIP_KEYS, False),
    Profile("11", cvn.MasterCardCVN17, CARD_3, M_CHIP_KEYS, False),
    Profile("14", cvn.MasterCardCVN20, CARD_3, M_CHIP_KEYS, False),
    Profile("15", cvn.MasterCardCVN21, CARD_3, M_CHIP_KEYS, False),
]


@dataclass
class Chip:
    """Counts transactions; what it says of PIN and scripts is said for each."""

    profile: Profile
    atc: int = 0
    tries_left: int = 0
    numbers: itertools.count = field(default_factory=itertools.count)

    def __post_init__(self):
        keys = [bytes.fromhex(key) for key in self.profile.keys]
        card = self.profile.card
        self.engine = self.profile.engine(*keys, card.pan, card.sequence)

    def iad(self, pin, exhausted, scripts, script_failed, completed):
        if not self.profile.is_visa:
            first = 0xA0 | {NOTHING: 0x00, OK: 0x05, FAILED: 0x04}[pin]
            fourth = {NOTHING: 0x20, OK: 0x00, FAILED: 0x10}[pin] | (0x08 if exhausted else 0)
            fourth |= 0x00 if completed else 0x80
            cvr = bytes([first, 0, scripts << 4 | self.tries_left, fourth, 0x01 if script_failed else 0, 0])
            return bytes([1, int(self.profile.name, 16)]) + cvr + bytes(2) + bytes(range(8)), cvr
        second = 0xA0 | {NOTHING: 0x00, OK: 0x04, FAILED: 0x06}[pin]
        fourth = scripts << 4 | (0x08 if script_failed else 0)
        third = (0x40 if exhausted else 0) | (0x00 if completed else 0x80)
        cvr = bytes([3, second, third, fourth])
        version = int(self.profile.cvn or self.profile.name, 16)
        if version == 0x22:
            # Of this format the CVR has five bytes and no length before it.
            return (bytes([0x1F, version, 1, 0]) + cvr[1:]).ljust(32, b"\0"), cvr
        return bytes([6, 1, version]) + cvr, cvr

    def request(self, amount=1250, pin=NOTHING, *, exhausted=False, scripts=0, script_failed=False,
                completed=True, entry="051", tags=None, changes=None, online_pin=None, tvr=None):
        """An authorization request of a contact chip."""
        self.atc += 1
        third = 0x20 if exhausted else 0
        third |= 0x80 if pin == FAILED else 0
        iad, cvr = self.iad(pin, exhausted, scripts, script_failed, completed)
        covered = {
            "9F02": f"{amount:012}", "9F03": "0" * 12, "9F1A": "0276",
            "95": tvr or f"0000{third:02X}8000", "5F2A": "0978", "9A": "261128", "9C": "00",
            "9F37": f"{_random.getrandbits(32):08X}", "82": "1800", "9F36": f"{self.atc:04X}",
        }
        covered |= {tag: value for tag, value in (tags or {}).items() if value and tag in covered}
        values = {f"tag_{tag.lower()}": bytes.fromhex(value) for tag, value in covered.items()}
        if self.profile.name in ("12", "22"):
            values["tag_9f10"] = iad
        else:
            values["cvr"] = cvr
            if self.profile.name in ("11", "15"):
                values["counters"] = iad[10:18]
        self.arqc = self.engine.generate_ac(**values)
        self.values, self.data = values, None
        data = {"9F26": self.arqc.hex(), "9F27": "80", "9F10": iad.hex(), **covered,
                "9F34": CVM[pin], "5F34": self.profile.card.sequence, "9F33": "E0F8C8",
                "9F35": "22", "9F1E": "3132333435363738", "84": "A0000000031010"}
        data |= tags or {}
        data = {tag: value for tag, value in data.items() if value is not None}
        self.data = data
        chip_data = tlv.encode({tag: bytes.fromhex(value) for tag, value in data.items()})
        return authorization(self.profile.card, online_pin, changes={
            "4": f"{amount:012}", "22": entry, "23": self.profile.card.sequence.zfill(3),
            "55": chip_data.hex().upper(), **(changes or {}),
        })

    def arpc(self, answer_code="00", approves=True, update=None):
        """Tag 91 as this chip expects it."""
        name, atc = self.profile.name, self.values["tag_9f36"]
        if name in ("12", "22"):
            update = bytes.fromhex(update or ("00820000" if approves else "00000000"))
            return self.engine.generate_arpc(self.arqc, atc, update) + update
        code = bytes.fromhex("0012" if approves else "0000")
        if self.profile.is_visa:
            code = answer_code.encode()
        if name in ("14", "15"):
            return self.engine.generate_arpc(self.arqc, atc, code) + code
        return self.engine.generate_arpc(self.arqc, code) + code

    def pin_change(self, pin):
        """The command that writes this PIN, with its MAC."""
        return self.engine.generate_pin_change_command(pin, self.arqc, self.values["tag_9f36"])

    def unblock(self):
        head = bytes.fromhex("8424000008")
        return head + self.engine.generate_command_mac(head, self.arqc, self.values["tag_9f36"])


def told(answer):
    """What an answer tells the chip: tag 91, the script's id and its command."""
    if "55" not in answer.elements:
        return None, None, None
    data = tlv.decode(bytes.fromhex(answer.elements["55"]))
    script = data.get("72") or data.get("71") or {}
    return data["91"], script.get("9F18"), script.get("86")
