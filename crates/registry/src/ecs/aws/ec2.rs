//! EC2's DescribeInstances by hand, over the SDK's own road of signing, credentials and timeouts.
//!
//! The SDK's EC2 client would be the largest dependency by far, for one call: `docs/decisions/0008`.

use aws_config::{BehaviorVersion, SdkConfig};
use aws_runtime::auth::SigV4OperationSigningConfig;
use aws_runtime::auth::sigv4::{SCHEME_ID, SigV4AuthScheme};
use aws_sdk_ecs::config::endpoint::{DefaultResolver, Params, ResolveEndpoint};
use aws_sdk_ecs::config::http::{HttpRequest, HttpResponse};
use aws_sdk_ecs::error::{BoxError, ErrorMetadata};
use aws_smithy_runtime::client::orchestrator::operation::Operation;
use aws_smithy_runtime_api::client::auth::static_resolver::StaticAuthSchemeOptionResolver;
use aws_smithy_runtime_api::client::auth::{
    AuthSchemeOptionResolverParams, SharedAuthScheme, SharedAuthSchemeOptionResolver,
};
use aws_smithy_runtime_api::client::identity::SharedIdentityResolver;
use aws_smithy_runtime_api::client::orchestrator::OrchestratorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponentsBuilder;
use aws_smithy_runtime_api::client::runtime_plugin::StaticRuntimePlugin;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::config_bag::Layer;
use aws_types::SigningName;
use aws_types::region::SigningRegion;
use aws_types::service_config::ServiceConfigKey;
use quick_xml::de::from_str;
use serde::Deserialize;

use super::connect::BoundedAnswer;
use crate::ecs::api::Ec2Instance;

/// The API's version; EC2's only one since 2016.
const VERSION: &str = "2016-11-15";

/// The call, with ids in and instances out.
pub(super) type DescribeInstances = Operation<Vec<String>, Vec<Ec2Instance>, ErrorMetadata>;

/// The ids that EC2 could know. Others would spoil the request: it is written without escapes, and `*` in it means all.
pub(super) fn known_by_their_form(mut ids: Vec<String>) -> Vec<String> {
    ids.retain(|id| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'));
    ids
}

/// The call, ready to be made again and again.
pub(super) async fn operation(config: &SdkConfig, endpoint_is_asked: bool) -> Result<DescribeInstances, String> {
    let missing = |what: &str| format!("the AWS settings have no {what}");
    let url = endpoint(config, endpoint_is_asked).await?;
    let http = config.http_client().ok_or_else(|| missing("HTTP client"))?;
    let timeouts = config.timeout_config().cloned().ok_or_else(|| missing("timeouts"))?;
    let operation = Operation::builder()
        .service_name("EC2")
        .operation_name("DescribeInstances")
        .behavior_version(BehaviorVersion::latest())
        .http_client(http)
        .endpoint_url(&url)
        .no_retry()
        .timeout_config(timeouts)
        .with_connection_poisoning()
        .interceptor(BoundedAnswer)
        .runtime_plugin(signed(config)?)
        .serializer(request)
        .deserializer(answer);
    Ok(operation.build())
}

/// Where EC2 is. Its host differs from that of ECS in the first label alone, in every partition, except that there is no
/// `ec2-fips` in GovCloud: there the plain one is. That way the SDK's own table of partitions serves both.
async fn endpoint(config: &SdkConfig, is_asked: bool) -> Result<String, String> {
    let key = ServiceConfigKey::builder().service_id("EC2").env("AWS_ENDPOINT_URL").profile("endpoint_url").build();
    let own = || config.service_config()?.load_config(key.ok()?);
    let set = config.endpoint_url().map(str::to_owned);
    let set = if is_asked { set } else { own().or(set) };
    if let Some(url) = set {
        return Ok(url);
    }
    let params = Params::builder()
        .set_region(config.region().map(ToString::to_string))
        .set_use_fips(config.use_fips())
        .set_use_dual_stack(config.use_dual_stack())
        .build();
    let params = params.map_err(|error| error.to_string())?;
    let resolver = DefaultResolver::new();
    let ecs = resolver.resolve_endpoint(&params).await.map_err(|error| error.to_string())?;
    Ok(beside(ecs.url()))
}

pub(super) fn beside(ecs: &str) -> String {
    let ec2 = ecs.replacen("://ecs", "://ec2", 1);
    if ec2.starts_with("https://ec2-fips.us-gov-") && ec2.ends_with(".amazonaws.com") {
        return ec2.replacen("ec2-fips", "ec2", 1);
    }
    ec2
}

/// How the request is signed, and with whose credentials.
fn signed(config: &SdkConfig) -> Result<StaticRuntimePlugin, String> {
    let region = config.region().cloned().ok_or("no region")?;
    let credentials = config.credentials_provider().ok_or("no way to credentials")?;
    let mut layer = Layer::new("EC2");
    layer.store_put(SigningName::from_static("ec2"));
    layer.store_put(SigningRegion::from(region));
    layer.store_put(SigV4OperationSigningConfig::default());
    layer.store_put(AuthSchemeOptionResolverParams::new(()));
    let options = StaticAuthSchemeOptionResolver::new(vec![SCHEME_ID]);
    let components = RuntimeComponentsBuilder::new("EC2")
        .with_auth_scheme_option_resolver(Some(SharedAuthSchemeOptionResolver::new(options)))
        .with_auth_scheme(SharedAuthScheme::new(SigV4AuthScheme::new()))
        .with_identity_cache(config.identity_cache())
        .with_identity_resolver(SCHEME_ID, SharedIdentityResolver::new(credentials))
        .with_sleep_impl(config.sleep_impl())
        .with_time_source(config.time_source());
    Ok(StaticRuntimePlugin::new().with_config(layer.freeze()).with_runtime_components(components))
}

/// A filter, not a list of ids: for one unknown id in a list, EC2 refuses the whole call.
fn request(ids: Vec<String>) -> Result<HttpRequest, BoxError> {
    let mut body = format!("Action=DescribeInstances&Version={VERSION}&Filter.1.Name=instance-id");
    for (place, id) in ids.iter().enumerate() {
        body += &format!("&Filter.1.Value.{}={id}", place + 1);
    }
    let mut request = HttpRequest::new(SdkBody::from(body));
    request.set_method("POST")?;
    request.set_uri("/")?;
    request.headers_mut().insert("content-type", "application/x-www-form-urlencoded");
    request.headers_mut().insert("user-agent", "app/portolan");
    Ok(request)
}

fn answer(response: &HttpResponse) -> Result<Vec<Ec2Instance>, OrchestratorError<ErrorMetadata>> {
    let body = response.body().bytes().unwrap_or_default();
    let text = std::str::from_utf8(body).map_err(OrchestratorError::other)?;
    if !response.status().is_success() {
        return Err(match from_str::<Refused>(text) {
            Ok(refused) => OrchestratorError::operation(refused.metadata()),
            Err(error) => OrchestratorError::other(error),
        });
    }
    let answer: Described = from_str(text).map_err(OrchestratorError::other)?;
    if answer.next_token.is_some_and(|token| !token.is_empty()) {
        return Err(OrchestratorError::other("the answer has more pages, though none was asked for"));
    }
    let reservations = answer.reservation_set.item.into_iter();
    Ok(reservations.flat_map(|it| it.instances_set.item).filter_map(Instance::stated).collect())
}

/// EC2's lists: `<xSet><item>...</item>...</xSet>`.
#[derive(Debug, Deserialize)]
struct Set<T> {
    #[serde(default = "Vec::new")]
    item: Vec<T>,
}

impl<T> Default for Set<T> {
    fn default() -> Self {
        Set { item: Vec::new() }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Described {
    reservation_set: Set<Reservation>,
    next_token: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reservation {
    #[serde(default)]
    instances_set: Set<Instance>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Instance {
    instance_id: Option<String>,
    #[serde(default)]
    instance_state: State,
    private_ip_address: Option<String>,
    #[serde(default)]
    placement: Placement,
    #[serde(default)]
    network_interface_set: Set<Interface>,
}

#[derive(Debug, Default, Deserialize)]
struct State {
    #[serde(default)]
    name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Placement {
    availability_zone: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Interface {
    private_ip_address: Option<String>,
    #[serde(default)]
    private_ip_addresses_set: Set<PrivateAddress>,
    #[serde(default)]
    ipv6_addresses_set: Set<Ipv6Address>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PrivateAddress {
    private_ip_address: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ipv6Address {
    ipv6_address: Option<String>,
}

impl Instance {
    fn stated(self) -> Option<Ec2Instance> {
        let (mut addresses, mut ipv6) = (Vec::from_iter(self.private_ip_address), Vec::new());
        for interface in self.network_interface_set.item {
            addresses.extend(interface.private_ip_address);
            addresses
                .extend(interface.private_ip_addresses_set.item.into_iter().filter_map(|it| it.private_ip_address));
            ipv6.extend(interface.ipv6_addresses_set.item.into_iter().filter_map(|it| it.ipv6_address));
        }
        let mut distinct: Vec<String> = Vec::new();
        for address in addresses.into_iter().chain(ipv6).filter(|address| !address.is_empty()) {
            if !distinct.contains(&address) {
                distinct.push(address);
            }
        }
        Some(Ec2Instance {
            instance_id: self.instance_id?,
            state: self.instance_state.name,
            addresses: distinct,
            availability_zone: self.placement.availability_zone.filter(|zone| !zone.is_empty()),
        })
    }
}

/// `<Response><Errors><Error><Code>...`
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Refused {
    errors: Errors,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Errors {
    error: Vec<Reason>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Reason {
    code: String,
    #[serde(default)]
    message: String,
}

impl Refused {
    fn metadata(self) -> ErrorMetadata {
        let builder = ErrorMetadata::builder();
        match self.errors.error.into_iter().next() {
            Some(first) => builder.code(first.code).message(first.message).build(),
            None => builder.build(),
        }
    }
}
