//! A request, and which service it is for.

use http_body_util::{BodyExt, Limited};
use hyper::HeaderMap;
use hyper::body::Incoming;
use serde_json::Value;

use super::reply::Reply;

/// More than any call needs.
const BODY_BYTES_MAX: usize = 1 << 20;

/// Who is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Service {
    Ecs,
    Ec2,
    Sqs,
    Sts,
    Unknown,
}

impl Service {
    /// As signatures name it.
    fn scope(self) -> &'static str {
        match self {
            Service::Ecs => "ecs",
            Service::Ec2 => "ec2",
            Service::Sqs => "sqs",
            Service::Sts => "sts",
            Service::Unknown => "",
        }
    }
}

/// A whole request.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) service: Service,
    /// Such as `ListTasks`.
    pub(super) operation: String,
    /// Of ECS and SQS.
    pub(super) json: Value,
    /// Of EC2 and STS.
    pub(super) form: Vec<(String, String)>,
    scope: Option<String>,
}

impl Request {
    /// Reads it to its end; `None` when it does not come.
    pub(super) async fn read(request: hyper::Request<Incoming>) -> Option<Self> {
        let (head, body) = request.into_parts();
        let body = Limited::new(body, BODY_BYTES_MAX).collect().await.ok()?.to_bytes();
        let text = String::from_utf8_lossy(&body);
        let target = header(&head.headers, "x-amz-target");
        let scope = header(&head.headers, "authorization").as_deref().and_then(signed_for);
        let mut read =
            Request { service: Service::Unknown, operation: String::new(), json: Value::Null, form: Vec::new(), scope };
        if let Some((prefix, operation)) = target.as_deref().and_then(|target| target.split_once('.')) {
            read.service = match prefix {
                "AmazonEC2ContainerServiceV20141113" => Service::Ecs,
                "AmazonSQS" => Service::Sqs,
                _ => Service::Unknown,
            };
            operation.clone_into(&mut read.operation);
            read.json = serde_json::from_str(&text).unwrap_or(Value::Null);
        } else {
            read.form = form(&text);
            read.operation = read.field("Action").unwrap_or_default().to_owned();
            read.service = match read.field("Version") {
                Some("2016-11-15") => Service::Ec2,
                Some("2011-06-15") => Service::Sts,
                _ => Service::Unknown,
            };
        }
        Some(read)
    }

    /// Whether it is signed for its service.
    pub(super) fn check(&self) -> Result<(), Reply> {
        match &self.scope {
            _ if self.service == Service::Unknown => Ok(()),
            None => Err(Reply::unsigned(self.service, "Missing Authentication Token")),
            Some(scope) if scope != self.service.scope() => {
                let wanted = self.service.scope();
                let message = format!("Credential should be scoped to correct service: '{wanted}'.");
                Err(Reply::unsigned(self.service, &message))
            }
            Some(_) => Ok(()),
        }
    }

    /// One field of a form.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.form.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// The fields `PREFIX.1`, `PREFIX.2`, ...
    pub(super) fn fields(&self, prefix: &str) -> Vec<String> {
        let numbered = (1..).map_while(|number| self.field(&format!("{prefix}.{number}")));
        numbered.map(str::to_owned).collect()
    }

    /// A text of a JSON object; empty when it is not there.
    pub(super) fn text(&self, name: &str) -> &str {
        self.json[name].as_str().unwrap_or_default()
    }

    /// A text of a JSON object, if it is there.
    pub(super) fn maybe(&self, name: &str) -> Option<String> {
        self.json[name].as_str().map(str::to_owned)
    }

    /// A list of texts of a JSON object.
    pub(super) fn texts(&self, name: &str) -> Vec<String> {
        let values = self.json[name].as_array().into_iter().flatten();
        values.filter_map(|value| value.as_str().map(str::to_owned)).collect()
    }
}

fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_owned())
}

/// `AWS4-HMAC-SHA256 Credential=AKID/20260101/eu-central-1/ecs/aws4_request, ...`
fn signed_for(authorization: &str) -> Option<String> {
    let (_, scope) = authorization.split_once("Credential=")?;
    Some(scope.split(',').next()?.split('/').nth(3)?.to_owned())
}

fn form(text: &str) -> Vec<(String, String)> {
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (decoded(name), decoded(value))).collect()
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = tail.get(..2).filter(|_| *first == b'%');
        let escaped = escaped.and_then(|hex| u8::from_str_radix(str::from_utf8(hex).ok()?, 16).ok());
        match escaped {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(if *first == b'+' { b' ' } else { *first });
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_and_signatures_are_read() {
        let expected = [("Action", "DescribeInstances"), ("Filter.1.Name", "instance-id"), ("x", "a b%")];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(form("Action=DescribeInstances&Filter.1.Name=instance%2Did&x=a+b%"), expected);
        let signature = "AWS4-HMAC-SHA256 Credential=AKID/20260101/eu-central-1/ecs/aws4_request, SignedHeaders=host";
        assert_eq!((signed_for(signature).as_deref(), signed_for("Basic x")), (Some("ecs"), None));
    }
}
