//! What operators do, with the real command and the real programs: drain, evict, declare, wait; and what comes of a slip of
//! the pen.

#[path = "operators/declarations.rs"]
mod declarations;
#[path = "operators/drains.rs"]
mod drains;
#[path = "operators/evictions.rs"]
mod evictions;
#[path = "operators/found.rs"]
mod found;
#[path = "operators/scene.rs"]
mod scene;
#[path = "operators/slips.rs"]
mod slips;
#[path = "operators/switches.rs"]
mod switches;
#[path = "operators/waits.rs"]
mod waits;
