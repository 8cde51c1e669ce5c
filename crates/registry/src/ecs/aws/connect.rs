//! Makes the SDK's clients: one road of HTTP, one store of credentials, no retries, and a bound on time and size.

use std::mem;
use std::time::Duration;

use aws_config::identity::IdentityCache;
use aws_config::retry::RetryConfig;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{AppName, BehaviorVersion, Region, SdkConfig};
use aws_sdk_ecs::config::interceptors::BeforeDeserializationInterceptorContextMut;
use aws_sdk_ecs::config::{ConfigBag, Intercept, RuntimeComponents, SharedCredentialsProvider, SharedHttpClient};
use aws_sdk_ecs::error::BoxError;
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_types::body::SdkBody;
use http_body_util::Limited;

use super::ec2::{self, DescribeInstances};

/// The longest answer that is read. A page of 100 tasks with ten containers each is about 1 MiB.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// The most idle connections that are kept to one service: the source asks one thing at a time, or nearly so.
const IDLE_MAX: usize = 4;

/// What a person asked for.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// Else the one of the environment, the profile, the instance.
    pub(super) region: Option<String>,
    /// Else every service's own.
    pub(super) endpoint: Option<String>,
    /// Else those that the standard chain finds. Tests set them.
    pub(super) credentials: Option<SharedCredentialsProvider>,
    /// How long is waited.
    pub(super) timeouts: Timeouts,
}

/// How long is waited.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timeouts {
    /// For a connection.
    pub(super) connect: Duration,
    /// For a whole call, credentials included.
    pub(super) call: Duration,
    /// For a ReceiveMessage, which SQS holds back for 20 s.
    pub(super) receive: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Timeouts { connect: seconds(3), call: seconds(10), receive: seconds(30) }
    }
}

/// One client for each service.
#[derive(Debug)]
pub(super) struct Clients {
    pub(super) ecs: aws_sdk_ecs::Client,
    pub(super) sqs: aws_sdk_sqs::Client,
    pub(super) ec2: DescribeInstances,
}

/// The clients, or why there are none yet. Without a stated region it may ask the instance's metadata service.
pub(super) async fn connect(asked: &Asked) -> Result<Clients, String> {
    let config = config(asked).await;
    if config.region().is_none() {
        return Err("no region: set `aws.region`, or AWS_REGION".to_owned());
    }
    let ecs = aws_sdk_ecs::config::Builder::from(&config).interceptor(BoundedAnswer).build();
    let sqs = aws_sdk_sqs::config::Builder::from(&config).interceptor(BoundedAnswer).build();
    Ok(Clients {
        ecs: aws_sdk_ecs::Client::from_conf(ecs),
        sqs: aws_sdk_sqs::Client::from_conf(sqs),
        ec2: ec2::operation(&config, asked.endpoint.is_some()).await?,
    })
}

/// What differs for a call that the server holds back.
pub(super) fn patient(timeouts: &Timeouts) -> aws_sdk_sqs::config::Builder {
    aws_sdk_sqs::config::Builder::new().timeout_config(bounded(timeouts.connect, timeouts.receive))
}

async fn config(asked: &Asked) -> SdkConfig {
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http(asked.endpoint.as_deref()))
        .identity_cache(IdentityCache::lazy().build())
        .retry_config(RetryConfig::disabled())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .timeout_config(bounded(asked.timeouts.connect, asked.timeouts.call));
    if let Ok(name) = AppName::new("portolan") {
        loader = loader.app_name(name);
    }
    if let Some(region) = &asked.region {
        loader = loader.region(Region::new(region.clone()));
    }
    if let Some(endpoint) = &asked.endpoint {
        loader = loader.endpoint_url(endpoint.clone());
    }
    if let Some(credentials) = &asked.credentials {
        loader = loader.credentials_provider(credentials.clone());
    }
    loader.load().await
}

/// HTTPS, trusting what this machine trusts. An endpoint without TLS is a double's, and runs where there may be nothing to
/// trust: nothing else is asked then.
fn http(endpoint: Option<&str>) -> SharedHttpClient {
    let builder = Builder::new().pool_max_idle_per_host(IDLE_MAX);
    if endpoint.is_some_and(|endpoint| endpoint.starts_with("http://")) {
        return builder.build_http();
    }
    builder.tls_provider(Provider::rustls(CryptoMode::Ring)).build_https()
}

fn bounded(connect: Duration, call: Duration) -> TimeoutConfig {
    TimeoutConfig::builder().connect_timeout(connect).operation_timeout(call).build()
}

/// Fails a call whose answer is longer than [`ANSWER_BYTES_MAX`]: the SDK itself would read on.
#[derive(Debug)]
pub(super) struct BoundedAnswer;

impl Intercept for BoundedAnswer {
    fn name(&self) -> &'static str {
        "BoundedAnswer"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let body = context.response_mut().body_mut();
        let whole = mem::replace(body, SdkBody::taken());
        *body = SdkBody::from_body_1_x(Limited::new(whole, ANSWER_BYTES_MAX));
        Ok(())
    }
}
