//! How a call is refused: RFC 9457 `application/problem+json` with our `code`, and the
//! `error_code` and `error_message` that Marqeta's clients read. No text repeats what was sent.

use axum::Json;
use axum::http::header::{CONTENT_TYPE, HeaderName, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::{IntoResponses, ToSchema};

use crate::issuing::{Code, Refused};
use crate::store::Limit;

/// After which time a call that names itself may be sent again, where no more names are kept. They
/// end one by one, each a day after its call.
const KEYS_RETRY_SECONDS: u64 = 60;

/// Of the answer to a call that is refused.
pub(super) const MEDIA_TYPE: &str = "application/problem+json";

/// Why a call is refused.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    /// The last three digits of `error_code`.
    number: u16,
    code: Name,
    detail: String,
    errors: Vec<Mistake>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// Why a call was refused.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct Body<'a> {
    /// Always `about:blank`: `code` says what it is.
    #[serde(rename = "type")]
    #[schema(example = "about:blank")]
    kind: &'static str,
    /// The HTTP status in words.
    title: &'static str,
    /// The HTTP status.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// What is wrong, for people.
    detail: &'a str,
    /// What is wrong, for programs.
    #[schema(value_type = String)]
    code: &'a Name,
    /// The status and three more digits.
    #[schema(pattern = "^[45][0-9]{5}$")]
    error_code: String,
    /// The same as `detail`.
    error_message: &'a str,
    /// The mistakes, each with its place in the body.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    #[schema(required = false)]
    errors: &'a [Mistake],
}

/// Makes types that describe how calls are refused, each with lines of a status, a name and what it
/// says. Nothing has changed then.
macro_rules! refusals {
    ($($(#[$of:meta])* $type:ident { $($status:literal $name:ident $text:literal;)* })*) => {
        $($(#[$of])*
        #[derive(IntoResponses)]
        #[expect(dead_code, reason = "only its description is used")]
        pub(super) enum $type {
            $(#[doc = $text]
            #[response(status = $status, content_type = "application/problem+json")]
            $name(Body<'static>),)*
        })*
    };
}

refusals! {
    /// Any call.
    Refusals {
        400 Wrong "A header, a parameter or a field is not what it may be.";
        401 Unknown "Nobody calls, or not who he says.";
        403 Forbidden "Who calls may not do this.";
        429 TooMany "Too many calls; `Retry-After` says how many seconds to wait.";
        500 Mistake "A mistake of the switch, which its log tells.";
        503 Unavailable "Store or HSM does not answer, or the switch is about to stop.";
    }
    /// A call with a body.
    OfBody {
        408 TooSlow "The body took too long.";
        413 TooLarge "The body is too large, or no room is left for what it asks for.";
        415 NotJson "The body is said to be something else than JSON.";
    }
    /// A call for a list with `count`.
    OfList {
        413 TooLarge "More are asked for than a list shows at once.";
    }
    /// A call about one thing.
    NoSuch {
        404 NoSuch "There is none with this token.";
    }
    /// A call that changes something.
    Conflict {
        409 Conflict "What is there now does not allow it; `code` says what.";
    }
    /// A call with an Idempotency-Key.
    Keyed {
        409 Conflict "What is there now does not allow it, or the call is under way: see `code`.";
        413 TooLarge "The body is too large, or no room is left for what it asks for.";
        422 Reused "The Idempotency-Key came with another call, or the cardholder is not active.";
    }
    /// A call that is done only while what it is about stays as it is.
    Changed {
        412 Changed "It has changed; a PIN: or it is weak.";
    }
    /// A call by a control token.
    Gone {
        410 Gone "The control token is used up, or its time is over.";
    }
}

/// A mistake in a body.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Mistake {
    /// Where it is: a JSON pointer (RFC 6901) into the body, or the name of a parameter.
    pub(super) pointer: String,
    /// What may stand there.
    pub(super) detail: String,
}

/// The name of a problem: of the service behind all doors, or of this door's own.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Name {
    Service(Code),
    Door(Door),
}

/// Problems that only this door knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Door {
    /// The body is no JSON document.
    InvalidJson,
    /// A field of the body or a parameter is not what it may be.
    InvalidRequest,
    /// Nobody, or not who he says.
    Unauthorized,
    /// Known, but this is none of his scopes.
    Forbidden,
    /// Not on a switch that is in production.
    NotInProduction,
    /// No resource has this path.
    NoSuchResource,
    /// The resource is there, but not by this method.
    MethodNotAllowed,
    /// The body took too long.
    TooSlow,
    /// The body is too long.
    TooLarge,
    /// More items of a list than it shows at once.
    CountTooLarge,
    /// The body is said to be something else than JSON.
    UnsupportedMediaType,
    /// Too many calls.
    RateLimited,
    /// A mistake of ours.
    Internal,
}

impl Door {
    /// Status, and the last three digits of `error_code`.
    const fn row(self) -> (StatusCode, u16) {
        match self {
            Door::InvalidJson => (StatusCode::BAD_REQUEST, 400),
            Door::InvalidRequest => (StatusCode::BAD_REQUEST, 401),
            Door::Unauthorized => (StatusCode::UNAUTHORIZED, 1),
            Door::Forbidden => (StatusCode::FORBIDDEN, 1),
            Door::NotInProduction => (StatusCode::FORBIDDEN, 3),
            Door::NoSuchResource => (StatusCode::NOT_FOUND, 1),
            Door::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, 1),
            Door::TooSlow => (StatusCode::REQUEST_TIMEOUT, 1),
            Door::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, 1),
            Door::CountTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, 3),
            Door::UnsupportedMediaType => (StatusCode::UNSUPPORTED_MEDIA_TYPE, 1),
            Door::RateLimited => (StatusCode::TOO_MANY_REQUESTS, 1),
            Door::Internal => (StatusCode::INTERNAL_SERVER_ERROR, 1),
        }
    }
}

/// Status, and the last three digits of `error_code`, of what the service refuses. Each code has a
/// number of its own among those of its status.
const fn row(code: Code) -> (StatusCode, u16) {
    match code {
        Code::InvalidField => (StatusCode::BAD_REQUEST, 401),
        Code::InvalidSettings => (StatusCode::BAD_REQUEST, 402),
        Code::KeyMissing => (StatusCode::BAD_REQUEST, 403),
        Code::PinNotAccepted => (StatusCode::BAD_REQUEST, 404),
        Code::CryptogramNotChecked => (StatusCode::BAD_REQUEST, 405),
        Code::ReaderRefused => (StatusCode::BAD_REQUEST, 406),
        Code::ReasonCodeNotAllowed => (StatusCode::BAD_REQUEST, 407),
        Code::KeyIsSecret => (StatusCode::FORBIDDEN, 2),
        Code::NoSuchCard => (StatusCode::NOT_FOUND, 2),
        Code::NoSuchProduct => (StatusCode::NOT_FOUND, 3),
        Code::NoSuchApiKey => (StatusCode::NOT_FOUND, 4),
        Code::NoSuchUser => (StatusCode::NOT_FOUND, 5),
        Code::PanTaken => (StatusCode::CONFLICT, 1),
        Code::TokenTaken => (StatusCode::CONFLICT, 2),
        Code::CardTerminated => (StatusCode::CONFLICT, 3),
        Code::ChipHoldsNoPin => (StatusCode::CONFLICT, 4),
        Code::ProductOfFile => (StatusCode::CONFLICT, 5),
        Code::ProductOfApi => (StatusCode::CONFLICT, 6),
        Code::ProductHasCards => (StatusCode::CONFLICT, 7),
        Code::ApiKeyTaken => (StatusCode::CONFLICT, 8),
        Code::KeyInUse => (StatusCode::CONFLICT, 9),
        Code::Busy => (StatusCode::CONFLICT, 10),
        Code::ClockNotSettled => (StatusCode::CONFLICT, 11),
        Code::TransitionNotAllowed => (StatusCode::CONFLICT, 12),
        Code::CardCreationNotAllowed => (StatusCode::CONFLICT, 13),
        Code::BinsUsedUp => (StatusCode::CONFLICT, 14),
        Code::AlreadyActive => (StatusCode::CONFLICT, 17),
        Code::IdempotencyKeyReused => (StatusCode::UNPROCESSABLE_ENTITY, 2),
        Code::CallUnderWay => (StatusCode::CONFLICT, 23),
        Code::ChipOutcomeUnknown => (StatusCode::CONFLICT, 24),
        Code::TooManyKeys => (StatusCode::TOO_MANY_REQUESTS, 3),
        Code::UserNotActive => (StatusCode::UNPROCESSABLE_ENTITY, 1),
        Code::NoSuchTransition => (StatusCode::NOT_FOUND, 6),
        Code::NoSuchTransaction => (StatusCode::NOT_FOUND, 7),
        Code::SequencesUsedUp => (StatusCode::CONFLICT, 15),
        Code::PinStatusNotAllowed => (StatusCode::CONFLICT, 16),
        Code::ProductChanged => (StatusCode::PRECONDITION_FAILED, 1),
        Code::VersionChanged => (StatusCode::PRECONDITION_FAILED, 2),
        Code::NoViewablePin => (StatusCode::CONFLICT, 20),
        Code::PinNotShown => (StatusCode::CONFLICT, 21),
        Code::ControlInvalid => (StatusCode::FORBIDDEN, 20),
        Code::ControlExpired => (StatusCode::GONE, 1),
        Code::ControlUsed => (StatusCode::GONE, 2),
        Code::WeakPin => (StatusCode::PRECONDITION_FAILED, 20),
        Code::TooManyPinCalls => (StatusCode::TOO_MANY_REQUESTS, 20),
        Code::LimitReached => (StatusCode::PAYLOAD_TOO_LARGE, 2),
        Code::ProductUnreadable => (StatusCode::INTERNAL_SERVER_ERROR, 2),
        Code::DocumentUnreadable => (StatusCode::INTERNAL_SERVER_ERROR, 3),
        Code::Sealing => (StatusCode::INTERNAL_SERVER_ERROR, 4),
        Code::KeysNotUsable => (StatusCode::INTERNAL_SERVER_ERROR, 5),
        Code::SealedPan => (StatusCode::INTERNAL_SERVER_ERROR, 6),
        Code::HsmUnavailable => (StatusCode::SERVICE_UNAVAILABLE, 1),
        Code::StoreUnavailable => (StatusCode::SERVICE_UNAVAILABLE, 2),
        Code::StoreFailed => (StatusCode::SERVICE_UNAVAILABLE, 3),
        Code::PlasticProduced => (StatusCode::CONFLICT, 30),
        Code::NoVirtualChip => (StatusCode::CONFLICT, 31),
        Code::ChipInUse => (StatusCode::CONFLICT, 32),
        Code::NotDecided => (StatusCode::SERVICE_UNAVAILABLE, 20),
    }
}

impl Problem {
    const fn of((status, number): (StatusCode, u16), code: Name, detail: String) -> Problem {
        Problem { status, number, code, detail, errors: Vec::new(), headers: Vec::new() }
    }

    /// A problem of this door.
    pub(super) fn new(code: Door, detail: &str) -> Problem {
        Problem::of(code.row(), Name::Door(code), detail.to_owned())
    }

    /// Mistakes of a body or of parameters.
    pub(super) fn all(errors: Vec<Mistake>) -> Problem {
        let text = told(&errors);
        let (row, name) = (Door::InvalidRequest.row(), Name::Door(Door::InvalidRequest));
        Problem { errors, ..Problem::of(row, name, text) }
    }

    /// A mistake of a body.
    pub(super) fn at(pointer: String, detail: String) -> Problem {
        Problem::all(vec![Mistake { pointer, detail }])
    }

    /// Who may call is not known.
    pub(super) fn unauthorized() -> Problem {
        let challenge = "Basic realm=\"pinswitch\", charset=\"UTF-8\", Bearer";
        Problem::new(Door::Unauthorized, "an API key and its secret are required, by HTTP Basic")
            .with(WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
    }

    /// Too many calls; the next may come after this many seconds.
    pub(super) fn rate_limited(what: &str, seconds: u64) -> Problem {
        Problem::new(Door::RateLimited, what).with(RETRY_AFTER, seconds.max(1).into())
    }

    /// The same with a header.
    pub(super) fn with(mut self, name: HeaderName, value: HeaderValue) -> Problem {
        self.headers.push((name, value));
        self
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Problem {
        let code = refused.code();
        let (status, _) = row(code);
        // What breaks inside is for the log, and may name a file.
        let text = match status.is_server_error() {
            true => "it could not be done, and the log of the switch says why".to_owned(),
            false => refused.to_string(),
        };
        let headers = match &refused {
            Refused::TooManyPinCalls { seconds } => vec![(RETRY_AFTER, (*seconds).into())],
            Refused::Limit(Limit::Answers) => vec![(RETRY_AFTER, KEYS_RETRY_SECONDS.into())],
            _ => Vec::new(),
        };
        let mistake = |pointer, detail| Mistake { pointer, detail };
        let errors = match refused {
            Refused::Field { name, expected } => {
                vec![mistake(format!("/{name}"), format!("expected {expected}"))]
            }
            // As mistakes that are found in a query are told: it has no pointers.
            Refused::Parameter { name, expected } => {
                vec![mistake(name.to_owned(), format!("expected {expected}"))]
            }
            Refused::Settings(mistakes) => {
                let wrong = mistakes.into_iter();
                wrong.map(|wrong| mistake(harmless(&wrong.pointer), wrong.expected)).collect()
            }
            _ => Vec::new(),
        };
        let text = match code {
            Code::InvalidSettings => told(&errors),
            _ => text,
        };
        Problem { errors, headers, ..Problem::of(row(code), Name::Service(code), text) }
    }
}

/// A pointer up to a name that may be something else than a name: a PIN or a PAN.
fn harmless(pointer: &str) -> String {
    let is_name = |part: &&str| {
        part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            && part.bytes().filter(u8::is_ascii_digit).count() < 4
    };
    let parts = pointer.split('/').skip(1).take_while(is_name);
    parts.map(|part| format!("/{part}")).collect()
}

/// Mistakes in one text.
fn told(mistakes: &[Mistake]) -> String {
    let text = |Mistake { pointer, detail }: &Mistake| match pointer.is_empty() {
        true => detail.clone(),
        false => format!("{pointer}: {detail}"),
    };
    mistakes.iter().map(text).collect::<Vec<_>>().join("; ")
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Problem { status, number, code, detail, errors, headers } = self;
        let body = Body {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or("refused"),
            status: status.as_u16(),
            detail: &detail,
            code: &code,
            error_code: format!("{}{number:03}", status.as_u16()),
            error_message: &detail,
            errors: &errors,
        };
        let mut response = (status, Json(body)).into_response();
        let kind = HeaderValue::from_static(MEDIA_TYPE);
        response.headers_mut().insert(CONTENT_TYPE, kind);
        for (name, value) in headers {
            response.headers_mut().append(name, value);
        }
        response
    }
}
