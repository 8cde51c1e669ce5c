//! What a DNS name means within the zone (DESIGN section 3), before anything is looked up.
