//! The surface over catalogs made by hand.
