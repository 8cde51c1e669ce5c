//! The rule table of DESIGN section 5: what the witnesses said, to the state of an endpoint.
