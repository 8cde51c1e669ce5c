//! The description of the surface, for programs that make clients of it.

use axum::http::header;
use axum::response::{IntoResponse, Response};
use utoipa::OpenApi;

use super::{api, events, external, names, nodes, orders, services, status, watch};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Portolan registry",
        description = "What runs where, what names answer, and why; what operators order and declare. Errors are problem documents (RFC 9457)."
    ),
    paths(
        services::list,
        services::one,
        names::resolve,
        names::explain,
        nodes::list,
        nodes::one,
        orders::list,
        orders::drain_node,
        orders::undrain_node,
        orders::drain_task,
        orders::undrain_task,
        orders::evict,
        orders::unevict,
        orders::unlink,
        orders::relink,
        external::list,
        external::one,
        external::put,
        external::delete,
        events::list,
        watch::stream,
        status::status
    ),
    components(schemas(api::Reset))
)]
struct Description;

/// The OpenAPI description, as `docs/openapi.json` holds it.
pub fn description() -> String {
    let mut text = Description::openapi().to_pretty_json().expect("our own description is JSON");
    text.push('\n');
    text
}

pub(super) async fn document() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], description()).into_response()
}
