//! What this node registers.
use portolan_core::evidence::ContainerReport;
/// What this node registers.
#[derive(Debug, Clone, Default)]
pub struct LocalState {
    /// What this node registers.
    pub reports: Vec<ContainerReport>,
}
