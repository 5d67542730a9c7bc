//! The cards and the key of the demo. They are public.

/// The zone PIN key of the demo links, double length.
pub(crate) const ZPK: [u8; 16] = 0xECC2_5208_B6FD_2023_E976_7A54_89BC_9415_u128.to_be_bytes();

/// A card of the demo.
pub(crate) struct DemoCard {
    /// The issuer's name for it.
    pub(crate) token: &'static str,
    /// PAN.
    pub(crate) pan: &'static str,
    /// YYMM.
    pub(crate) expiry: &'static str,
    /// The right PIN.
    pub(crate) pin: &'static str,
    /// A PIN that is wrong.
    pub(crate) wrong_pin: &'static str,
}

/// Three wrong PINs in a row suspend it.
pub(crate) const CARD_1: DemoCard = DemoCard {
    token: "demo-card-1",
    pan: "4761340000000019",
    expiry: "2912",
    pin: "4071",
    wrong_pin: "4072",
};

/// Three wrong PINs in a row suspend it.
pub(crate) const CARD_2: DemoCard = DemoCard {
    token: "demo-card-2",
    pan: "4761340000000027",
    expiry: "2912",
    pin: "5938",
    wrong_pin: "5939",
};

/// Three wrong PINs in a row suspend it.
pub(crate) const CARD_3: DemoCard = DemoCard {
    token: "demo-card-3",
    pan: "5413330000000019",
    expiry: "2912",
    pin: "7206",
    wrong_pin: "7207",
};

/// It has no PIN retry limit.
pub(crate) const CARD_4: DemoCard = DemoCard {
    token: "demo-card-4",
    pan: "4761340000000035",
    expiry: "2912",
    pin: "8264",
    wrong_pin: "8265",
};

/// A card that no issuer has made, with a right check digit, of a BIN of the demo.
pub(crate) const UNKNOWN_CARD: DemoCard = DemoCard {
    token: "none",
    pan: "4761349999999990",
    expiry: "2912",
    pin: "1234",
    wrong_pin: "4321",
};

/// Every card that exists from the start.
pub(crate) const CARDS: [&DemoCard; 4] = [&CARD_1, &CARD_2, &CARD_3, &CARD_4];
