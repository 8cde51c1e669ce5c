//! What a refused or failed call means for the source: slow down, ask a person, look elsewhere, or try again.

use std::error::Error;
use std::time::Duration;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_ecs::config::http::HttpResponse;
use aws_sdk_ecs::error::{ProvideErrorMetadata, SdkError};
use portolan_core::refusal::shown;

use crate::ecs::api::CallError;

/// The most characters of AWS's own words that are shown: its longest refusals name a role, an action and a resource.
const MESSAGE_CHARACTERS_MAX: usize = 400;

/// The IAM action that a call needs, such as `ecs:ListTasks`. Every refusal names it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Action(pub(super) &'static str);

impl Action {
    /// `said`, or that the answer lacks `field`.
    pub(super) fn present<T>(self, field: &str, said: Option<T>) -> Result<T, CallError> {
        said.ok_or_else(|| self.failed(&format!("the answer has no usable `{field}`")))
    }

    /// A failure that is no refusal.
    pub(super) fn failed(self, message: &str) -> CallError {
        CallError::Failed { action: self.0, message: shown(message, MESSAGE_CHARACTERS_MAX) }
    }

    /// What `error` means.
    pub(super) fn refused<E>(self, error: &SdkError<E, HttpResponse>) -> CallError
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let response = error.raw_response();
        let status = response.map_or(0, |response| response.status().as_u16());
        let retry_after = response.and_then(retry_after);
        let code = error.code().unwrap_or_default();
        let message = shown(&words(error, status), MESSAGE_CHARACTERS_MAX);
        let action = self.0;
        if is_throttled(code) || status == 429 || (status == 503 && retry_after.is_some()) {
            CallError::Throttled { action, retry_after }
        } else if is_denied(code) || matches!(status, 401 | 403) || has_no_credentials(error) {
            CallError::Denied { action, message }
        } else if is_not_found(code, error.message().unwrap_or_default()) {
            CallError::NotFound { action, message }
        } else {
            CallError::Failed { action, message }
        }
    }
}

/// `Retry-After` in seconds. Its other form, a date, is not read: AWS does not send it.
fn retry_after(response: &HttpResponse) -> Option<Duration> {
    let seconds = response.headers().get("retry-after")?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

fn is_throttled(code: &str) -> bool {
    let code = code.strip_suffix("Exception").unwrap_or(code);
    matches!(
        code,
        "Throttling"
            | "Throttled"
            | "ThrottledRequest"
            | "RequestThrottled"
            | "RequestLimitExceeded"
            | "TooManyRequests"
            | "SlowDown"
            | "BandwidthLimitExceeded"
            | "EC2Throttled"
            | "KmsThrottled"
    )
}

/// A missing right, or credentials that are wrong, old, or of an account that does not take part.
fn is_denied(code: &str) -> bool {
    let code = code.strip_suffix("Exception").unwrap_or(code);
    code.contains("AccessDenied")
        || matches!(
            code,
            "UnauthorizedOperation"
                | "NotAuthorized"
                | "UnrecognizedClient"
                | "InvalidClientTokenId"
                | "InvalidAccessKeyId"
                | "MissingAuthenticationToken"
                | "ExpiredToken"
                | "RequestExpired"
                | "IncompleteSignature"
                | "InvalidSignature"
                | "SignatureDoesNotMatch"
                | "AuthFailure"
                | "OptInRequired"
        )
}

/// ECS calls much of what is missing an invalid parameter, and so it calls a page token that is too old: its words decide.
fn is_not_found(code: &str, message: &str) -> bool {
    let code = code.strip_suffix("Exception").unwrap_or(code);
    match code {
        "ClusterNotFound"
        | "ServiceNotFound"
        | "ResourceNotFound"
        | "QueueDoesNotExist"
        | "AWS.SimpleQueueService.NonExistentQueue" => true,
        "InvalidParameter" | "Client" => {
            let message = message.to_ascii_lowercase();
            ["not found", "does not exist", "unable to describe task definition"].iter().any(|it| message.contains(it))
        }
        _ => false,
    }
}

/// Whether the chain of credentials came to its end without any, or is set up wrongly.
fn has_no_credentials(error: &(dyn Error + 'static)) -> bool {
    chain(error).filter_map(|cause| cause.downcast_ref::<CredentialsError>()).any(|cause| {
        matches!(cause, CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_))
    })
}

/// AWS's own code and message; without them, what went wrong on the way. The SDK's outermost words ("dispatch failure")
/// say less than any cause.
fn words<E>(error: &SdkError<E, HttpResponse>, status: u16) -> String
where
    E: ProvideErrorMetadata + Error + 'static,
{
    match (error.code(), error.message()) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(code), None) => code.to_owned(),
        (None, _) => {
            let mut said: Vec<String> = chain(error).map(ToString::to_string).collect();
            said.retain(|words| words != "other");
            said.dedup();
            let causes = if said.len() > 1 { &said[1..] } else { &said };
            let status = if status == 0 { String::new() } else { format!("HTTP {status}: ") };
            status + &causes.join(": ")
        }
    }
}

/// `error` and its causes.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&cause| cause.source())
}
