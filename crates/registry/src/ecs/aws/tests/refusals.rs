//! What is refused, broken, late, too long, or not there at all.

use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, future};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::*;

const ACTION: &str = "ecs:ListTasks";

async fn ask(sdk: &Sdk) -> Result<Page, CallError> {
    sdk.list_tasks("prod".into(), Desired::Running, None).await
}

async fn check(reply: Reply, expected: CallError) {
    let (server, sdk) = setup(vec![reply]).await;
    assert_eq!(ask(&sdk).await, Err(expected));
    assert_eq!(server.asked().len(), 1, "a refused call is not made again");
}

fn refused(kind: &str, message: &str) -> Value {
    json!({"__type": kind, "message": message})
}

#[tokio::test]
async fn throttling_says_how_long_to_wait() {
    let throttled =
        |seconds: Option<u64>| CallError::Throttled { action: ACTION, retry_after: seconds.map(Duration::from_secs) };
    let rate = refused("ThrottlingException", "Rate exceeded");
    let html = "<html>Too many</html>";
    let rows = [
        (Reply::json(400, &rate), None),
        (Reply::json(400, &rate).with("Retry-After", "7"), Some(7)),
        (Reply::json(400, &rate).with("Retry-After", "Sat, 21 Nov 2026 13:48:55 GMT"), None),
        (Reply::json(400, &refused("com.amazon.coral#TooManyRequestsException", "m")), None),
        (Reply::json(400, &refused("RequestLimitExceeded", "m")), None),
        (Reply::json(503, &refused("SlowDown", "m")), None),
        (Reply::text(429, html).with("Retry-After", "2"), Some(2)),
        (Reply::text(503, html).with("Retry-After", "3"), Some(3)),
    ];
    for (reply, seconds) in rows {
        check(reply, throttled(seconds)).await;
    }
}

#[tokio::test]
async fn a_denial_names_the_right_and_is_safe_to_show() {
    let denied = |message: &str| CallError::Denied { action: ACTION, message: message.to_owned() };
    let kind = json!({"Message": "User: a is not authorized\u{1b}[2J"});
    let coral = "AccessDeniedException:http://internal.amazon.com/coral/com.amazon.coral.service/";
    let reply = Reply::json(400, &kind).with("x-amzn-errortype", coral);
    check(reply, denied("AccessDeniedException: User: a is not authorized\\u{1b}[2J")).await;
    for code in ["UnrecognizedClientException", "ExpiredTokenException", "InvalidSignatureException"] {
        check(Reply::json(400, &refused(code, "m")), denied(&format!("{code}: m"))).await;
    }
    let long = "x".repeat(5000);
    let (_server, sdk) = setup(vec![Reply::json(400, &refused("AccessDeniedException", &long))]).await;
    let Err(CallError::Denied { message, .. }) = ask(&sdk).await else { panic!("not denied") };
    assert_eq!(message.chars().count(), 401);
}

#[tokio::test]
async fn what_is_missing_is_told_from_what_is_wrong() {
    let not_found = |message: &str| CallError::NotFound { action: ACTION, message: message.to_owned() };
    let failed = |message: &str| CallError::Failed { action: ACTION, message: message.to_owned() };
    let rows = [
        ("ClusterNotFoundException", "Cluster not found.", true),
        ("InvalidParameterException", "The referenced cluster was not found.", true),
        ("ClientException", "Unable to describe task definition.", true),
        ("InvalidParameterException", "Invalid token.", false),
        ("ClientException", "Too long.", false),
        ("ServerException", "Service Unavailable. Please try again later.", false),
    ];
    for (code, message, is_missing) in rows {
        let said = format!("{code}: {message}");
        let expected = if is_missing { not_found(&said) } else { failed(&said) };
        check(Reply::json(400, &refused(code, message)), expected).await;
    }
}

#[tokio::test]
async fn an_answer_that_is_not_whole_is_no_empty_list() {
    let page = json!({"taskArns": ["arn:1"]});
    let replies = [
        Reply::json(200, &page).cut(),
        Reply::json(200, &json!({})),
        Reply::json(200, &json!({"taskArns": null})),
        Reply::json(200, &json!({"taskArns": "arn:1"})),
        Reply::text(200, ""),
        Reply::text(200, "{\"taskArns\": [\"arn:1\""),
        Reply::text(200, "<html>Welcome to the hotel</html>"),
        Reply::text(200, "[]"),
        Reply::text(500, ""),
        Reply::text(500, "<html>\u{1b}</html>"),
        Reply::text(302, "").with("Location", "http://127.0.0.1:1/"),
        Reply::text(200, format!("{{\"taskArns\": [\"{}\"]}}", "x".repeat(17 << 20))),
    ];
    for reply in replies {
        let (server, sdk) = setup(vec![reply]).await;
        let answer = ask(&sdk).await;
        assert!(matches!(answer, Err(CallError::Failed { action: ACTION, .. })), "{answer:?}");
        assert_eq!(server.asked().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn silence_ends_a_call_in_time() {
    let (_server, sdk) = setup(vec![Reply::silence()]).await;
    let began = Instant::now();
    let Err(CallError::Failed { message, .. }) = ask(&sdk).await else { panic!("not failed") };
    assert!(message.starts_with("operation timeout"), "{message}");
    assert_eq!(began.elapsed().as_secs(), 10);
    assert!(matches!(sdk.describe_instances(strings(&["i-0a"])).await, Err(CallError::Failed { .. })));
    assert_eq!(began.elapsed().as_secs(), 20);
    assert!(matches!(sdk.receive_messages("q".into()).await, Err(CallError::Failed { .. })));
    assert_eq!(began.elapsed().as_secs(), 50, "a ReceiveMessage is given longer");
}

#[tokio::test]
async fn a_closed_port_and_no_url_are_failures() {
    let (server, mut sdk) = setup(vec![Reply::silence()]).await;
    for endpoint in ["http://127.0.0.1:1".to_owned(), "not a url".to_owned(), format!("https://{}", server.addr)] {
        sdk = Sdk::new(Asked { endpoint: Some(endpoint), ..sdk.asked });
        sdk.asked.timeouts.call = Duration::from_millis(500);
        assert!(matches!(ask(&sdk).await, Err(CallError::Failed { .. })));
        let answer = sdk.describe_instances(strings(&["i-0a"])).await;
        assert!(matches!(answer, Err(CallError::Failed { .. })), "{answer:?}");
    }
}

/// A chain of credentials that came to its end.
#[derive(Debug)]
struct Nobody;

impl ProvideCredentials for Nobody {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::ready(Err(CredentialsError::not_loaded("nobody gave any")))
    }
}

#[tokio::test]
async fn no_credentials_are_a_denial_and_nothing_is_sent() {
    let (server, mut sdk) = setup(vec![Reply::silence()]).await;
    sdk.asked.credentials = Some(SharedCredentialsProvider::new(Nobody));
    let answers = [
        ask(&sdk).await.err(),
        sdk.describe_instances(strings(&["i-0a"])).await.err(),
        sdk.receive_messages("q".into()).await.err(),
    ];
    for answer in answers {
        let Some(CallError::Denied { message, .. }) = answer else { panic!("{answer:?}") };
        assert!(message.contains("nobody gave any"), "{message}");
    }
    assert_eq!(server.asked().len(), 0);
}
