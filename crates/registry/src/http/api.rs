//! The answers of `/api`, as JSON: what the registry sends and the `portolan` command reads.
//!
//! Times are RFC 3339 in UTC with milliseconds. Names are as DNS has them. Texts that come from labels are as the
//! sidecars' parsers left them: bounded, not harmless; whoever shows them escapes them.

mod events;
mod explain;
mod external;
mod nodes;
mod orders;
mod service;
mod status;

pub use events::{Change, EventList, Reset};
pub use explain::{Candidate, Ended, Explanation, RefusedInput, StoppedContainer, StoppedTask, Testimony};
pub use external::{
    External, ExternalCheck, ExternalDeclaration, ExternalEndpoint, ExternalList, ExternalPlace, ExternalSummary,
};
pub use nodes::{Node, NodeEndpoint, NodeList, NodeSummary};
pub use orders::{Order, OrderList, OrderReason};
pub use portolan_dns::resolution::{AnsweredBy, Resolution, ServiceRecord};
pub use service::{
    EcsDeployment, EcsService, Endpoint, EndpointId, Link, LinkPort, Service, ServiceList, ServiceSummary, StateCounts,
};
pub use status::{AwsCluster, AwsDenied, AwsError, AwsQueue, AwsStatus, HeldCounts, ParkedMessage, Status};
