//! What an error of the client library means for the tier.

use redis::{ErrorKind, RedisError};

use crate::l2::L2Error;

/// Tells the kinds of failure apart. Several of the server's refusals have no kind of their own in the client library,
/// only a code.
pub(super) fn classify(error: &RedisError) -> L2Error {
    if error.kind() == ErrorKind::AuthenticationFailed {
        return refused("WRONGPASS", error.detail().unwrap_or("the server did not accept the credentials"));
    }
    match error.code() {
        Some(code) => refused(code, error.detail().unwrap_or_default()),
        None => L2Error::Connection(match error.kind() {
            ErrorKind::Parse => "the answer could not be read".to_owned(),
            ErrorKind::Io => error.to_string().to_lowercase(),
            _ => error.category().to_owned(),
        }),
    }
}

/// What an error among the answers of the server means.
pub(super) fn of_server(text: &str) -> L2Error {
    let (code, detail) = text.split_once(' ').unwrap_or((text, ""));
    refused(code, detail)
}

/// Whether the connection must not be used again: everything that did not arrive as an answer.
pub(super) fn breaks(error: &RedisError) -> bool {
    !matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension)
}

/// An answer of a shape the command does not have.
pub(super) fn unexpected() -> L2Error {
    L2Error::Connection("the answer does not fit the command".to_owned())
}

/// The server repeats the arguments of a command it does not know; those are left out.
fn refused(code: &str, detail: &str) -> L2Error {
    if code == "WRONGTYPE" {
        return L2Error::WrongType;
    }
    // A script is told so without the code.
    let code = if code == "ERR" && detail.contains("user executing the script can't") { "NOPERM" } else { code };
    let detail = detail.split(", with args").next().unwrap_or_default().trim();
    L2Error::Refused { code: code.to_owned(), detail: detail.to_owned() }
}
