//! PINs that are checked and shown outside a transaction, also while the HSM is down or slow: what
//! nobody knows is never counted, no answer is given by a PIN that is no longer the card's, and a
//! PIN that nobody may see any more is not kept.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use switch::authorization::{Channel, Transition};
use switch::cards::{CardStatus, Embossed};
use switch::control::Reply;
use switch::event::{Actor, CardholderVerification};
use switch::issuing::pin_control::{self, Purpose};
use switch::issuing::{
    Code, Refused, blocks, cards, pin_check, pins, products, transitions, viewable_pin,
};
use switch::pin::ClearPin;
use switch::store::document::{DocumentChange, DocumentKind};
use switch::store::{Commit, Store};
use tests::switch_under_test::{SwitchUnderTest, TestClock};

const CONFIG: &str = "hsm.master_key_file = \"demo\"\nadmin.listen = \"127.0.0.1:0\"\n\
     [store]\nsegment_mb = 4\nduplicate_index_mb_max = 4\n\
     [[links]]\nname = \"link\"\nnetwork = \"net\"\nlisten = \"127.0.0.1:0\"\n\
     dialect = \"iso8583-1987-ascii\"\nzpk = \"demo-zpk\"\n\
     [[products]]\nname = \"debit\"\nbins = [\"476134\"]\ncurrency = 978\npin_viewable = true\n";

/// A switch with one active card, whose PIN is 4071.
async fn started(directory: &Path) -> SwitchUnderTest {
    let test = SwitchUnderTest::start(CONFIG, directory, TestClock::default());
    test.add_card("card", "4761340000000019", "debit", ("2912", 1)).await;
    assert!(matches!(test.activate("card").await, Reply::Card(_)));
    assert!(matches!(test.set_pin("card", "4071").await, Reply::Card(_)));
    test
}

fn clear(pin: &str) -> Result<Box<ClearPin>, Refused> {
    Ok(ClearPin::parse_in_place(pin.as_bytes()).unwrap())
}

fn admit(_: &str) -> Result<(), Refused> {
    Ok(())
}

fn actor() -> Actor {
    Actor::api_key("test", [127, 0, 0, 1].into())
}

async fn verify(test: &SwitchUnderTest, pin: &str) -> Result<&'static str, Code> {
    let checked = pin_check::verify(&test.switch, &actor(), "card", clear(pin), &admit).await;
    checked.map(|view| view.response.code).map_err(|refused| refused.code())
}

async fn token(test: &SwitchUnderTest, purpose: Purpose) -> String {
    let made =
        pin_control::create(&test.switch, (&actor()).into(), ("card", purpose), &admit).await;
    made.unwrap().to_string()
}

async fn reveal(test: &SwitchUnderTest, token: &str) -> Result<Vec<u8>, Code> {
    let method = CardholderVerification::Otp;
    let shown = viewable_pin::reveal(&test.switch, &actor(), token, method, &admit).await;
    shown.map(|pin| pin.digits().to_vec()).map_err(|refused| refused.code())
}

#[tokio::test]
async fn a_check_without_an_answer_of_the_hsm_counts_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let test = started(directory.path()).await;
    assert_eq!(verify(&test, "4072").await, Ok("1809"));
    test.hsm.set_down(true);
    for pin in ["4071", "4072", "4073"] {
        assert_eq!(verify(&test, pin).await, Err(Code::HsmUnavailable));
    }
    assert_eq!(test.card("card").await.state.pin.tries, 1);
    test.hsm.set_down(false);
    assert_eq!(verify(&test, "4072").await, Ok("1809"));
    assert_eq!(verify(&test, "4071").await, Ok("0000"));
    assert_eq!(test.card("card").await.state.pin.tries, 0);
}

/// An HSM that takes longer than it may gives no answer.
#[tokio::test]
async fn a_check_that_takes_too_long_counts_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let config = CONFIG.replace("[store]", "limits.hsm_milliseconds_max = 50\n[store]");
    let test = SwitchUnderTest::start(&config, directory.path(), TestClock::default());
    test.add_card("card", "4761340000000019", "debit", ("2912", 1)).await;
    test.activate("card").await;
    test.set_pin("card", "4071").await;
    test.hsm.set_takes(Duration::from_secs(2));
    assert_eq!(verify(&test, "4072").await, Err(Code::HsmUnavailable));
    assert_eq!(test.card("card").await.state.pin.tries, 0);
}

/// The HSM has said that the PIN is right, and then another one is set.
#[tokio::test]
async fn a_pin_that_was_right_before_a_set_is_wrong_after_it() {
    let directory = tempfile::tempdir().unwrap();
    let test = Arc::new(started(directory.path()).await);
    test.hsm.hold(true);
    let asked = tokio::spawn({
        let test = Arc::clone(&test);
        async move { verify(&test, "4071").await }
    });
    while test.hsm.waiting() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let control = token(&test, Purpose::SetPin).await;
    pins::set_by_control(&test.switch, (&actor()).into(), &control, clear("5803"), &admit)
        .await
        .unwrap();
    test.hsm.hold(false);
    assert_eq!(asked.await.unwrap(), Ok("1809"));
    assert_eq!(test.hsm.pins_asked(), 2);
    assert_eq!(verify(&test, "5803").await, Ok("0000"));
}

/// PINs to see that are kept.
async fn kept(test: &SwitchUnderTest) -> usize {
    test.switch.store.documents(DocumentKind::ViewablePin, None, 10).await.unwrap().items.len()
}

#[tokio::test]
async fn a_pin_to_see_goes_with_the_last_plastic() {
    let directory = tempfile::tempdir().unwrap();
    let test = started(directory.path()).await;
    assert_eq!(kept(&test).await, 1);
    test.reissue("card", ("3012", 2), Embossed::NotProduced).await;
    for (plastic, left) in [("card", 1), ("card-2", 0)] {
        let asked = Transition::new(CardStatus::Terminated, Channel::Api);
        let moved = transitions::transition(&test.switch, &actor(), plastic, Ok(asked)).await;
        assert!(moved.is_ok(), "{plastic}");
        assert_eq!(kept(&test).await, left);
    }
    // Nor does an operator's set bring one back.
    assert!(matches!(test.set_pin("card", "4071").await, Reply::Card(_)));
    assert_eq!(kept(&test).await, 0);
}

#[tokio::test]
async fn a_pin_to_see_goes_with_its_card() {
    let directory = tempfile::tempdir().unwrap();
    let test = started(directory.path()).await;
    let tokens = ["card".to_owned()];
    let removed = cards::remove(&test.switch, &actor(), &tokens).await.unwrap();
    assert!(removed.iter().all(Result::is_ok));
    assert_eq!(kept(&test).await, 0);
}

#[tokio::test]
async fn a_pin_to_see_goes_when_its_product_is_no_longer_viewable() {
    let directory = tempfile::tempdir().unwrap();
    let test = started(directory.path()).await;
    let put = async |viewable: bool| {
        let text =
            format!("{{\"bins\": [\"476134\"], \"currency\": 978, \"pin_viewable\": {viewable}}}");
        let settings = serde_json::from_str(&text).unwrap();
        products::put(&test.switch, &actor(), "views", settings, None).await.unwrap();
    };
    put(true).await;
    test.add_card("other", "4761340000000027", "views", ("2912", 1)).await;
    test.set_pin("other", "5938").await;
    assert_eq!(kept(&test).await, 2);
    put(false).await;
    assert_eq!(kept(&test).await, 1);
    // What was not viewable when it was set stays so.
    put(true).await;
    blocks::forget(&test.switch).await.unwrap();
    assert_eq!(kept(&test).await, 1);
}

/// As a call leaves one that has read the card just before its removal.
#[tokio::test]
async fn what_is_left_of_a_removed_card_goes() {
    let directory = tempfile::tempdir().unwrap();
    let test = started(directory.path()).await;
    let card = test.switch.store.load_by_token("card").await.unwrap().unwrap();
    let key: String = card.entry.identity.key.0.iter().map(|byte| format!("{byte:02X}")).collect();
    let chip_of = |key: &str| {
        let (vault, token) = (&test.switch.vault.documents, format!("{key}/01"));
        DocumentChange::write(vault, (DocumentKind::VirtualChip, &token), 0, b"{}").unwrap()
    };
    let documents = vec![chip_of(&key), chip_of(&"0".repeat(key.len()))];
    let commit = Commit { documents, ..Commit::default() };
    test.switch.store.commit(commit, &mut None).await.unwrap();
    blocks::forget(&test.switch).await.unwrap();
    let left = test.switch.store.documents(DocumentKind::VirtualChip, None, 10).await.unwrap();
    assert_eq!(
        left.items.iter().map(|(token, _)| &**token).collect::<Vec<_>>(),
        [format!("{key}/01")]
    );
}

#[tokio::test]
async fn a_token_is_not_used_up_where_the_hsm_shows_no_pin() {
    let directory = tempfile::tempdir().unwrap();
    let test = started(directory.path()).await;
    let control = token(&test, Purpose::RevealPin).await;
    test.hsm.set_down(true);
    assert_eq!(reveal(&test, &control).await, Err(Code::HsmUnavailable));
    test.hsm.set_down(false);
    assert_eq!(reveal(&test, &control).await, Ok(b"4071".to_vec()));
    assert_eq!(reveal(&test, &control).await, Err(Code::ControlUsed));
}
