//! Which endpoints a client gets, and in which order (DESIGN section 3).
