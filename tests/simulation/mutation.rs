//! Rules that the store of a run can be told to break, so that it shows that the judge finds it.

/// A rule that the store breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// Commits on a card that has changed since it was read.
    CountWithoutComparing,
    /// Lets changes of a card be answered before they are synced.
    ReplyBeforeSync,
    /// Lets answers go that were decided on a change of another request that is not synced.
    ReplyOnUnsyncedState,
    /// Gives an answer again before its record is synced.
    RepeatBeforeSync,
    /// Lets replies go before their records are written.
    ReplyBeforeWrite,
    /// Starts without the answers given before.
    ForgetAnswers,
    /// Starts with all counters at zero.
    GiveTriesBack,
    /// Keeps no answer for repeats.
    NoRepeats,
    /// Acknowledges a reversal before it is synced.
    ReversalBeforeSync,
    /// Starts without the reversals of before.
    ForgetReversals,
    /// Takes an original back while it is being answered.
    ReverseInFlight,
    /// Gives a PIN try back with a reversal.
    ReverseTheCount,
    /// Lets events that nobody has read go with a snapshot.
    LoseEventsAtSnapshot,
    /// Keeps word of the PIN beside a cryptogram that was refused.
    TellThePin,
    /// Commits a decision that was made by rules of the product that have changed since.
    DecideByOldRules,
}

impl Mutation {
    pub const ALL: [Mutation; 15] = [
        Mutation::CountWithoutComparing,
        Mutation::ReplyBeforeSync,
        Mutation::ReplyOnUnsyncedState,
        Mutation::RepeatBeforeSync,
        Mutation::ReplyBeforeWrite,
        Mutation::ForgetAnswers,
        Mutation::GiveTriesBack,
        Mutation::NoRepeats,
        Mutation::ReversalBeforeSync,
        Mutation::ForgetReversals,
        Mutation::ReverseInFlight,
        Mutation::ReverseTheCount,
        Mutation::LoseEventsAtSnapshot,
        Mutation::TellThePin,
        Mutation::DecideByOldRules,
    ];
}
