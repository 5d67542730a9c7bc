//! A network management request: sign-on, sign-off, echo.

use super::attempt::Received;
use super::reply::Answered;
use crate::authorization::Reason;
use crate::authorization::network_management::NetworkManagement;

pub(super) fn network_management(received: &Received<'_>) -> Answered {
    let request = match NetworkManagement::parse(received.decoded) {
        Ok(request) => request,
        Err(fault) => return Answered::malformed(fault),
    };
    let reason = match request {
        NetworkManagement::NotSupported => Reason::FunctionNotSupported,
        NetworkManagement::Echo | NetworkManagement::Told => Reason::Approved,
        NetworkManagement::SignOn | NetworkManagement::SignOff => {
            received.session.sign(request == NetworkManagement::SignOn);
            Reason::Approved
        }
    };
    Answered::of(reason)
}
