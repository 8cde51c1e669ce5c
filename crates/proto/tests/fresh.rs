//! The checked-in bindings are those that the .proto files give. `UPDATE=1 cargo test -p portolan-proto` renews them.

use std::path::Path;

#[test]
fn bindings_are_fresh() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = protox::compile(
        ["portolan/v1/registry.proto", "portolan/v1/snapshot.proto", "portolan/v1/node.proto"],
        [root.join("proto")],
    )
    .unwrap();
    let out = tempfile::tempdir().unwrap();
    tonic_prost_build::configure().bytes(".").out_dir(out.path()).compile_fds(files).unwrap();
    let made = std::fs::read_to_string(out.path().join("portolan.v1.rs")).unwrap();
    let kept = root.join("src/gen/portolan.v1.rs");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&kept, &made).unwrap();
    }
    assert!(std::fs::read_to_string(&kept).unwrap_or_default() == made, "src/gen is stale: UPDATE=1 renews it");
}
