//! An answer on the wire, and errors in the words and forms of each service.

use std::time::Duration;

use hyper::Response;
use hyper::body::Bytes;
use serde_json::{Value, json};

use super::body::Body;
use super::request::Service;
use crate::double::actions::{Refusal, Verdict};

/// An answer that is ready.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) fate: Fate,
    status: u16,
    content_type: &'static str,
    headers: Vec<(&'static str, String)>,
    body: String,
    spread: Duration,
    is_cut: bool,
}

/// What becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is sent after a while.
    After(Duration),
    /// The connection is closed instead.
    Close,
    /// Nothing is sent.
    Never,
}

/// An error as one service words it.
struct Worded {
    status: u16,
    code: String,
    message: String,
}

impl Reply {
    fn new(status: u16, content_type: &'static str, body: String) -> Self {
        let fate = Fate::After(Duration::ZERO);
        Reply { fate, status, content_type, headers: Vec::new(), body, spread: Duration::ZERO, is_cut: false }
    }

    pub(super) fn text(status: u16, body: &str) -> Self {
        Reply::new(status, "text/plain", body.to_owned())
    }

    /// What a verdict is on the wire; `body` writes an answer down.
    pub(super) fn of<T>(service: Service, verdict: Verdict<T>, body: impl FnOnce(T) -> String) -> Self {
        let mut reply = match verdict.result {
            Ok(answer) => Reply::new(200, content_type(service), body(answer)),
            Err(refusal) => Reply::refusal(service, &refusal),
        };
        if reply.fate == Fate::After(Duration::ZERO) {
            reply.fate = Fate::After(verdict.delay);
        }
        (reply.spread, reply.is_cut) = (verdict.spread, verdict.is_cut);
        reply
    }

    /// As [`Reply::of`], for JSON.
    pub(super) fn json(service: Service, verdict: Verdict<Value>) -> Self {
        Reply::of(service, verdict, |value| value.to_string())
    }

    /// The request is not signed as it must be.
    pub(super) fn unsigned(service: Service, message: &str) -> Self {
        let code = match service {
            Service::Ec2 => "AuthFailure",
            Service::Ecs | Service::Sqs | Service::Sts | Service::Unknown => "MissingAuthenticationTokenException",
        };
        Reply::error(service, Worded { status: 403, code: code.to_owned(), message: message.to_owned() })
    }

    /// The double does not know the operation.
    pub(super) fn unknown(service: Service, operation: &str) -> Self {
        let message = format!("the double does not know {operation}");
        Reply::error(service, Worded { status: 400, code: "UnknownOperationException".to_owned(), message })
    }

    fn refusal(service: Service, refusal: &Refusal) -> Self {
        match refusal {
            Refusal::Unreachable => Reply { fate: Fate::Close, ..Reply::text(500, "") },
            Refusal::Silent => Reply { fate: Fate::Never, ..Reply::text(500, "") },
            refusal => Reply::error(service, worded(service, refusal)),
        }
    }

    fn error(service: Service, error: Worded) -> Self {
        let Worded { status, code, message } = error;
        let request_id = "00000000-0000-4000-8000-000000000000";
        match service {
            Service::Ecs | Service::Sqs | Service::Unknown => {
                let name = if code == "AccessDeniedException" { "Message" } else { "message" };
                let is_sqs = service == Service::Sqs;
                let kind = if is_sqs { format!("com.amazonaws.sqs#{code}") } else { code.clone() };
                let body = json!({"__type": kind, name: message});
                let mut reply = Reply::new(status, content_type(service), body.to_string());
                reply.headers.push(("x-amzn-errortype", code.clone()));
                if is_sqs {
                    // The names that SQS had before it spoke JSON, which clients still match.
                    let old = match code.as_str() {
                        "QueueDoesNotExist" => "AWS.SimpleQueueService.NonExistentQueue",
                        "AccessDeniedException" => "AccessDenied",
                        other => other,
                    };
                    reply.headers.push(("x-amzn-query-error", format!("{old};Sender")));
                }
                reply
            }
            Service::Ec2 => {
                let error = format!("<Error><Code>{code}</Code><Message>{}</Message></Error>", escaped(&message));
                let body = format!("<Response><Errors>{error}</Errors><RequestID>{request_id}</RequestID></Response>");
                Reply::new(status, content_type(service), body)
            }
            Service::Sts => {
                let error = format!("<Type>Sender</Type><Code>{code}</Code><Message>{}</Message>", escaped(&message));
                let namespace = "https://sts.amazonaws.com/doc/2011-06-15/";
                let body = format!(
                    "<ErrorResponse xmlns=\"{namespace}\"><Error>{error}</Error><RequestId>{request_id}</RequestId></ErrorResponse>"
                );
                Reply::new(status, content_type(service), body)
            }
        }
    }

    pub(super) fn into_response(self) -> Response<Body> {
        let mut response = Response::builder()
            .status(self.status)
            .header("content-type", self.content_type)
            .header("x-amzn-requestid", "00000000-0000-4000-8000-000000000000");
        for (name, value) in self.headers {
            response = response.header(name, value);
        }
        let body = Body::new(Bytes::from(self.body), self.spread, self.is_cut);
        response.body(body).expect("status and headers are our own")
    }
}

/// Each service has its own names for the same trouble.
fn worded(service: Service, refusal: &Refusal) -> Worded {
    let (status, code) = match (refusal, service) {
        (Refusal::Throttled, Service::Ec2) => (503, "RequestLimitExceeded"),
        (Refusal::Throttled, Service::Sts) => (400, "Throttling"),
        (Refusal::Throttled, Service::Sqs) => (400, "RequestThrottled"),
        (Refusal::Throttled, Service::Ecs | Service::Unknown) => (400, "ThrottlingException"),
        (Refusal::Denied(_), Service::Ec2) => (403, "UnauthorizedOperation"),
        (Refusal::Denied(_), Service::Sts) => (403, "AccessDenied"),
        (Refusal::Denied(_), Service::Sqs) => (403, "AccessDeniedException"),
        (Refusal::Denied(_), Service::Ecs | Service::Unknown) => (400, "AccessDeniedException"),
        (Refusal::Expired, Service::Ec2) => (400, "RequestExpired"),
        (Refusal::Expired, Service::Sts) => (403, "ExpiredToken"),
        (Refusal::Expired, Service::Ecs | Service::Sqs | Service::Unknown) => (400, "ExpiredTokenException"),
        (Refusal::NotFound { code, .. } | Refusal::Invalid { code, .. }, _) => (400, *code),
        (Refusal::Broken | Refusal::Unreachable | Refusal::Silent, Service::Ec2) => (500, "InternalError"),
        (Refusal::Broken | Refusal::Unreachable | Refusal::Silent, Service::Ecs | Service::Unknown) => {
            (500, "ServerException")
        }
        (Refusal::Broken | Refusal::Unreachable | Refusal::Silent, Service::Sqs | Service::Sts) => {
            (500, "InternalFailure")
        }
    };
    Worded { status, code: code.to_owned(), message: refusal.to_string() }
}

fn content_type(service: Service) -> &'static str {
    match service {
        Service::Ecs | Service::Unknown => "application/x-amz-json-1.1",
        Service::Sqs => "application/x-amz-json-1.0",
        Service::Ec2 | Service::Sts => "text/xml;charset=UTF-8",
    }
}

/// A text inside XML.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
