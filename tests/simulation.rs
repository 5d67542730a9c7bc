//! The whole switch in a simulated world: clock, HSM, disk and links are of the test, and one
//! number decides everything that happens in it.

/// Its parts, in the folder of the same name.
mod simulation {
    pub mod linearizability;
    pub mod model;
}
