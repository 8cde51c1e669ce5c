//! A catalog that tests move forward by hand.

use portolan_core::view::Readiness;

use super::Catalog;
use super::builder::Builder;
use crate::store::{Store, Watch};
use crate::testing::{commits, range};

pub(crate) struct Stepper {
    builder: Builder,
    watch: Watch,
}

impl Stepper {
    pub(crate) async fn load(store: &dyn Store) -> Stepper {
        let mut builder = Builder::new(store.identity().clone(), range());
        let snapshot = store.load().await.unwrap();
        let watch = store.watch(snapshot.revision);
        builder.load(snapshot, Readiness::Current);
        Stepper { builder, watch }
    }

    /// Takes in what was committed; something must have been.
    pub(crate) async fn catch_up(&mut self) {
        for commit in commits(&mut self.watch).await {
            self.builder.apply(&commit);
        }
    }

    /// Loads everything again, as after a watch that was compacted.
    pub(crate) async fn reload(&mut self, store: &dyn Store) {
        let snapshot = store.load().await.unwrap();
        self.watch = store.watch(snapshot.revision);
        self.builder.load(snapshot, Readiness::Current);
    }

    pub(crate) fn catalog(&self) -> Catalog {
        self.builder.catalog()
    }
}
