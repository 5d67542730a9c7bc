"""PIN verification methods as a product's table names them, what psec computes for each, and check
values of keys."""

from dataclasses import dataclass, field, replace

from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC
from psec import des, pin

DECIMALISATION_TABLE = "0123456789012345"


@dataclass(frozen=True)
class Method:
    """`name` is also the name of a product that verifies its PINs so."""

    name: str
    table: dict = field(hash=False)
    pvk: bytes = b""
    # Methods that the product had before.
    earlier: tuple = ()

    def value(self, card):
        """PVV or offset of a card's PIN."""
        return self.value_of(card.pin, card.pan)

    def value_of(self, digits, pan):
        if self.table["method"] == "visa_pvv":
            return pin.generate_visa_pvv(self.pvk, str(self.table["pvki"]), digits[:4], pan)
        data, fill = validation_data(self.table["validation_data"], pan)
        conversion = self.table["decimalisation_table"]
        return pin.generate_ibm3624_offset(self.pvk, conversion, digits, data, 0, len(data), fill)

    def pin_of(self, offset, pan):
        data, fill = validation_data(self.table["validation_data"], pan)
        conversion = self.table["decimalisation_table"]
        return pin.generate_ibm3624_pin(self.pvk, conversion, offset, data, 0, len(data), fill)

    def renamed(self, name):
        return replace(self, name=name)

    def with_table(self, **changes):
        return replace(self, table={**self.table, **changes})


def validation_data(form, pan):
    """The digits that psec is to encrypt, and the one that fills them up to sixteen."""
    if form == "rightmost-16":
        return pan[-16:], "F"
    if form.startswith("leftmost-"):
        _, count, fill = form.split("-")
        return pan[: int(count)], fill
    before, after = form.split("N")
    # The last five digits before the check digit.
    return before + pan[-6:-1] + after, "F"


def translated_block(name="translated"):
    return Method(name, {"method": "translated_block"})


def visa_pvv(name, pvk_name, pvk, pvki=1):
    return Method(name, {"method": "visa_pvv", "pvk": pvk_name, "pvki": pvki}, pvk)


def ibm3624(name, pvk_name, pvk, form, decimalisation_table=DECIMALISATION_TABLE):
    return Method(name, {
        "method": "ibm3624", "pvk": pvk_name, "decimalisation_table": decimalisation_table,
        "validation_data": form,
    }, pvk)


def tdes_key(source, length=16):
    return des.adjust_key_parity(source.randbytes(length))


def kcv(key, algorithm="T"):
    """The check value; that of an AES key is a CMAC, which psec has not."""
    if algorithm == "T":
        return des.generate_kcv(key, 3).hex().upper()
    cmac = CMAC(AES(key))
    cmac.update(bytes(16))
    return cmac.finalize()[:3].hex().upper()
